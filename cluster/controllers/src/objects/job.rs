//! What the loops know of a Job.

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, Time};
use serde::Deserialize;
use serde_json::{Value, json};

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
    pub(crate) completion_mode: Option<String>,
    pub(crate) backoff_limit: Option<i32>,
    pub(crate) backoff_limit_per_index: Option<i32>,
    pub(crate) max_failed_indexes: Option<i32>,
    pub(crate) active_deadline_seconds: Option<i64>,
    pub(crate) ttl_seconds_after_finished: Option<i64>,
    pub(crate) suspend: bool,
    pub(crate) managed_by: Option<String>,
    pub(crate) pod_failure_policy: Option<PodFailurePolicy>,
    pub(crate) success_policy: Option<SuccessPolicy>,
    pub(crate) pod_replacement_policy: Option<String>,
    pub(crate) selector: LabelSelector,
    pub(crate) template: Value,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PodFailurePolicy {
    pub(crate) rules: Vec<FailureRule>,
}

/// The first rule that a failed pod matches says what its failure means.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct FailureRule {
    pub(crate) action: String,
    pub(crate) on_exit_codes: Option<OnExitCodes>,
    pub(crate) on_pod_conditions: Vec<OnPodCondition>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct OnExitCodes {
    pub(crate) container_name: Option<String>,
    pub(crate) operator: String,
    pub(crate) values: Vec<i32>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct OnPodCondition {
    #[serde(rename = "type")]
    pub(crate) type_: String,
    pub(crate) status: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct SuccessPolicy {
    pub(crate) rules: Vec<SuccessRule>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct SuccessRule {
    pub(crate) succeeded_indexes: Option<String>,
    pub(crate) succeeded_count: Option<i32>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct JobStatus {
    pub(crate) active: i32,
    pub(crate) ready: Option<i32>,
    pub(crate) terminating: Option<i32>,
    pub(crate) succeeded: i32,
    pub(crate) failed: i32,
    pub(crate) start_time: Option<Time>,
    pub(crate) completion_time: Option<Time>,
    pub(crate) completed_indexes: String,
    pub(crate) failed_indexes: Option<String>,
    pub(crate) uncounted_terminated_pods: Option<Uncounted>,
    pub(crate) conditions: Vec<JobCondition>,
}

/// UIDs of pods that have ended, are to be counted, and still have the finalizer that keeps them until then.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Uncounted {
    pub(crate) succeeded: Vec<String>,
    pub(crate) failed: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct JobCondition {
    #[serde(rename = "type")]
    pub(crate) type_: String,
    pub(crate) status: String,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) last_probe_time: Option<Time>,
    pub(crate) last_transition_time: Option<Time>,
}

partial_kind!(Job, "batch", "Job", "jobs", NamespaceResourceScope);
impl Kind for Job {}

impl Job {
    pub(crate) fn is_indexed(&self) -> bool {
        self.spec.completion_mode.as_deref() == Some("Indexed")
    }

    /// Whether somebody else than our controller runs it.
    pub(crate) fn is_managed_elsewhere(&self) -> bool {
        let manager = self.spec.managed_by.as_deref();
        manager.is_some_and(|name| name != "kubernetes.io/job-controller")
    }
}

impl JobStatus {
    /// The condition of this type, if it holds.
    pub(crate) fn holds(&self, type_: &str) -> Option<&JobCondition> {
        let mut conditions = self.conditions.iter();
        conditions.find(|condition| condition.type_ == type_ && condition.status == "True")
    }

    /// The condition that ended the Job.
    pub(crate) fn finished(&self) -> Option<&JobCondition> {
        self.holds("Complete").or_else(|| self.holds("Failed"))
    }

    /// Merge patch that makes the status this one.
    pub(crate) fn patch(&self) -> Value {
        let time = |at: &Option<Time>| at.as_ref().map(|time| seconds(time.0));
        let uids = |uids: &[String]| if uids.is_empty() { Value::Null } else { json!(uids) };
        let conditions: Vec<Value> = self.conditions.iter().map(JobCondition::json).collect();
        json!({"status": {
            "active": unless_zero(self.active), "ready": self.ready, "terminating": self.terminating,
            "succeeded": unless_zero(self.succeeded), "failed": unless_zero(self.failed),
            "startTime": time(&self.start_time), "completionTime": time(&self.completion_time),
            "completedIndexes": Some(&self.completed_indexes).filter(|text| !text.is_empty()),
            "failedIndexes": self.failed_indexes,
            "uncountedTerminatedPods": self.uncounted_terminated_pods.as_ref().map(|pods| json!({
                "succeeded": uids(&pods.succeeded), "failed": uids(&pods.failed),
            })),
            "conditions": if conditions.is_empty() { Value::Null } else { conditions.into() },
        }})
    }
}

impl JobCondition {
    fn json(&self) -> Value {
        let mut entry = json!({"type": self.type_, "status": self.status});
        for (key, text) in [("reason", &self.reason), ("message", &self.message)] {
            if !text.is_empty() {
                entry[key] = json!(text);
            }
        }
        for (key, at) in [
            ("lastProbeTime", &self.last_probe_time),
            ("lastTransitionTime", &self.last_transition_time),
        ] {
            entry[key] = json!(at.as_ref().map(|at| seconds(at.0)));
        }
        entry
    }
}
