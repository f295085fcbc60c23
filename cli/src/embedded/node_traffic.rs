//! What the operator's agents see of the embedded nodes: everything, as their proxies live in this process.

use std::sync::Arc;

use afloat_agent::ProxyView;
use afloat_api::{PodTraffic, TrafficStatus};
use afloat_cluster::LocalNode;
use afloat_proxy::{PodSnapshot, Proxy};
use tokio::sync::watch;

/// A node of this process.
pub(crate) struct EmbeddedNode {
    proxy: Arc<Proxy>,
}

impl EmbeddedNode {
    /// A view of it.
    pub(crate) fn of(node: &LocalNode) -> Self {
        Self {
            proxy: node.proxy.clone(),
        }
    }
}

impl ProxyView for EmbeddedNode {
    fn status(&self) -> TrafficStatus {
        let found = self.proxy.pods();
        TrafficStatus {
            method: "EmbeddedProxy".into(),
            synced: found.synced,
            services: found.services,
            pods: found
                .pods
                .into_iter()
                .map(|pod| (pod.uid.clone(), report(pod)))
                .collect(),
            // What runs is told by the runtime.
            ..TrafficStatus::default()
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
