//! A node that goes down takes its pods out of their Services before anybody ends them (kubernetes #116965: a node that shuts down ends its
//! pods while proxies still send to them).
//!
//! Who knows of it first is systemd-logind: it tells of a shutdown and then waits for whoever holds a delay lock, up to its
//! `InhibitDelayMaxSec` (5 s by default; a kubelet with `shutdownGracePeriod` makes it that long). The kubelet's graceful shutdown hears the
//! same signal and begins to end pods at once, beside us; where it is off, which is its default, nothing ends before the lock is
//! given back. The SIGTERM of the agent says neither: it comes last, or with a rollout of the agents.

mod logind;
mod pods;

use std::collections::BTreeSet;
use std::time::Duration;

use afloat_api::NodeTraffic;
use backon::BackoffBuilder as _;
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt as _};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use self::logind::{Lock, Logind};

/// Before a lock's time is up it is given back, so that it was not we who were too late.
const MARGIN: Duration = Duration::from_millis(500);
/// More is not worth a node that does not go down.
const LONGEST: Duration = Duration::from_secs(30);
/// How often it is asked whether all proxies have let go.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// Pods written at once.
const AT_ONCE: usize = 16;
/// A pod that somebody else writes is read and written anew so often.
const ATTEMPTS: u32 = 4;
/// What a write may take.
const WRITE_LIMIT: Duration = Duration::from_secs(10);
/// A node without logind has none a minute later, either.
const LOOK_FOR_LOGIND: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// A node of which it is told.
struct Node<'a> {
    client: Client,
    name: &'a str,
}

/// Heeds the shutdowns of the node until `stop`. On a machine without logind nothing is done.
pub fn run(client: Client, name: &str, stop: CancellationToken) -> BoxFuture<'_, ()> {
    // Boxed where nothing is async: the code of a future is made where it is awaited, which would be each program that calls this.
    async move {
        let _: Option<()> = stop.run_until_cancelled(watch(Node { client, name })).await;
    }
    .boxed()
}

async fn watch(node: Node<'_>) {
    let mut pauses = pauses();
    let mut told = false;
    loop {
        match guard(&node, &mut pauses).await {
            Ok(()) => told = false,
            Err(error) if !told => {
                told = true;
                tracing::info!(node = node.name, %error, "shutdowns of the node are not seen");
            }
            Err(error) => tracing::debug!(node = node.name, %error, "shutdowns of the node are not seen"),
        }
        sleep(pauses.next().unwrap_or(LOOK_FOR_LOGIND.1)).await;
    }
}

/// Holds a lock and heeds the signal, until logind is gone.
async fn guard(node: &Node<'_>, pauses: &mut backon::ExponentialBackoff) -> zbus::Result<()> {
    let logind = Logind::connect().await?;
    // First the signal, then the lock: nothing falls in between.
    let mut signals = logind.signals().await?;
    let mut lock = Some(logind.lock().await?);
    *pauses = self::pauses();
    tracing::info!(node = node.name, "shutdowns of the node are awaited");
    if logind.shuts_down().await? {
        leave_and_let_go(node, &logind, lock.take()).await;
    } else {
        // A node that has come back, or whose shutdown was taken back while nobody looked.
        back(node).await;
    }
    while let Some(begins) = signals.next().await {
        if begins? {
            leave_and_let_go(node, &logind, lock.take()).await;
        } else {
            tracing::info!(node = node.name, "the node's shutdown was taken back");
            lock = Some(logind.lock().await?);
            back(node).await;
        }
    }
    Ok(())
}

/// Takes the node's pods out of service and waits until the proxies have let go, as long as the lock is good for; then gives it back.
async fn leave_and_let_go(node: &Node<'_>, logind: &Logind, lock: Option<Lock>) {
    let limit = logind.delay().await.unwrap_or(logind::DEFAULT_DELAY).min(LONGEST);
    let end = Instant::now() + limit.saturating_sub(MARGIN);
    tracing::info!(
        node = node.name,
        ?limit,
        "the node goes down: its pods leave their Services"
    );
    let left = match timeout_at(end, write(node, Wish::Leave)).await {
        Ok(Ok(left)) => left,
        Ok(Err(error)) => {
            tracing::warn!(node = node.name, error, "the node's pods are not taken out of service");
            BTreeSet::new()
        }
        Err(_) => {
            tracing::warn!(
                node = node.name,
                "not all of the node's pods were taken out of service in time"
            );
            BTreeSet::new()
        }
    };
    if !left.is_empty() && timeout_at(end, let_go(node, &left)).await.is_err() {
        tracing::warn!(
            node = node.name,
            "not all proxies have said in time that they let go of the node's pods"
        );
    }
    drop(lock);
}

async fn back(node: &Node<'_>) {
    if let Err(error) = write(node, Wish::Return).await {
        // The operator lets them return after a while.
        tracing::warn!(
            node = node.name,
            error,
            "pods that left for a shutdown do not return yet"
        );
    }
}

/// What is to become of the node's pods.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wish {
    Leave,
    Return,
}

impl Wish {
    fn patch(self, pod: &Pod, now: Timestamp) -> Option<serde_json::Value> {
        match self {
            Self::Leave => pods::leave(pod, now),
            Self::Return => pods::back(pod, now),
        }
    }
}

/// Writes the pods that it takes. Gives the UIDs of those written.
async fn write(node: &Node<'_>, wish: Wish) -> Result<BTreeSet<String>, String> {
    let all: Api<Pod> = Api::all(node.client.clone());
    let own = ListParams::default().fields(&format!("spec.nodeName={}", node.name));
    let list = tokio::time::timeout(WRITE_LIMIT, all.list(&own)).await;
    let list = list.map_err(|_| "no list of the node's pods in time".to_owned())?;
    let list = list.map_err(|error| error.to_string())?;
    let writes = futures::stream::iter(list.items)
        .map(|pod| write_one(node, pod, wish))
        .buffer_unordered(AT_ONCE);
    let written: Vec<_> = writes.collect().await;
    Ok(written.into_iter().flatten().collect())
}

/// None: there was nothing to write, or it could not be.
async fn write_one(node: &Node<'_>, mut pod: Pod, wish: Wish) -> Option<String> {
    let api: Api<Pod> = Api::namespaced(node.client.clone(), &pod.namespace()?);
    let name = pod.name_any();
    for _ in 0..ATTEMPTS {
        let patch = wish.patch(&pod, Timestamp::now())?;
        let write = async {
            api.patch_status(&name, &PatchParams::default(), &Patch::Strategic(&patch))
                .await
        };
        match tokio::time::timeout(WRITE_LIMIT, write).await {
            Ok(Ok(_)) => return pod.uid(),
            // Somebody wrote it meanwhile.
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => match api.get_opt(&name).await {
                Ok(Some(newer)) if newer.uid() == pod.uid() => pod = newer,
                _ => return None,
            },
            Ok(Err(error)) => {
                tracing::warn!(pod = name, %error, "the pod's gate is not written");
                return None;
            }
            Err(_) => return None,
        }
    }
    None
}

/// Until every node that can tell says that it sends nothing new to these pods.
async fn let_go(node: &Node<'_>, left: &BTreeSet<String>) {
    let reports: Api<NodeTraffic> = Api::all(node.client.clone());
    loop {
        match reports.list(&ListParams::default()).await {
            Ok(list) if pods::let_go(&list.items, left) => return,
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "the nodes' reports are not read"),
        }
        sleep(LOOK_INTERVAL).await;
    }
}

fn pauses() -> backon::ExponentialBackoff {
    backon::ExponentialBuilder::default()
        .with_min_delay(LOOK_FOR_LOGIND.0)
        .with_max_delay(LOOK_FOR_LOGIND.1)
        .without_max_times()
        .with_jitter()
        .build()
}
