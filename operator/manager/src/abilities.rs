//! What the API server can do, asked before the operator begins.

use std::collections::BTreeSet;
use std::time::Duration;

use afloat_api::{NodeTraffic, RolloutReport};
use afloat_rollout::pod::server::Server;
use k8s_openapi::Resource as _;
use kube::Client;
use tokio_util::sync::CancellationToken;

use crate::round::act::REQUEST_TIMEOUT;

/// Pause between two tries to ask what the API server serves.
const DISCOVERY_PAUSE: Duration = Duration::from_secs(1);

/// What the API server has.
#[derive(Clone, Debug)]
pub(crate) struct Abilities {
    /// What it lets change on live pods.
    pub(crate) server: Server,
    /// NodeTraffic.
    pub(crate) traffic: bool,
    /// RolloutReport.
    pub(crate) reports: bool,
    /// The kinds of workload.
    pub(crate) workloads: BTreeSet<String>,
}

/// The kinds of `afloat.dev` that the API server has. They are not there where the CRDs have not been applied.
///
/// # Errors
/// If the API server cannot be asked.
pub async fn kinds(client: &Client) -> kube::Result<BTreeSet<String>> {
    served(client, NodeTraffic::GROUP, NodeTraffic::API_VERSION).await
}

/// The kinds of a group and version that the API server has.
///
/// # Errors
/// If the API server cannot be asked.
pub(crate) async fn served(client: &Client, group: &str, api_version: &str) -> kube::Result<BTreeSet<String>> {
    // A group that is not there answers with plain text, of which kube's client warns each time.
    let groups = client.list_api_groups().await?.groups;
    if !groups.iter().any(|known| known.name == group) {
        return Ok(BTreeSet::new());
    }
    match client.list_api_group_resources(api_version).await {
        Ok(list) => Ok(list.resources.into_iter().map(|resource| resource.kind).collect()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(BTreeSet::new()),
        Err(error) => Err(error),
    }
}

/// What the API server lets change on live pods, by its version. Of one that does not tell it, nothing is known.
///
/// # Errors
/// If the API server cannot be asked.
pub async fn server(client: &Client) -> kube::Result<Server> {
    let core = client.list_core_api_resources("v1").await?;
    let told = match client.apiserver_version().await {
        Ok(told) => told.minor,
        Err(kube::Error::Api(status)) if status.code < 500 => String::new(),
        Err(error) => return Err(error),
    };
    // Some write `33+`.
    let digits: String = told.chars().take_while(char::is_ascii_digit).collect();
    Ok(Server {
        minor: digits.parse().unwrap_or(Server::default().minor),
        resizes: core.resources.iter().any(|resource| resource.name == "pods/resize"),
    })
}

/// Asks the API server what it has; None if `shutdown` comes before it answers.
pub(crate) async fn abilities(client: &Client, shutdown: &CancellationToken) -> Option<Abilities> {
    loop {
        let ask = async {
            let ours = kinds(client).await?;
            Ok::<_, kube::Error>(Abilities {
                server: server(client).await?,
                traffic: ours.contains(NodeTraffic::KIND),
                reports: ours.contains(RolloutReport::KIND),
                workloads: served(client, afloat_api::GROUP, afloat_api::API_VERSION).await?,
            })
        };
        let error = match tokio::time::timeout(REQUEST_TIMEOUT, ask).await {
            Ok(Ok(found)) => return Some(found),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {REQUEST_TIMEOUT:?}"),
        };
        tracing::warn!(error, "cannot ask what the API server serves, trying again");
        tokio::select! {
            () = tokio::time::sleep(DISCOVERY_PAUSE) => {}
            () = shutdown.cancelled() => return None,
        }
    }
}
