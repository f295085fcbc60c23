//! Kinds that the API server has not got yet: who installs the operator beside OpenKruise may bring the CRDs of `afloat.dev`
//! later, or never, and not every cluster has all kinds of workload. A watch of such a kind would fail for ever, so it is begun when the kind is there.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use afloat_api::{NodeTraffic, RolloutReport};
use afloat_watching::feed::Pauses;
use k8s_openapi::Resource;
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;

use crate::abilities::served;
use crate::operator::Operator;
use crate::round::act::REQUEST_TIMEOUT;

/// Between two looks, each a small read of the API server: at first, as a CRD that was just applied is served in a moment, and
/// doubled up to the second.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// Follows what proxies do once they can tell. Until then a drain waits for `gracePeriodSeconds`.
pub(crate) async fn traffic(operator: Arc<Operator>, shutdown: CancellationToken) {
    tracing::warn!("no NodeTraffic in this cluster: drains are not observed; apply what `afloat crds` prints");
    if !appears::<NodeTraffic>(&operator.client, &shutdown).await {
        return;
    }
    tracing::info!("NodeTraffic is there: drains are observed where agents report");
    let (cache, api) = (operator.traffic.clone(), Api::all(operator.client.clone()));
    cache
        .feed(api, watcher::Config::default(), Pauses::Patient, shutdown)
        .await;
}

/// Follows reports of rollouts, and has them kept once all that there are have been seen.
pub(crate) async fn reports(operator: Arc<Operator>, api: Api<RolloutReport>, shutdown: CancellationToken) {
    tracing::warn!("no RolloutReport in this cluster: rollouts leave no report; apply what `afloat crds` prints");
    if !appears::<RolloutReport>(&operator.client, &shutdown).await {
        return;
    }
    tracing::info!("RolloutReport is there: rollouts leave one from now on");
    let config = watcher::Config::default();
    let feed = operator.reports.clone().feed(api, config, Pauses::Patient, shutdown);
    let mut feed = std::pin::pin!(feed);
    tokio::select! {
        () = operator.reports.ready() => operator.keeps_reports.store(true, Ordering::Release),
        () = &mut feed => return,
    }
    feed.await;
}

/// Waits until the API server has a kind; false if `shutdown` comes first.
async fn appears<K: Resource>(client: &Client, shutdown: &CancellationToken) -> bool {
    appears_as(client, (K::GROUP, K::API_VERSION, K::KIND), shutdown).await
}

/// The same, for a kind by its group, its group and version, and its name.
pub(crate) async fn appears_as(
    client: &Client,
    (group, api_version, kind): (&str, &str, &str),
    shutdown: &CancellationToken,
) -> bool {
    let mut pause = PAUSES.0;
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.cancelled() => return false,
        }
        pause = pause.saturating_mul(2).min(PAUSES.1);
        let there: BTreeSet<String> =
            match tokio::time::timeout(REQUEST_TIMEOUT, served(client, group, api_version)).await {
                Ok(Ok(kinds)) => kinds,
                // The watches of other kinds tell of an API server that does not answer.
                Ok(Err(_)) | Err(_) => continue,
            };
        if there.contains(kind) {
            return true;
        }
    }
}
