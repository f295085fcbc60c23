//! What the loops know of a ReplicaSet.

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use serde::Deserialize;
use serde_json::{Value, json};

use super::condition::{Condition, conditions_json};
use super::counts::unless_zero;
use super::kind::{Kind, partial_kind};

/// A ReplicaSet.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ReplicaSet {
    pub(crate) metadata: ObjectMeta,
    pub(crate) spec: ReplicaSetSpec,
    pub(crate) status: ReplicaSetStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ReplicaSetSpec {
    pub(crate) replicas: Option<i32>,
    pub(crate) min_ready_seconds: i32,
    pub(crate) selector: LabelSelector,
    pub(crate) template: Value,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ReplicaSetStatus {
    pub(crate) replicas: i32,
    pub(crate) fully_labeled_replicas: i32,
    pub(crate) ready_replicas: i32,
    pub(crate) available_replicas: i32,
    pub(crate) observed_generation: i64,
    pub(crate) conditions: Vec<Condition>,
}

partial_kind!(ReplicaSet, "apps", "ReplicaSet", "replicasets", NamespaceResourceScope);

impl Kind for ReplicaSet {}

impl ReplicaSet {
    /// `spec.replicas` with its default of 1.
    pub(crate) fn replicas(&self) -> i32 {
        self.spec.replicas.unwrap_or(1)
    }
}

impl ReplicaSetStatus {
    /// Merge patch that makes the status this one.
    pub(crate) fn patch(&self) -> Value {
        json!({"status": {
            "replicas": self.replicas,
            "fullyLabeledReplicas": unless_zero(self.fully_labeled_replicas),
            "readyReplicas": unless_zero(self.ready_replicas),
            "availableReplicas": unless_zero(self.available_replicas),
            "observedGeneration": self.observed_generation,
            "conditions": conditions_json(&self.conditions),
        }})
    }
}
