//! A DaemonSet in the words that every workload has.

use afloat_api::{DaemonSet, DaemonSetStatus, Figures, Matcher};
use serde_json::Value;

use super::plan::plan;
use super::report::figures;
use crate::pod::label::Naming;
use crate::workload::kind::{Sights, Workload};
use crate::workload::observed::{Observed, Plan};

impl Workload for DaemonSet {
    type Status = DaemonSetStatus;

    fn status(&self) -> &DaemonSetStatus {
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
        DaemonSet::matcher(self)
    }

    fn figures(&self) -> Figures {
        figures(self, &self.status)
    }

    fn naming(&self) -> Naming {
        Naming::Hash
    }

    fn plan(&self, seen: &Observed<'_>) -> Plan<DaemonSetStatus> {
        plan(self, seen)
    }

    fn sights(&self) -> Sights {
        Sights::All
    }
}
