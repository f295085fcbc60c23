//! What the operator's agents see of the embedded nodes' proxies: everything, as they live in this process.

use std::sync::Arc;

use afloat_agent::ProxyView;
use afloat_api::{PodTraffic, TrafficStatus};
use afloat_proxy::{PodSnapshot, Proxy};
use tokio::sync::watch;

/// A proxy of this process.
pub(crate) struct EmbeddedProxy(pub(crate) Arc<Proxy>);

impl ProxyView for EmbeddedProxy {
    fn status(&self) -> TrafficStatus {
        let found = self.0.pods();
        TrafficStatus {
            method: "EmbeddedProxy".into(),
            synced: found.synced,
            message: None,
            services: found.services,
            pods: found
                .pods
                .into_iter()
                .map(|pod| (pod.uid.clone(), report(pod)))
                .collect(),
        }
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes()
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
