//! A CloneSet in the words that every workload has.

use afloat_api::{CloneSet, CloneSetStatus, Figures, Matcher, Rollout};
use jiff::SignedDuration;
use serde_json::Value;

use super::plan::plan;
use super::scale::topology;
use crate::pod::label::Naming;
use crate::workload::budget::Limits;
use crate::workload::foresight::{FEW, Foreseen, Warming};
use crate::workload::kind::{Sights, Workload};
use crate::workload::observed::{Observed, Plan};

impl Workload for CloneSet {
    type Status = CloneSetStatus;

    fn status(&self) -> &CloneSetStatus {
        &self.status
    }

    fn template(&self) -> &Value {
        &self.spec.template
    }

    fn with_template(&self, template: Value) -> Self {
        let mut set = self.clone();
        set.spec.template = template;
        set
    }

    fn matcher(&self) -> Matcher {
        CloneSet::matcher(self)
    }

    fn figures(&self) -> Figures {
        let status = &self.status;
        Figures {
            wanted: i32::try_from(self.spec.replicas()).unwrap_or(i32::MAX),
            expected: status.expected_updated_replicas,
            total: status.replicas,
            ready: status.ready_replicas,
            available: status.available_replicas,
            updated: status.updated_replicas,
            updated_ready: status.updated_ready_replicas,
            updated_available: status.updated_available_replicas,
        }
    }

    fn naming(&self) -> Naming {
        Naming::Both
    }

    fn plan(&self, seen: &Observed<'_>) -> Plan<CloneSetStatus> {
        plan(self, seen)
    }

    /// Pods are to be spread over nodes also when one of them is to go.
    fn sights(&self) -> Sights {
        if topology(self).is_empty() && !self.requires_images() {
            Sights::OutOfService
        } else {
            Sights::OfPods
        }
    }
}

impl Foreseen for CloneSet {
    fn warming(&self) -> Warming<'_> {
        let rolling = self.spec.update_strategy.rolling_update.as_ref();
        Warming {
            selector: &self.spec.selector,
            current: Some(&self.status.current_revision),
            done: self.status.current_revision == self.status.update_revision,
            gate: |gates| gates.predownload,
            few: FEW,
            keeps_nodes: false,
            settings: rolling.and_then(|rolling| rolling.in_place_update_strategy.as_ref()),
        }
    }

    fn rollout(&self) -> Rollout {
        self.spec.rollout()
    }

    fn limits(&self, _: usize) -> Limits {
        Limits::anonymous(&self.spec.rollout(), self.spec.replicas())
    }

    fn min_ready(&self) -> SignedDuration {
        SignedDuration::from_secs(i64::from(self.spec.min_ready_seconds.unwrap_or(0).max(0)))
    }
}
