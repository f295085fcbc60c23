//! What the loops know of a Deployment.

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::Deserialize;
use serde_json::{Value, json};

use super::condition::{Condition, conditions_json};
use super::counts::unless_zero;
use super::kind::{Kind, partial_kind};

/// A Deployment.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Deployment {
    pub(crate) metadata: ObjectMeta,
    pub(crate) spec: DeploymentSpec,
    pub(crate) status: DeploymentStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct DeploymentSpec {
    pub(crate) replicas: Option<i32>,
    pub(crate) min_ready_seconds: i32,
    pub(crate) progress_deadline_seconds: Option<i32>,
    pub(crate) revision_history_limit: Option<i32>,
    pub(crate) paused: bool,
    pub(crate) selector: LabelSelector,
    pub(crate) strategy: DeploymentStrategy,
    pub(crate) template: Value,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct DeploymentStrategy {
    #[serde(rename = "type")]
    pub(crate) type_: String,
    pub(crate) rolling_update: Option<RollingUpdate>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct RollingUpdate {
    pub(crate) max_surge: Option<IntOrString>,
    pub(crate) max_unavailable: Option<IntOrString>,
    pub(crate) partition: Option<i32>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct DeploymentStatus {
    pub(crate) replicas: i32,
    pub(crate) updated_replicas: i32,
    pub(crate) ready_replicas: i32,
    pub(crate) available_replicas: i32,
    pub(crate) unavailable_replicas: i32,
    pub(crate) observed_generation: i64,
    pub(crate) collision_count: Option<i32>,
    pub(crate) conditions: Vec<Condition>,
}

partial_kind!(Deployment, "apps", "Deployment", "deployments", NamespaceResourceScope);

impl Kind for Deployment {}

impl Deployment {
    /// All old pods go before the first new one comes.
    pub(crate) fn is_recreate(&self) -> bool {
        self.spec.strategy.type_ == "Recreate"
    }
}

impl DeploymentStatus {
    /// Merge patch that makes the status this one.
    pub(crate) fn patch(&self) -> Value {
        json!({"status": {
            "replicas": unless_zero(self.replicas),
            "updatedReplicas": unless_zero(self.updated_replicas),
            "readyReplicas": unless_zero(self.ready_replicas),
            "availableReplicas": unless_zero(self.available_replicas),
            "unavailableReplicas": unless_zero(self.unavailable_replicas),
            "observedGeneration": self.observed_generation,
            "conditions": conditions_json(&self.conditions),
        }})
    }
}
