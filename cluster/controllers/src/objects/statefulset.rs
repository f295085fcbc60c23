//! What the loops know of a StatefulSet.

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use serde::Deserialize;
use serde_json::{Value, json};

use super::condition::{Condition, conditions_json};
use super::counts::unless_zero;
use super::deployment::RollingUpdate;
use super::kind::{Kind, partial_kind};

/// A StatefulSet.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct StatefulSet {
    pub(crate) metadata: ObjectMeta,
    pub(crate) spec: StatefulSetSpec,
    pub(crate) status: StatefulSetStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct StatefulSetSpec {
    pub(crate) replicas: Option<i32>,
    pub(crate) min_ready_seconds: i32,
    pub(crate) service_name: Option<String>,
    pub(crate) pod_management_policy: String,
    pub(crate) revision_history_limit: Option<i32>,
    pub(crate) ordinals: Ordinals,
    pub(crate) update_strategy: StatefulSetStrategy,
    pub(crate) template: Value,
    pub(crate) volume_claim_templates: Vec<Value>,
    pub(crate) selector: LabelSelector,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Ordinals {
    pub(crate) start: i32,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct StatefulSetStrategy {
    #[serde(rename = "type")]
    pub(crate) type_: String,
    pub(crate) rolling_update: Option<RollingUpdate>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct StatefulSetStatus {
    pub(crate) replicas: i32,
    pub(crate) ready_replicas: i32,
    pub(crate) available_replicas: i32,
    pub(crate) current_replicas: i32,
    pub(crate) updated_replicas: i32,
    pub(crate) current_revision: String,
    pub(crate) update_revision: String,
    pub(crate) observed_generation: i64,
    pub(crate) conditions: Vec<Condition>,
}

partial_kind!(
    StatefulSet,
    "apps",
    "StatefulSet",
    "statefulsets",
    NamespaceResourceScope
);
impl Kind for StatefulSet {}

impl StatefulSetStatus {
    /// Merge patch that makes the status this one.
    pub(crate) fn patch(&self) -> Value {
        json!({"status": {
            "replicas": self.replicas,
            "readyReplicas": unless_zero(self.ready_replicas),
            "availableReplicas": self.available_replicas,
            "currentReplicas": unless_zero(self.current_replicas),
            "updatedReplicas": unless_zero(self.updated_replicas),
            "currentRevision": self.current_revision,
            "updateRevision": self.update_revision,
            "observedGeneration": self.observed_generation,
            "conditions": conditions_json(&self.conditions),
        }})
    }
}
