//! What can be said of a change of a DaemonSet before anybody makes it.

use afloat_api::{DaemonSet, Rollout};
use jiff::SignedDuration;

use crate::pod::object::Pod;
use crate::workload::budget::{Limits, Round, resolve};
use crate::workload::foresight::{Foreseen, Warming};

impl Foreseen for DaemonSet {
    fn rollout(&self) -> Rollout {
        self.spec.rollout()
    }

    /// Of as many nodes as its status told last, as OpenKruise counts them; where nobody has told yet, of as many as have a pod.
    fn limits(&self, pods: usize) -> Limits {
        let told = usize::try_from(self.status.desired_number_scheduled).unwrap_or(0);
        let replicas = if told == 0 { pods } else { told };
        let rollout = self.spec.rollout();
        Limits {
            replicas,
            partition: resolve(&rollout.partition, replicas, Round::Down),
            max_unavailable: resolve(&rollout.max_unavailable, replicas, Round::Up),
            max_surge: resolve(&rollout.max_surge, replicas, Round::Up),
        }
    }

    fn min_ready(&self) -> SignedDuration {
        SignedDuration::from_secs(i64::from(self.spec.min_ready_seconds.unwrap_or(0).max(0)))
    }

    fn warming(&self) -> Warming<'_> {
        let status = &self.status;
        Warming {
            selector: &self.spec.selector,
            current: None,
            done: status.updated_number_scheduled >= status.desired_number_scheduled,
            gate: |gates| gates.predownload_daemons,
            few: 0,
            keeps_nodes: true,
            settings: None,
        }
    }

    /// The node whose name comes last is the first.
    fn order<'p>(&self, mut waiting: Vec<&'p Pod>, _: &[&Pod]) -> Vec<&'p Pod> {
        let node = |pod: &Pod| pod.spec.node_name.as_deref().unwrap_or_default().to_owned();
        waiting.sort_by_key(|pod| std::cmp::Reverse(node(pod)));
        waiting
    }
}
