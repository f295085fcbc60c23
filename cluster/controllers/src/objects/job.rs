//! What the loops know of a Job.

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::Deserialize;
use serde_json::{Value, json};

use super::condition::{Condition, conditions_json};
use super::counts::unless_zero;
use super::kind::{Kind, partial_kind};
use super::time::seconds;

/// A Job.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Job {
    pub(crate) metadata: ObjectMeta,
    pub(crate) spec: JobSpec,
    pub(crate) status: JobStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct JobSpec {
    pub(crate) parallelism: Option<i32>,
    pub(crate) completions: Option<i32>,
    pub(crate) backoff_limit: Option<i32>,
    pub(crate) active_deadline_seconds: Option<i64>,
    pub(crate) ttl_seconds_after_finished: Option<i64>,
    pub(crate) suspend: bool,
    pub(crate) template: Value,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct JobStatus {
    pub(crate) active: i32,
    pub(crate) ready: i32,
    pub(crate) succeeded: i32,
    pub(crate) failed: i32,
    pub(crate) start_time: Option<Time>,
    pub(crate) completion_time: Option<Time>,
    pub(crate) conditions: Vec<Condition>,
}

partial_kind!(Job, "batch", "Job", "jobs", NamespaceResourceScope);
impl Kind for Job {}

impl JobStatus {
    /// Merge patch that makes the status this one.
    pub(crate) fn patch(&self) -> Value {
        json!({"status": {
            "active": unless_zero(self.active), "ready": self.ready,
            "succeeded": unless_zero(self.succeeded), "failed": unless_zero(self.failed),
            "startTime": self.start_time.as_ref().map(|time| seconds(time.0)),
            "completionTime": self.completion_time.as_ref().map(|time| seconds(time.0)),
            "conditions": conditions_json(&self.conditions),
        }})
    }
}
