//! What the loops know of a DaemonSet.

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde_json::{Value, json};

use super::counts::unless_zero;
use super::deployment::RollingUpdate;
use super::kind::{Kind, partial_kind};

/// A DaemonSet.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct DaemonSet {
    pub(crate) metadata: ObjectMeta,
    pub(crate) spec: DaemonSetSpec,
    pub(crate) status: DaemonSetStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct DaemonSetSpec {
    pub(crate) min_ready_seconds: i32,
    pub(crate) revision_history_limit: Option<i32>,
    pub(crate) update_strategy: DaemonSetStrategy,
    pub(crate) template: Value,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct DaemonSetStrategy {
    #[serde(rename = "type")]
    pub(crate) type_: String,
    pub(crate) rolling_update: Option<RollingUpdate>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct DaemonSetStatus {
    pub(crate) current_number_scheduled: i32,
    pub(crate) desired_number_scheduled: i32,
    pub(crate) number_misscheduled: i32,
    pub(crate) number_ready: i32,
    pub(crate) number_available: i32,
    pub(crate) number_unavailable: i32,
    pub(crate) updated_number_scheduled: i32,
    pub(crate) observed_generation: i64,
}

partial_kind!(DaemonSet, "apps", "DaemonSet", "daemonsets", NamespaceResourceScope);
impl Kind for DaemonSet {}

impl DaemonSetStatus {
    /// Merge patch that makes the status this one.
    pub(crate) fn patch(&self) -> Value {
        json!({"status": {
            "currentNumberScheduled": self.current_number_scheduled,
            "desiredNumberScheduled": self.desired_number_scheduled,
            "numberMisscheduled": self.number_misscheduled,
            "numberReady": self.number_ready,
            "numberAvailable": unless_zero(self.number_available),
            "numberUnavailable": unless_zero(self.number_unavailable),
            "updatedNumberScheduled": unless_zero(self.updated_number_scheduled),
            "observedGeneration": self.observed_generation,
        }})
    }
}
