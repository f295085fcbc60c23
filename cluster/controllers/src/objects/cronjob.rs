//! What the loops know of a CronJob.

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::kind::{Kind, partial_kind};
use super::time::seconds;

/// A CronJob.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct CronJob {
    pub(crate) metadata: ObjectMeta,
    pub(crate) spec: CronJobSpec,
    pub(crate) status: CronJobStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct CronJobSpec {
    pub(crate) schedule: String,
    pub(crate) time_zone: Option<String>,
    pub(crate) starting_deadline_seconds: Option<i64>,
    pub(crate) concurrency_policy: String,
    pub(crate) suspend: bool,
    pub(crate) successful_jobs_history_limit: Option<usize>,
    pub(crate) failed_jobs_history_limit: Option<usize>,
    pub(crate) job_template: Value,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct CronJobStatus {
    pub(crate) active: Vec<JobReference>,
    pub(crate) last_schedule_time: Option<Time>,
    pub(crate) last_successful_time: Option<Time>,
}

/// A Job that it started and that runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct JobReference {
    pub(crate) api_version: String,
    pub(crate) kind: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) resource_version: String,
}

partial_kind!(CronJob, "batch", "CronJob", "cronjobs", NamespaceResourceScope);
impl Kind for CronJob {}

impl CronJobStatus {
    /// Merge patch that makes the status this one.
    pub(crate) fn patch(&self) -> Value {
        let time = |at: &Option<Time>| at.as_ref().map(|time| seconds(time.0));
        json!({"status": {
            "active": Some(&self.active).filter(|active| !active.is_empty()),
            "lastScheduleTime": time(&self.last_schedule_time),
            "lastSuccessfulTime": time(&self.last_successful_time),
        }})
    }
}
