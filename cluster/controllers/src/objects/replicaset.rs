//! What the loops know of ReplicaSets and ReplicationControllers.

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
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

/// A ReplicationController: a ReplicaSet by another name, whose selector is a map.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ReplicationController {
    pub(crate) metadata: ObjectMeta,
    #[serde(deserialize_with = "with_plain_selector")]
    pub(crate) spec: ReplicaSetSpec,
    pub(crate) status: ReplicaSetStatus,
}

partial_kind!(
    ReplicationController,
    "",
    "ReplicationController",
    "replicationcontrollers",
    NamespaceResourceScope
);

impl Kind for ReplicationController {}

fn with_plain_selector<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ReplicaSetSpec, D::Error> {
    let mut spec = Value::deserialize(deserializer)?;
    if let Some(selector) = spec.get_mut("selector") {
        *selector = json!({"matchLabels": selector.take()});
    }
    ReplicaSetSpec::deserialize(spec).map_err(D::Error::custom)
}

impl ReplicaSetSpec {
    /// `spec.replicas` with its default of 1.
    pub(crate) fn replicas(&self) -> i32 {
        self.replicas.unwrap_or(1)
    }
}

impl ReplicaSet {
    /// `spec.replicas` with its default of 1.
    pub(crate) fn replicas(&self) -> i32 {
        self.spec.replicas()
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
