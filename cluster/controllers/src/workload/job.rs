//! Jobs: pods that run until enough of them have succeeded.
//!
//! Pods are counted as they are found, without Kubernetes' tracking finalizer: a finished pod that somebody deletes before the
//! Job is done counts no more. Indexed completion and pod failure policies are not supported.

use std::sync::Arc;

use afloat_watching::{Cache, Queue};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::Error;
use crate::context::Caches;
use crate::loops::events::Tone;
use crate::objects::counts::count;
use crate::objects::time::{wake, whole_seconds};
use crate::objects::{Condition, Job, JobSpec, JobStatus, Pod, controlled_by};

use super::ownership::follow_pods_of;
use super::template::pod_from_template;
use super::{Decision, Look, Plan, PlanOf, Turn, Workload};

/// Delay after the first failure; it doubles with each, up to the last: as documented.
const RETRY_FIRST_SECONDS: i64 = 10;
const RETRY_LAST_SECONDS: i64 = 600;

/// What to do about its pods, and about itself.
#[derive(Default)]
pub(crate) struct Steps {
    pub(crate) create: usize,
    pub(crate) delete: Vec<Arc<Pod>>,
    /// Its time after the end is over.
    pub(crate) delete_job: bool,
}

fn after(since: Timestamp, seconds: i64) -> Timestamp {
    since
        .checked_add(SignedDuration::from_secs(seconds))
        .unwrap_or(Timestamp::MAX)
}

fn finished(status: &JobStatus) -> Option<&Condition> {
    status
        .conditions
        .iter()
        .find(|condition| matches!(condition.type_.as_str(), "Complete" | "Failed") && condition.status == "True")
}

/// Decides.
pub(crate) fn plan(job: &Job, pods: &[Arc<Pod>], now: Timestamp) -> Plan<Steps, JobStatus> {
    let mut plan = Plan::default();
    if job.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    if let Some(end) = finished(&job.status) {
        if let (Some(ttl), Some(at)) = (job.spec.ttl_seconds_after_finished, &end.last_transition_time) {
            let due = after(at.0, ttl);
            if due <= now {
                plan.steps.delete_job = true;
            } else {
                wake(&mut plan.wake_at, due);
            }
        }
        return plan;
    }
    let status = run(job, pods, now, &mut plan);
    plan.status = (status != job.status).then_some(status);
    plan
}

/// Of a Job that has not ended: has its pods made and deleted, and returns its status.
fn run(job: &Job, pods: &[Arc<Pod>], now: Timestamp, plan: &mut Plan<Steps, JobStatus>) -> JobStatus {
    let spec = &job.spec;
    let active: Vec<Arc<Pod>> = pods.iter().filter(|pod| pod.is_active()).cloned().collect();
    let failed: Vec<&Arc<Pod>> = pods.iter().filter(|pod| pod.status.phase == "Failed").collect();
    let succeeded = count(pods.iter().filter(|pod| pod.status.phase == "Succeeded").count());
    let mut status = JobStatus {
        active: count(active.len()),
        ready: count(active.iter().filter(|pod| pod.is_ready()).count()),
        succeeded,
        failed: count(failed.len()),
        ..job.status.clone()
    };
    if spec.suspend {
        set(&mut status, ("Suspended", "JobSuspended", "Job suspended"), now);
        status.start_time = None;
        plan.steps.delete = active;
        return status;
    }
    status.conditions.retain(|condition| condition.type_ != "Suspended");
    let start = status.start_time.get_or_insert_with(|| whole_seconds(now)).0;
    let deadline = spec.active_deadline_seconds.map(|seconds| after(start, seconds));
    if let Some(outcome) = outcome(spec, &status, &active, deadline.is_some_and(|due| due <= now)) {
        if outcome.0 == "Complete" {
            status.completion_time = Some(whole_seconds(now));
        }
        set(&mut status, outcome, now);
        (status.active, status.ready) = (0, 0);
        plan.steps.delete = active;
        return status;
    }
    if let Some(due) = deadline {
        wake(&mut plan.wake_at, due);
    }
    resize(spec, succeeded, active, &failed, now, plan);
    status
}

/// Type, reason and message of the condition that ends the Job, if it ends now.
fn outcome(
    spec: &JobSpec,
    status: &JobStatus,
    active: &[Arc<Pod>],
    overdue: bool,
) -> Option<(&'static str, &'static str, &'static str)> {
    let restarts: i32 = active.iter().map(|pod| pod.restarts()).sum();
    let limit = spec.backoff_limit.unwrap_or(6);
    // Without a number of completions, one success lets the others end and no new one start.
    let done = match spec.completions {
        Some(wanted) => status.succeeded >= wanted,
        None => status.succeeded > 0 && active.is_empty(),
    };
    if done {
        Some((
            "Complete",
            "CompletionsReached",
            "Reached expected number of succeeded pods",
        ))
    } else if overdue {
        Some((
            "Failed",
            "DeadlineExceeded",
            "Job was active longer than specified deadline",
        ))
    } else if status.failed > limit || restarts > limit {
        Some((
            "Failed",
            "BackoffLimitExceeded",
            "Job has reached the specified backoff limit",
        ))
    } else {
        None
    }
}

fn set(status: &mut JobStatus, (type_, reason, message): (&str, &str, &str), now: Timestamp) {
    if !status.conditions.iter().any(|condition| condition.type_ == type_) {
        status.conditions.push(Condition {
            type_: type_.to_owned(),
            status: "True".to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            last_transition_time: Some(whole_seconds(now)),
            ..Condition::default()
        });
    }
}

fn resize(
    spec: &JobSpec,
    succeeded: i32,
    mut active: Vec<Arc<Pod>>,
    failed: &[&Arc<Pod>],
    now: Timestamp,
    plan: &mut Plan<Steps, JobStatus>,
) {
    let parallelism = spec.parallelism.unwrap_or(1).max(0);
    let wanted = match spec.completions {
        Some(completions) => parallelism.min(completions - succeeded),
        None if succeeded > 0 => count(active.len()).min(parallelism),
        None => parallelism,
    };
    let wanted = usize::try_from(wanted).unwrap_or(0);
    if active.len() > wanted {
        active.sort_by_key(|pod| (pod.node().is_some(), pod.is_ready()));
        active.truncate(active.len() - wanted);
        plan.steps.delete = active;
        return;
    }
    let missing = wanted - active.len();
    let last = failed.iter().filter_map(|pod| ended(pod)).max();
    if let Some(last) = last.filter(|_| missing > 0) {
        let doublings = u32::try_from(failed.len().saturating_sub(1))
            .unwrap_or(u32::MAX)
            .min(10);
        let due = after(last, (RETRY_FIRST_SECONDS << doublings).min(RETRY_LAST_SECONDS));
        if due > now {
            wake(&mut plan.wake_at, due);
            return;
        }
    }
    plan.steps.create = missing;
}

/// When a pod ended, as near as we know: its readiness changed then.
fn ended(pod: &Pod) -> Option<Timestamp> {
    let ready = pod
        .condition("Ready")
        .and_then(|condition| condition.last_transition_time.as_ref());
    ready.or(pod.metadata.creation_timestamp.as_ref()).map(|time| time.0)
}

impl Workload for Job {
    type Steps = Steps;
    type Status = JobStatus;

    fn cache(caches: &Caches) -> &Arc<Cache<Self>> {
        &caches.jobs
    }

    async fn watch(caches: &Caches, queue: &Arc<Queue>) {
        caches.pods.ready().await;
        follow_pods_of::<Self>(queue, &caches.pods);
    }

    async fn decide(look: &Look<'_, Self>) -> Decision<Self> {
        Ok(Some(plan(
            &look.object,
            &look.owned(&look.context.caches.pods),
            look.now,
        )))
    }

    async fn act(turn: &mut Turn<'_, Self>, steps: &Steps) -> Result<(), Error> {
        if steps.delete_job {
            let (shell, jobs) = (&turn.context.shell, &turn.context.caches.jobs);
            return shell.delete(&turn.writing, jobs, &turn.meta, None).await;
        }
        for _ in 0..steps.create {
            turn.create_pod(pod(&turn.object)).await?;
        }
        for pod in &steps.delete {
            turn.delete_pod(pod).await?;
        }
        Ok(())
    }

    fn status_patch(&self, status: &JobStatus) -> Value {
        status.patch()
    }

    async fn finish(turn: &Turn<'_, Self>, plan: &PlanOf<Self>, told: bool) -> Result<(), Error> {
        if let Some(next) = plan.status.as_ref().filter(|_| told) {
            tell(turn, next);
        }
        Ok(())
    }
}

/// Tells what has become of the Job.
fn tell(turn: &Turn<'_, Job>, next: &JobStatus) {
    let before = &turn.object.status.conditions;
    let known = |type_: &str| before.iter().any(|condition| condition.type_ == type_);
    for condition in next.conditions.iter().filter(|condition| !known(&condition.type_)) {
        let (tone, reason, message) = match (condition.type_.as_str(), condition.reason.as_str()) {
            ("Complete", _) => (Tone::Normal, "Completed", "Job completed"),
            ("Suspended", _) => (Tone::Normal, "Suspended", "Job suspended"),
            (_, "DeadlineExceeded") => (Tone::Warning, "DeadlineExceeded", condition.message.as_str()),
            _ => (Tone::Warning, "BackoffLimitExceeded", condition.message.as_str()),
        };
        turn.event(tone, reason, message.to_owned());
    }
    if known("Suspended") && !next.conditions.iter().any(|condition| condition.type_ == "Suspended") {
        turn.event(Tone::Normal, "Resumed", "Job resumed".to_owned());
    }
}

fn pod(job: &Job) -> Value {
    let namespace = job.metadata.namespace.as_deref().unwrap_or_default();
    let mut pod = pod_from_template(&job.spec.template, namespace, controlled_by::<Job>(&job.metadata));
    let name = job.metadata.name.as_deref().unwrap_or_default();
    pod["metadata"]["generateName"] = json!(format!("{name}-"));
    for prefix in ["", "batch.kubernetes.io/"] {
        pod["metadata"]["labels"][format!("{prefix}job-name")] = json!(name);
        pod["metadata"]["labels"][format!("{prefix}controller-uid")] = json!(job.metadata.uid);
    }
    pod
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(spec: Value) -> Job {
        serde_json::from_value(json!({"metadata": {"name": "j", "namespace": "n", "uid": "u"}, "spec": spec})).unwrap()
    }

    fn pods(phases: &[&str]) -> Vec<Arc<Pod>> {
        let make = |(at, phase): (usize, &&str)| {
            Arc::new(
                serde_json::from_value(json!({"metadata": {"name": format!("p{at}"), "uid": format!("p{at}"),
                    "creationTimestamp": "1970-01-01T00:00:00Z"}, "status": {"phase": phase}}))
                .unwrap(),
            )
        };
        phases.iter().enumerate().map(make).collect()
    }

    fn decide(spec: Value, phases: &[&str], now: i64) -> Plan<Steps, JobStatus> {
        plan(&job(spec), &pods(phases), Timestamp::from_second(now).unwrap())
    }

    #[test]
    fn as_many_at_a_time_as_asked_until_enough_succeeded() {
        let spec = || json!({"parallelism": 2, "completions": 3});
        assert_eq!(decide(spec(), &[], 0).steps.create, 2);
        assert_eq!(decide(spec(), &["Succeeded", "Running"], 0).steps.create, 1);
        assert_eq!(
            decide(spec(), &["Succeeded", "Succeeded", "Running"], 0).steps.create,
            0
        );
        let done = decide(spec(), &["Succeeded", "Succeeded", "Succeeded"], 0);
        assert_eq!(
            (done.steps.create, done.status.unwrap().conditions[0].type_.as_str()),
            (0, "Complete")
        );
    }

    #[test]
    fn failures_are_retried_later_and_not_for_ever() {
        let spec = || json!({"completions": 1, "backoffLimit": 1});
        let early = decide(spec(), &["Failed"], 5);
        assert_eq!(
            (early.steps.create, early.wake_at),
            (0, Some(Timestamp::from_second(10).unwrap()))
        );
        assert_eq!(decide(spec(), &["Failed"], 10).steps.create, 1);
        let over = decide(spec(), &["Failed", "Failed"], 100);
        assert_eq!(over.status.unwrap().conditions[0].reason, "BackoffLimitExceeded");
    }

    #[test]
    fn a_suspended_job_has_no_pods_and_a_finished_one_goes_in_time() {
        assert_eq!(decide(json!({"suspend": true}), &["Running"], 0).steps.delete.len(), 1);
        let mut job = job(json!({"completions": 1, "ttlSecondsAfterFinished": 60}));
        job.status = plan(&job, &pods(&["Succeeded"]), Timestamp::UNIX_EPOCH).status.unwrap();
        assert!(!plan(&job, &[], Timestamp::from_second(59).unwrap()).steps.delete_job);
        assert!(plan(&job, &[], Timestamp::from_second(60).unwrap()).steps.delete_job);
    }
}
