//! The operator's eyes on a node: reports what the node's proxy has let go of and what it sends to, as the NodeTraffic
//! object of the node's name.
//!
//! A report is written when something changes that somebody may wait for, never by the clock: an idle cluster costs
//! nothing. Changes that come in quick succession are one write.

pub mod cri;
#[cfg(test)]
pub mod fake;
mod images;
pub mod kube_proxy;
pub mod node;
mod recreate;
mod running;
pub mod runtime;
pub mod shutdown;
pub mod stop;
pub mod workers;

use std::sync::Arc;
use std::time::{Duration, Instant};

use afloat_api::{NodeTraffic, PodTraffic, TrafficStatus};
use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt as _};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::node::Containers;

/// What comes within so long is one report.
const GATHER: Duration = Duration::from_millis(10);
/// How often a proxy is asked for connections that are to end.
const OPEN_INTERVAL: Duration = Duration::from_millis(100);
/// Losses that come one after the other are one report; what somebody waits for is told at once.
const LOSS_INTERVAL: Duration = Duration::from_millis(200);
/// How often it is asked for what it does not tell by itself.
const QUIET_INTERVAL: Duration = Duration::from_secs(1);
/// So many failed reports in a row are worth a warning; a cluster that has only begun may not know the kind yet.
const WARN_AFTER: u32 = 5;
/// Time limit of one request to the API server.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// A node's proxy, as far as it can be seen.
pub trait ProxyView: Send + Sync + 'static {
    /// What is in force now.
    fn status(&self) -> TrafficStatus;
    /// Changes whenever routes do, or a connection is lost.
    fn changes(&self) -> watch::Receiver<u64>;
}

/// Reports about the proxy of one node, and about what its containers were started by as far as they are seen ([`node::Node::containers`]),
/// until `shutdown`. What cannot be written is tried again, with pauses of up to 5 s.
pub fn run(
    client: Client,
    node: &str,
    proxy: Arc<dyn ProxyView>,
    containers: watch::Receiver<Containers>,
    shutdown: CancellationToken,
) -> BoxFuture<'_, ()> {
    // Boxed where nothing is async: the code of a future is made where it is awaited, which would be each program that calls this.
    async move {
        let api: Api<NodeTraffic> = Api::all(client);
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = report(&api, node, &*proxy, containers) => {}
        }
    }
    .boxed()
}

/// What there is to tell now.
fn seen(proxy: &dyn ProxyView, containers: &mut watch::Receiver<Containers>) -> TrafficStatus {
    let mut status = proxy.status();
    let list = containers.borrow_and_update().clone().unwrap_or_default();
    let told = running::running(&list, Timestamp::now());
    (status.running, status.hashes) = (told.references, told.hashes);
    status
}

async fn report(
    api: &Api<NodeTraffic>,
    node: &str,
    proxy: &dyn ProxyView,
    mut containers: watch::Receiver<Containers>,
) {
    let mut changes = proxy.changes();
    let mut pauses = pauses();
    let mut told: Option<NodeTraffic> = None;
    let mut written = Instant::now();
    let mut failures = 0;
    loop {
        changes.mark_unchanged();
        let status = seen(proxy, &mut containers);
        let news = told.as_ref().map_or(News::Route, |told| news(&told.status, &status));
        let early = LOSS_INTERVAL.saturating_sub(written.elapsed());
        if news == News::Loss && !early.is_zero() {
            sleep(early).await;
            continue;
        }
        if news != News::None {
            match write(api, node, told.take(), &status).await {
                Ok(written) => told = Some(written),
                Err(error) => {
                    failures += 1;
                    if failures == WARN_AFTER {
                        tracing::warn!(node, error, "cannot report the proxy's state, trying again");
                    } else {
                        tracing::debug!(node, error, "cannot report the proxy's state, trying again");
                    }
                    sleep(pauses.next().unwrap_or(REQUEST_TIMEOUT)).await;
                    continue;
                }
            }
            pauses = self::pauses();
            written = Instant::now();
            failures = 0;
        }
        let interval = if status.pods.values().any(|pod| pod.open.is_some_and(|open| open > 0)) {
            OPEN_INTERVAL
        } else {
            QUIET_INTERVAL
        };
        tokio::select! {
            changed = changes.changed() => match changed {
                Ok(()) => sleep(GATHER).await,
                // The proxy is gone, and with it what there is to say.
                Err(_) => return,
            },
            // Where nobody looks at containers, none will ever change.
            Ok(()) = containers.changed() => {}
            () = sleep(interval) => {}
        }
    }
}

/// What a report would bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    /// Nothing that somebody could do something else for.
    None,
    /// Connections were lost.
    Loss,
    /// A pod is sent to, or no longer.
    Route,
}

/// What a report would bring. A pod in service that is no longer told of is no news: what was said of it is still true,
/// and goes with the next report. Nor are connections that were made.
fn news(told: &TrafficStatus, now: &TrafficStatus) -> News {
    fn route(pod: &PodTraffic) -> (&str, u64, bool, bool, Option<u64>) {
        (&pod.pod, pod.applied, pod.ready, pod.routed, pod.open)
    }
    let lost = |pod: &PodTraffic| (pod.refused, pod.reset, pod.timed_out);
    let pairs = || now.pods.iter().map(|(uid, pod)| (told.pods.get(uid), pod));
    let moved = pairs().any(|(told, pod)| told.map(route) != Some(route(pod)));
    let mut gone = told.pods.iter().filter(|(uid, _)| !now.pods.contains_key(*uid));
    if told.method != now.method
        || told.synced != now.synced
        || told.message != now.message
        || moved
        || now.running.keys().any(|id| !told.running.contains_key(id))
        || now.hashes.keys().any(|id| !told.hashes.contains_key(id))
        || gone.any(|(_, pod)| !pod.ready)
    {
        News::Route
    } else if pairs().any(|(told, pod)| told.map(lost) != Some(lost(pod))) {
        News::Loss
    } else {
        News::None
    }
}

/// Writes a report over the last one; without that, over whatever is there.
async fn write(
    api: &Api<NodeTraffic>,
    node: &str,
    last: Option<NodeTraffic>,
    status: &TrafficStatus,
) -> Result<NodeTraffic, String> {
    let request = async {
        let last = match last {
            Some(last) => Some(last),
            None => api.get_opt(node).await?,
        };
        let mut object = last.unwrap_or_default();
        object.status = status.clone();
        object.metadata.name = Some(node.to_owned());
        object.metadata.managed_fields = None;
        match object.resource_version() {
            Some(_) => api.replace(node, &PostParams::default(), &object).await,
            None => api.create(&PostParams::default(), &object).await,
        }
    };
    match timeout(REQUEST_TIMEOUT, request).await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {REQUEST_TIMEOUT:?}")),
    }
}

/// Takes back what was reported: nothing that the node's report says counts any more, and it says why.
///
/// # Errors
/// If that cannot be written.
pub async fn retract(client: &Client, node: &str, why: &str) -> Result<(), String> {
    let api: Api<NodeTraffic> = Api::all(client.clone());
    let last = api.get_opt(node).await.map_err(|error| error.to_string())?;
    let Some(last) = last else { return Ok(()) };
    let status = TrafficStatus {
        method: last.status.method.clone(),
        message: Some(why.to_owned()),
        ..TrafficStatus::default()
    };
    write(&api, node, Some(last), &status).await.map(|_| ())
}

fn pauses() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(50))
        .with_max_delay(Duration::from_secs(5))
        .without_max_times()
        .with_jitter()
        .build()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_pod_that_serves_on_is_no_news() {
        let status = |pods: &[(&str, bool, u64)]| TrafficStatus {
            method: "Test".into(),
            synced: true,
            services: BTreeMap::new(),
            running: BTreeMap::new(),
            hashes: BTreeMap::new(),
            message: None,
            pods: pods
                .iter()
                .map(|&(uid, ready, applied)| {
                    let pod = PodTraffic {
                        ready,
                        applied,
                        ..PodTraffic::default()
                    };
                    (uid.to_owned(), pod)
                })
                .collect(),
        };
        let told = status(&[("a", true, 1), ("b", false, 2)]);
        assert_eq!(news(&told, &told), News::None);
        assert_eq!(
            news(&told, &status(&[("b", false, 2)])),
            News::None,
            "no longer told of, and in service"
        );
        assert_eq!(
            news(&told, &status(&[("a", true, 1)])),
            News::Route,
            "out of service, and gone"
        );
        assert_eq!(news(&told, &status(&[("a", false, 3), ("b", false, 2)])), News::Route);
        assert_eq!(
            news(&told, &status(&[("a", true, 1), ("b", false, 2), ("c", true, 4)])),
            News::Route
        );
        let count = |opened: u64, reset: u64| {
            let mut status = told.clone();
            let pod = status.pods.get_mut("a").unwrap();
            (pod.opened, pod.reset) = (Some(opened), Some(reset));
            status
        };
        assert_eq!(news(&count(0, 0), &count(5, 0)), News::None);
        assert_eq!(news(&count(0, 0), &count(5, 1)), News::Loss);
        let mut started = told.clone();
        started.running.insert("c2".into(), "app:2".into());
        assert_eq!(news(&told, &started), News::Route, "a container was started");
        assert_eq!(news(&started, &told), News::None, "long ago");
        let mut hashed = told.clone();
        hashed.hashes.insert("c2".into(), 7);
        assert_eq!(news(&told, &hashed), News::Route, "told by its hash");
        let unsynced = TrafficStatus {
            synced: false,
            ..told.clone()
        };
        assert_eq!(news(&unsynced, &told), News::Route);
    }
}
