//! Kinds of `afloat.dev` that the API server has not got yet: who installs the operator beside OpenKruise may bring their CRDs
//! later, or never. A watch of such a kind would fail for ever, so it is begun when the kind is there.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use afloat_api::{NodeTraffic, RolloutReport};
use afloat_watching::feed::Pauses;
use k8s_openapi::Resource as _;
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;

use crate::abilities::kinds;
use crate::act::REQUEST_TIMEOUT;
use crate::operator::Operator;

/// Between two looks: one small read of the API server.
const PAUSE: Duration = Duration::from_secs(10);

/// Follows what proxies do once they can tell. Until then a drain waits for `gracePeriodSeconds`.
pub(crate) async fn traffic(operator: Arc<Operator>, shutdown: CancellationToken) {
    tracing::warn!("no NodeTraffic in this cluster: drains are not observed; apply what `afloat crds` prints");
    if !appears(&operator.client, NodeTraffic::KIND, &shutdown).await {
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
    if !appears(&operator.client, RolloutReport::KIND, &shutdown).await {
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

/// Waits until the API server has the kind; false if `shutdown` comes first.
async fn appears(client: &Client, kind: &str, shutdown: &CancellationToken) -> bool {
    loop {
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = shutdown.cancelled() => return false,
        }
        let there: BTreeSet<String> = match tokio::time::timeout(REQUEST_TIMEOUT, kinds(client)).await {
            Ok(Ok(kinds)) => kinds,
            // The watches of other kinds tell of an API server that does not answer.
            Ok(Err(_)) | Err(_) => continue,
        };
        if there.contains(kind) {
            return true;
        }
    }
}
