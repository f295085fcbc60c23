//! Taking of a budget, and writing its status: decided on one version of it, and again if somebody else was faster.

use std::time::Duration;

use afloat_api::{BudgetStatus, Operation, PodUnavailableBudget};
use afloat_disruption::take::{Subject, Verdict, take};
use jiff::Timestamp;
use kube::{Client, Error, Resource as _};
use serde_json::{Value, json};

use super::scale::ask;
use crate::round::act::REQUEST_TIMEOUT;

/// Tries, and the pause between them: OpenKruise's.
const TRIES: u32 = 4;
const PAUSE: Duration = Duration::from_millis(50);

/// What became of a write.
pub(super) enum Wrote {
    /// It took effect.
    Done,
    /// The budget has changed meanwhile.
    Late,
    /// The budget is gone.
    Gone,
}

/// Path of a budget.
fn path(namespace: &str, name: &str) -> String {
    format!("{}/{name}", PodUnavailableBudget::url_path(&(), Some(namespace)))
}

/// A budget as the API server has it.
pub(super) async fn present(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<Option<PodUnavailableBudget>, String> {
    let found = ask(client, &path(namespace, name)).await?;
    found
        .map(serde_json::from_value)
        .transpose()
        .map_err(|error| error.to_string())
}

/// Writes the status that was decided on a budget.
pub(super) async fn write(
    client: &Client,
    budget: &PodUnavailableBudget,
    status: &BudgetStatus,
) -> Result<Wrote, String> {
    let meta = &budget.metadata;
    let (namespace, name) = (meta.namespace.as_deref().unwrap_or_default(), super::state::name(meta));
    let body = json!({
        "apiVersion": "policy.kruise.io/v1beta1", "kind": "PodUnavailableBudget",
        "metadata": {"namespace": namespace, "name": name, "uid": meta.uid, "resourceVersion": meta.resource_version},
        "spec": budget.spec, "status": status,
    });
    let request = http::Request::put(format!("{}/status", path(namespace, name)))
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(body.to_string().into_bytes())
        .map_err(|error| error.to_string())?;
    match tokio::time::timeout(REQUEST_TIMEOUT, client.request::<Value>(request)).await {
        Ok(Ok(_)) => Ok(Wrote::Done),
        Ok(Err(Error::Api(status))) if status.code == 409 => Ok(Wrote::Late),
        Ok(Err(Error::Api(status))) if status.code == 404 => Ok(Wrote::Gone),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {REQUEST_TIMEOUT:?}")),
    }
}

/// Takes of a budget for pods, all in one write. Gives for each pod whether it may go, and why not. A budget that is gone says nothing.
///
/// # Errors
/// If it cannot be known: somebody else was faster each time, or the API server does not answer.
pub(super) async fn claim(
    client: &Client,
    mut budget: PodUnavailableBudget,
    pods: &[(Subject<'_>, Operation)],
    dry_run: bool,
) -> Result<Vec<Result<(), String>>, String> {
    for attempt in 0..TRIES {
        let now = Timestamp::now();
        let mut after = budget.clone();
        let mut answers = Vec::with_capacity(pods.len());
        for (pod, operation) in pods {
            answers.push(match take(&after, *pod, *operation, now) {
                Verdict::Free => Ok(()),
                Verdict::Take(status) => {
                    // What is taken is of what the spec allows, whether that was counted for or not.
                    after.status = *status;
                    Ok(())
                }
                Verdict::Refused(why) => Err(why.to_string()),
            });
        }
        if dry_run || after.status == budget.status {
            return Ok(answers);
        }
        match write(client, &budget, &after.status).await? {
            Wrote::Done => return Ok(answers),
            Wrote::Gone => return Ok(pods.iter().map(|_| Ok(())).collect()),
            Wrote::Late => {}
        }
        tokio::time::sleep(PAUSE * attempt).await;
        let (namespace, name) = (
            budget.metadata.namespace.unwrap_or_default(),
            budget.metadata.name.unwrap_or_default(),
        );
        budget = match present(client, &namespace, &name).await? {
            Some(budget) => budget,
            None => return Ok(pods.iter().map(|_| Ok(())).collect()),
        };
    }
    let name = super::state::name(&budget.metadata);
    Err(format!("couldn't update PodUnavailableBudget {name} due to conflicts"))
}
