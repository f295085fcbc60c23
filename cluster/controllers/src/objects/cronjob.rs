//! What the loops know of a CronJob.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use afloat_watching::content::Change;
use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::kind::{Kind, partial_kind, uid_of};
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

/// When the schedules became others, of CronJobs that are there, by UID: a time of the new one that was before is not made up for.
#[derive(Default)]
pub(crate) struct Rescheduled(Mutex<HashMap<String, Timestamp>>);

impl Rescheduled {
    /// Takes a change of a CronJob that was seen at this time.
    pub(crate) fn note(&self, change: &Change<CronJob>, now: Timestamp) {
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match (&change.old, &change.new) {
            (Some(old), Some(new)) if uid_of(&old.metadata) == uid_of(&new.metadata) => {
                if (&old.spec.schedule, &old.spec.time_zone) != (&new.spec.schedule, &new.spec.time_zone) {
                    times.insert(uid_of(&new.metadata).to_owned(), now);
                }
            }
            (Some(old), _) => drop(times.remove(uid_of(&old.metadata))),
            (None, _) => {}
        }
    }

    /// When its schedule became what it is, if it was another before.
    pub(crate) fn of(&self, cron_job: &CronJob) -> Option<Timestamp> {
        let times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        times.get(uid_of(&cron_job.metadata)).copied()
    }
}
