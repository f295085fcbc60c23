//! What can be said of a change of a StatefulSet before anybody makes it.

use std::cmp::Reverse;

use afloat_api::{Rollout, StatefulSet};
use jiff::SignedDuration;

use super::ordinals::ordinal;
use super::planner::{limits, min_ready};
use crate::pod::object::Pod;
use crate::workload::budget::Limits;
use crate::workload::foresight::{FEW, Foreseen, Warming};
use crate::workload::kind::Workload as _;
use crate::workload::order::prioritise;

impl Foreseen for StatefulSet {
    fn rollout(&self) -> Rollout {
        self.spec.rollout()
    }

    fn limits(&self, _: usize) -> Limits {
        limits(&self.spec.rollout(), self.spec.replicas())
    }

    fn min_ready(&self) -> SignedDuration {
        min_ready(self)
    }

    fn warming(&self) -> Warming<'_> {
        Warming {
            selector: &self.spec.selector,
            current: Some(&self.status.current_revision),
            done: self.status.current_revision == self.status.update_revision,
            gate: |gates| gates.predownload,
            few: FEW,
            keeps_nodes: false,
            settings: None,
        }
    }

    /// From the largest ordinal down, unless labels say otherwise.
    fn order<'p>(&self, mut waiting: Vec<&'p Pod>, _: &[&Pod]) -> Vec<&'p Pod> {
        let name = self.owner().name();
        waiting.sort_by_key(|pod| Reverse(ordinal(name, pod.name())));
        let unordered = self.spec.unordered();
        if let Some(strategy) = unordered.and_then(|unordered| unordered.priority_strategy.as_ref()) {
            prioritise(&mut waiting, strategy);
        }
        waiting
    }
}
