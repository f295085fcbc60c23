//! ContainerRecreateRequest: containers of one pod that are to be started anew where they are. Who asks for it names pod and
//! containers; what else stands in `spec` is put in by the operator ([`crate::names::RECREATE_POD_UID`] and the like as well).

use k8s_openapi::api::core::v1::{ContainerPort, LifecycleHandler};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time};
use serde::{Deserialize, Serialize};

/// A request for one pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerRecreateRequest {
    /// Name, labels, versions.
    pub metadata: ObjectMeta,
    /// What is asked for.
    pub spec: RecreateSpec,
    /// What has become of it.
    pub status: RecreateStatus,
}

crate::kind!(
    ContainerRecreateRequest,
    "apps.kruise.io" / "v1beta1",
    "ContainerRecreateRequest",
    "containerrecreaterequests",
    NamespaceResourceScope
);

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RecreateSpec {
    /// The pod, in the namespace of the request.
    pub pod_name: String,
    /// Its containers that are to be started anew, in this order.
    pub containers: Vec<RecreateContainer>,
    /// How.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strategy: Option<RecreateStrategy>,
    /// The request is over that many seconds after its creation, whatever has become of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_deadline_seconds: Option<i64>,
    /// The object goes that many seconds after its completion; absent: it stays.
    #[serde(rename = "ttlSecondsAfterFinished", skip_serializing_if = "Option::is_none")]
    pub ttl_seconds_after_finished: Option<i32>,
}

/// One container. All but its name is copied from the pod when the request is made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RecreateContainer {
    /// Name of an application container.
    pub name: String,
    /// Its hook.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pre_stop: Option<LifecycleHandler>,
    /// Its ports, where the hook may name one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<Vec<ContainerPort>>,
    /// What ran when the request was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_context: Option<StatusContext>,
}

/// What ran when the request was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StatusContext {
    /// As in the pod's status, `containerd://…`.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// How often the container had been restarted.
    pub restart_count: i32,
}

/// How containers are started anew.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RecreateStrategy {
    /// What happens to the others if one container cannot be stopped; absent: [`FailurePolicy::Fail`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_policy: Option<FailurePolicy>,
    /// The next container only when the one before is back.
    #[serde(skip_serializing_if = "is_false")]
    pub ordered_recreate: bool,
    /// Also a container that has been started anew since the request was made.
    #[serde(skip_serializing_if = "is_false")]
    pub force_recreate: bool,
    /// For hook and signal together; absent: the pod's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub termination_grace_period_seconds: Option<i64>,
    /// The pod is out of service that long before anything is stopped; where agents report what proxies do, no longer than it takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unready_grace_period_seconds: Option<i64>,
    /// A new container counts when it has run that long.
    #[serde(skip_serializing_if = "is_zero")]
    pub min_started_seconds: i32,
}

/// What happens to the others if one container cannot be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailurePolicy {
    /// They are left alone.
    Fail,
    /// Their turn comes.
    Ignore,
}

/// What has become of a request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RecreateStatus {
    /// How far it is.
    pub phase: RecreatePhase,
    /// When it was over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// Why it was over before its time; empty if it was not.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Of each container, in the order of the request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub container_recreate_states: Vec<RecreateState>,
    /// What the pod's status says of containers that were started after the request was made: written by the operator for the
    /// node's agent, which sees no pods.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub container_status_snapshot: Vec<ContainerSnapshot>,
    /// [`crate::names::RECREATE_GRACE`], [`crate::names::RECREATE_DRAINED`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

impl RecreateStatus {
    /// A condition that is True.
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        let mut all = self.conditions.iter();
        all.find(|condition| condition.type_ == kind && condition.status == "True")
    }
}

/// How far a request, or one of its containers, is. A request never becomes Succeeded or Failed: it is Completed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RecreatePhase {
    /// No agent has looked at it.
    #[default]
    #[serde(rename = "")]
    New,
    /// Its turn is to come.
    Pending,
    /// Under way.
    Recreating,
    /// The container is back.
    Succeeded,
    /// The container could not be stopped.
    Failed,
    /// The request is over.
    Completed,
}

/// One container of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RecreateState {
    /// Its name.
    pub name: String,
    /// How far it is.
    pub phase: RecreatePhase,
    /// Why it is no further.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The agent has stopped it for this request.
    #[serde(skip_serializing_if = "is_false")]
    pub is_killed: bool,
}

/// A container as its pod's status shows it. The order of the fields is that of OpenKruise, which has this as text in v1alpha1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerSnapshot {
    /// Its name.
    pub name: String,
    /// Its probe says so.
    pub ready: bool,
    /// How often it has been restarted.
    pub restart_count: i32,
    /// As in [`StatusContext`].
    #[serde(rename = "containerID", skip_serializing_if = "String::is_empty")]
    pub container_id: String,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde asks so
fn is_false(value: &bool) -> bool {
    !*value
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde asks so
fn is_zero(value: &i32) -> bool {
    *value == 0
}
