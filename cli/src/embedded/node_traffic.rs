//! What the operator's agents see of the embedded nodes: everything, as their proxies and runtimes live in this process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use afloat_agent::ProxyView;
use afloat_api::{PodTraffic, TrafficStatus};
use afloat_cluster::LocalNode;
use afloat_node::{container_id, kept};
use afloat_proxy::{PodSnapshot, Proxy};
use afloat_runtime::{Container, ContainerState, Runtime};
use futures::FutureExt as _;
use jiff::Timestamp;
use tokio::sync::watch;

/// How long it is told what a container was started by.
const RECENT: Duration = Duration::from_secs(60);

/// A node of this process.
pub(crate) struct EmbeddedNode {
    proxy: Arc<Proxy>,
    runtime: Arc<dyn Runtime>,
}

impl EmbeddedNode {
    /// A view of it.
    pub(crate) fn of(node: &LocalNode) -> Self {
        Self {
            proxy: node.proxy.clone(),
            runtime: node.runtime.clone(),
        }
    }

    /// See [`TrafficStatus::running`]. A runtime that does not answer at once says nothing this time.
    fn running(&self) -> BTreeMap<String, String> {
        let containers = self.runtime.containers().now_or_never();
        let containers = containers.and_then(Result::ok).unwrap_or_default();
        let since = Timestamp::now() - RECENT;
        let recent = |container: &Container| {
            container.attempt > 0
                && container.state == ContainerState::Running
                && container.started_at.is_some_and(|start| start > since)
        };
        let told = |container: Container| {
            let reference = kept(&container)?.reference?;
            Some((container_id(&container.id), reference))
        };
        containers.into_iter().filter(recent).filter_map(told).collect()
    }
}

impl ProxyView for EmbeddedNode {
    fn status(&self) -> TrafficStatus {
        let found = self.proxy.pods();
        TrafficStatus {
            method: "EmbeddedProxy".into(),
            synced: found.synced,
            message: None,
            services: found.services,
            running: self.running(),
            pods: found
                .pods
                .into_iter()
                .map(|pod| (pod.uid.clone(), report(pod)))
                .collect(),
        }
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.proxy.changes()
    }
}

fn report(pod: PodSnapshot) -> PodTraffic {
    PodTraffic {
        pod: format!("{}/{}", pod.namespace, pod.name),
        applied: pod.applied,
        ready: pod.ready,
        routed: pod.routed,
        // Connections to a pod in service come and go all the time, and nobody waits for them.
        open: Some(if pod.routed || pod.ready { 0 } else { pod.open }),
        opened: Some(pod.counts.opened),
        refused: Some(pod.counts.refused),
        reset: Some(pod.counts.reset),
        timed_out: Some(pod.counts.timed_out),
    }
}
