//! A StatefulSet in the words that every workload has.

use afloat_api::{Figures, Matcher, StatefulSet, StatefulSetStatus};
use serde_json::Value;

use super::plan::plan;
use crate::pod::label::Naming;
use crate::workload::budget::partition;
use crate::workload::kind::Workload;
use crate::workload::observed::{Observed, Plan};

impl Workload for StatefulSet {
    type Status = StatefulSetStatus;

    fn status(&self) -> &StatefulSetStatus {
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
        StatefulSet::matcher(self)
    }

    fn figures(&self) -> Figures {
        let (status, wanted) = (&self.status, self.spec.replicas());
        let expected = wanted - partition(&self.spec.rollout().partition, wanted);
        let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
        Figures {
            wanted: number(wanted),
            expected: number(expected),
            total: status.replicas,
            ready: status.ready_replicas,
            available: status.available_replicas,
            updated: status.updated_replicas,
            updated_ready: status.updated_ready_replicas,
            updated_available: status.updated_available_replicas,
        }
    }

    fn naming(&self) -> Naming {
        Naming::Name
    }

    fn plan(&self, seen: &Observed<'_>) -> Plan<StatefulSetStatus> {
        plan(self, seen)
    }
}
