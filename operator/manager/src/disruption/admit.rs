//! The webhook's answer to whoever wants a pod to go, to change or to be resized. Whatever cannot be known lets the pod go: a budget that
//! nobody can read takes nothing down with it.

use afloat_api::{CloneSet, Operation, names};
use afloat_disruption::change::operation as done;
use afloat_disruption::evict;
use afloat_disruption::owners::Owner;
use afloat_disruption::take::{Subject, exempt, labels};
use afloat_rollout::pod::{Pod, Wire, read};
use jiff::Timestamp;
use k8s_openapi::Resource;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::{Client, Resource as _};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::claim::{claim, present};
use super::kept::available;
use super::scale::ask;
use crate::events::{event, send};
use crate::webhook::verdict::Verdict;

/// Seconds after which an eviction that has to wait may be tried again.
const LATER: u32 = 5;

/// Events on their way at a time.
static TELLING: Semaphore = Semaphore::const_new(4);

/// What is asked about.
struct Asked {
    namespace: String,
    pod: Value,
    operation: Operation,
    dry_run: bool,
}

/// Judges the `request` of an AdmissionReview about a pod.
pub(crate) async fn review(client: Client, request: Value) -> Verdict {
    let judged = async {
        let Some(asked) = asked(&client, request).await? else {
            return Ok(Verdict::Allowed);
        };
        judge(&client, &asked).await
    };
    judged.await.unwrap_or_else(Verdict::Unable)
}

async fn asked(client: &Client, mut request: Value) -> Result<Option<Asked>, String> {
    let namespace = request["namespace"].as_str().unwrap_or_default().to_owned();
    let mut dry_run = request["dryRun"] == true;
    let word = |request: &Value, field: &str| request[field].as_str().unwrap_or_default().to_owned();
    let (pod, operation) = match (&*word(&request, "operation"), &*word(&request, "subResource")) {
        ("DELETE", "") => (request["oldObject"].take(), Operation::Delete),
        ("UPDATE", "" | "resize") => match done(&request["oldObject"], &request["object"]) {
            Some(operation) => (request["oldObject"].take(), operation),
            None => return Ok(None),
        },
        ("CREATE", "eviction") => {
            let dry = request["object"]["deleteOptions"]["dryRun"].as_array();
            dry_run |= dry.is_some_and(|all| all.iter().any(|word| word == "All"));
            let path = format!("{}/{}", Wire::url_path(&(), Some(&namespace)), word(&request, "name"));
            match ask(client, &path).await? {
                Some(pod) => (pod, Operation::Evict),
                None => return Ok(None),
            }
        }
        _ => return Ok(None),
    };
    Ok(Some(Asked {
        namespace,
        pod,
        operation,
        dry_run,
    }))
}

async fn judge(client: &Client, asked: &Asked) -> Result<Verdict, String> {
    let text = asked.pod.to_string();
    let pod = Pod::from(read(&text).map_err(|error| error.to_string())?);
    let now = Timestamp::now();
    if !available(&pod, now) {
        return Ok(Verdict::Allowed);
    }
    if asked.operation == Operation::Evict {
        if let Some(verdict) = replaced_first(client, asked, &pod, now).await? {
            return Ok(verdict);
        }
        // The API server itself refuses then: nothing is to be taken for an eviction that does not happen.
        if refused_by_others(client, asked).await? {
            return Ok(Verdict::Allowed);
        }
    }
    let related = names::RELATED_BUDGET.iter().find_map(|key| pod.annotations.get(key));
    let Some(related) = related.filter(|related| !related.is_empty()) else {
        return Ok(Verdict::Allowed);
    };
    let Some(budget) = present(client, &asked.namespace, related).await? else {
        return Ok(Verdict::Allowed);
    };
    if exempt(&budget, &asked.pod) {
        return Ok(Verdict::Allowed);
    }
    let subject = Subject {
        name: pod.name(),
        created: pod.metadata.created,
        ready_since: pod.ready_since(),
        available: true,
    };
    let answers = claim(client, budget, &[(subject, asked.operation)], asked.dry_run).await;
    let refused = match answers {
        Ok(answers) => answers.into_iter().find_map(Result::err),
        // Many ask at once: whoever has lost each time asks again.
        Err(why) => Some(why),
    };
    Ok(match refused {
        None => Verdict::Allowed,
        Some(message) => {
            tracing::debug!(namespace = asked.namespace, pod = pod.name(), operation = ?asked.operation, message, "a pod stays");
            if !asked.dry_run {
                tell(client, asked, &pod);
            }
            // `kubectl drain` waits for what comes later, and ends at what is forbidden.
            match asked.operation {
                Operation::Evict => Verdict::Later {
                    message,
                    seconds: LATER,
                },
                _ => Verdict::Refused { code: 403, message },
            }
        }
    })
}

/// Tells of a pod that stays. Whoever is refused is not kept waiting for it, and what does not fit is dropped.
fn tell(client: &Client, asked: &Asked, pod: &Pod) {
    let Ok(permit) = TELLING.try_acquire() else { return };
    let about = json!({
        "apiVersion": "v1", "kind": "Pod", "namespace": asked.namespace, "name": pod.name(), "uid": pod.metadata.uid.as_str(),
        "resourceVersion": asked.pod["metadata"]["resourceVersion"],
    });
    let said = (
        "PubPreventPodDeletion",
        "openkruise pub prevents pod deletion".to_owned(),
    );
    let (namespace, body) = event(&about, "podunavailablebudget-webhook", "Warning", said);
    let client = client.clone();
    tokio::spawn(async move {
        send(&client, &namespace, body).await;
        drop(permit);
    });
}

/// For a pod of a CloneSet that wants evicted pods replaced: the eviction waits, and the CloneSet's planner learns of it by the pod.
async fn replaced_first(client: &Client, asked: &Asked, pod: &Pod, now: Timestamp) -> Result<Option<Verdict>, String> {
    let Some(owner) = Owner::of(&asked.pod) else {
        return Ok(None);
    };
    if owner.kind != <CloneSet as Resource>::KIND
        || afloat_api::group(&owner.api_version) != <CloneSet as Resource>::GROUP
    {
        return Ok(None);
    }
    let path = format!("{}/{}", CloneSet::url_path(&(), Some(&asked.namespace)), owner.name);
    let set = ask(client, &path).await?;
    let wish = set
        .as_ref()
        .and_then(|set| set["metadata"]["annotations"][names::BEFORE_EVICTION].as_str());
    if wish != Some(names::BEFORE_EVICTION_SURGE) {
        return Ok(None);
    }
    match pod.annotations.get(names::EVICTION_WAITS).and_then(evict::end) {
        Some(end) if end <= now => return Ok(None),
        Some(_) => {}
        None if asked.dry_run => return Ok(None),
        None => {
            let (key, since) = evict::since(now);
            let patch = json!({"metadata": {"uid": pod.metadata.uid.as_str(), "annotations": {key: since}}});
            let api: Api<Wire> = Api::namespaced(client.clone(), &asked.namespace);
            let (parameters, patch) = (PatchParams::default(), Patch::Merge(&patch));
            let written = api.patch_metadata(pod.name(), &parameters, &patch).await;
            written.map_err(|error| error.to_string())?;
        }
    }
    Ok(Some(Verdict::Later {
        message: format!(
            "pod {} goes when CloneSet {} has a replacement for it",
            pod.name(),
            owner.name
        ),
        seconds: LATER,
    }))
}

/// Whether a PodDisruptionBudget does not let the pod go.
async fn refused_by_others(client: &Client, asked: &Asked) -> Result<bool, String> {
    let api: Api<PodDisruptionBudget> = Api::namespaced(client.clone(), &asked.namespace);
    let all = api
        .list(&ListParams::default())
        .await
        .map_err(|error| error.to_string())?;
    let labels = labels(&asked.pod);
    let refuses = |budget: &PodDisruptionBudget| {
        let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        let about = selector.is_some_and(|selector| afloat_api::Matcher::new(selector).selects(&labels));
        let allowed = budget.status.as_ref().map_or(0, |status| status.disruptions_allowed);
        about && allowed <= 0
    };
    Ok(all.items.iter().any(refuses))
}
