//! A pod, cut down to what a kubelet's play reads.

use std::collections::BTreeMap;
use std::time::Duration;

use afloat_words::revision::revision;
use k8s_openapi::api::core::v1::Affinity;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Pod {
    pub(crate) metadata: Meta,
    pub(crate) spec: Spec,
    pub(crate) status: Status,
}

/// Its metadata.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Meta {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) uid: String,
    pub(crate) resource_version: String,
    pub(crate) generation: Option<i64>,
    pub(crate) deletion_timestamp: Option<String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
}

/// What shall run.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Spec {
    pub(crate) node_name: Option<String>,
    pub(crate) scheduler_name: Option<String>,
    pub(crate) scheduling_gates: Vec<serde::de::IgnoredAny>,
    pub(crate) affinity: Affinity,
    pub(crate) containers: Vec<Container>,
    pub(crate) readiness_gates: Vec<Gate>,
}

/// A container of the spec.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) image: String,
    /// `null` where nothing is said.
    pub(crate) resources: Value,
    /// That there is one is all that matters.
    pub(crate) readiness_probe: Option<serde::de::IgnoredAny>,
    pub(crate) volume_mounts: Vec<VolumeMount>,
    pub(crate) resize_policy: Vec<ResizePolicy>,
    pub(crate) lifecycle: Lifecycle,
}

/// Hooks of a container.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Lifecycle {
    post_start: Handler,
}

/// What a hook does.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Handler {
    exec: Exec,
}

/// A command that a hook runs.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Exec {
    command: Vec<String>,
}

impl Container {
    /// How long its postStart hook takes: the time that `sleep` says; any other command takes none, and none fails.
    pub(crate) fn hook(&self) -> Duration {
        match self.lifecycle.post_start.exec.command.as_slice() {
            [sleep, seconds] if sleep == "sleep" => seconds.parse().map_or(Duration::ZERO, Duration::from_secs),
            _ => Duration::ZERO,
        }
    }
}

/// Where a volume is.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct VolumeMount {
    pub(crate) name: String,
    pub(crate) mount_path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) read_only: Option<bool>,
}

/// Whether a change of one resource needs a restart.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ResizePolicy {
    pub(crate) resource_name: String,
    pub(crate) restart_policy: String,
}

/// A readiness gate.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Gate {
    pub(crate) condition_type: String,
}

/// What the API server has been told last.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Status {
    #[serde(rename = "podIP")]
    pub(crate) pod_ip: Option<String>,
    pub(crate) start_time: Option<String>,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) container_statuses: Vec<ContainerStatus>,
}

/// A condition.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Condition {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) status: String,
    pub(crate) last_transition_time: Option<String>,
    pub(crate) reason: Option<String>,
    pub(crate) message: Option<String>,
}

/// A container of an earlier run, or of somebody else's fixture.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ContainerStatus {
    pub(crate) name: String,
    pub(crate) image: String,
    #[serde(rename = "imageID")]
    pub(crate) image_id: String,
    #[serde(rename = "containerID")]
    pub(crate) container_id: String,
    pub(crate) restart_count: u32,
    pub(crate) ready: bool,
    pub(crate) state: State,
}

/// State of a container.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct State {
    pub(crate) running: Option<Running>,
}

/// Since when it runs.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Running {
    pub(crate) started_at: String,
}

impl Pod {
    /// The server's version; versions are compared as numbers, as Kubernetes' own clients may since 1.35.
    pub(crate) fn version(&self) -> u64 {
        revision(&self.metadata.resource_version)
    }

    pub(crate) fn condition(&self, kind: &str) -> Option<&Condition> {
        self.status.conditions.iter().find(|condition| condition.kind == kind)
    }

    pub(crate) fn terminating(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }
}
