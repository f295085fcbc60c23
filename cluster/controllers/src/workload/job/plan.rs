//! What to do next about a Job and its pods, as Kubernetes' own controller decides.
//!
//! A pod that has ended is counted exactly once, whatever is lost on the way: its UID is recorded in the status
//! (`uncountedTerminatedPods`, of an Indexed Job's success its index) while a finalizer keeps the pod; only then is the finalizer
//! taken away; and only from a recorded pod without it does the counter take over. Each of these is a turn of its own.

use std::sync::Arc;

use jiff::Timestamp;

use crate::Error;
use crate::objects::counts::count;
use crate::objects::time::{wake, whole_seconds};
use crate::objects::{Job, JobCondition, JobStatus, Pod};
use crate::workload::Plan;

use super::backoff::{after, due, due_after, finished_at};
use super::indexes::Indexes;
use super::observe::{Seen, claimed, failures_before, index_of};
use super::policy::{Failure, failure, succeeded_early};

/// Kubernetes' limit of pods that are made or deleted in one turn.
const BURST: usize = 500;

/// What to do about its pods, in this order.
#[derive(Default)]
pub(crate) struct Steps {
    pub(crate) adopt: Vec<Arc<Pod>>,
    pub(crate) release: Vec<Arc<Pod>>,
    /// Recorded or not to be counted: their finalizer goes.
    pub(crate) free: Vec<Arc<Pod>>,
    /// Too many: they are deleted and do not count.
    pub(crate) drop: Vec<Arc<Pod>>,
    /// The Job is at its end: they are deleted, and count as they end.
    pub(crate) stop: Vec<Arc<Pod>>,
    pub(crate) create: Vec<NewPod>,
}

/// A pod to make.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NewPod {
    /// Of an Indexed Job: for which completion.
    pub(crate) index: Option<usize>,
    /// Where each index has its limit: how many of its pods have failed, counted ones and others.
    pub(crate) failures: Option<(i32, i32)>,
}

/// The status to write.
#[derive(Default)]
pub(crate) struct Next {
    pub(crate) done: JobStatus,
    /// If not all steps could be done: what holds all the same.
    pub(crate) not_done: JobStatus,
}

/// Decides.
///
/// # Errors
/// If the selector cannot be read.
pub(crate) fn plan(job: &Job, candidates: &[Arc<Pod>], now: Timestamp) -> Result<Plan<Steps, Next>, Error> {
    if job.is_managed_elsewhere() || job.status.finished().is_some() {
        return Ok(Plan::default());
    }
    let claimed = claimed(job, candidates)?;
    let mut making = Making {
        seen: Seen::of(job, &claimed, now),
        steps: Steps::default(),
        end: None,
        status: job.status.clone(),
        wake_at: None,
    };
    (making.steps.adopt, making.steps.release) = (claimed.adopt, claimed.release);
    making.start();
    making.end = making
        .known_end()
        .or_else(|| making.failure())
        .or_else(|| making.end_of_indexes());
    making.manage();
    Ok(making.finish())
}

/// A plan in the making.
pub(super) struct Making<'a> {
    pub(super) seen: Seen<'a>,
    pub(super) steps: Steps,
    /// The condition that the Job comes to its end by.
    pub(super) end: Option<JobCondition>,
    pub(super) status: JobStatus,
    pub(super) wake_at: Option<Timestamp>,
}

impl Making<'_> {
    pub(super) fn condition(&self, type_: &str, reason: &str, message: &str) -> JobCondition {
        let now = Some(whole_seconds(self.seen.now));
        JobCondition {
            type_: type_.to_owned(),
            status: "True".to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            last_probe_time: now.clone(),
            last_transition_time: now,
        }
    }

    fn start(&mut self) {
        if !self.seen.job.spec.suspend && self.status.start_time.is_none() {
            self.status.start_time = Some(whole_seconds(self.seen.now));
        }
    }

    /// The end that was decided on before.
    fn known_end(&self) -> Option<JobCondition> {
        let status = &self.seen.job.status;
        if let Some(met) = status.holds("SuccessCriteriaMet") {
            return Some(met.clone());
        }
        let failed = status.holds("FailureTarget")?;
        Some(self.condition("Failed", &failed.reason, &failed.message))
    }

    /// The end by a failure of the whole.
    fn failure(&mut self) -> Option<JobCondition> {
        let (seen, spec) = (&self.seen, &self.seen.job.spec);
        let fails = |pod: &Arc<Pod>| match failure(seen.job, pod) {
            Failure::FailsJob(message) if seen.is_failed(pod) => Some(message),
            _ => None,
        };
        if let Some(message) = seen.pods.iter().find_map(fails) {
            return Some(self.condition("FailureTarget", "PodFailurePolicy", &message));
        }
        if seen.failed > spec.backoff_limit.unwrap_or(6) || self.restarts_too_often() {
            let message = "Job has reached the specified backoff limit";
            return Some(self.condition("FailureTarget", "BackoffLimitExceeded", message));
        }
        let start = self.status.start_time.as_ref().filter(|_| !spec.suspend)?.0;
        // One that goes on has its whole time again.
        let resumes = seen.job.status.holds("Suspended").is_some();
        let start = if resumes { seen.now } else { start };
        let deadline = after(start, spec.active_deadline_seconds?);
        if deadline <= seen.now {
            let message = "Job was active longer than specified deadline";
            return Some(self.condition("FailureTarget", "DeadlineExceeded", message));
        }
        wake(&mut self.wake_at, deadline);
        None
    }

    /// Where containers are restarted in their pods, restarts are failures.
    fn restarts_too_often(&self) -> bool {
        let spec = &self.seen.job.spec;
        if spec
            .template
            .pointer("/spec/restartPolicy")
            .and_then(|policy| policy.as_str())
            != Some("OnFailure")
        {
            return false;
        }
        let unfinished = self.seen.pods.iter().filter(|pod| !pod.is_finished());
        let ends = unfinished.filter_map(|pod| pod.status.ends.as_ref());
        let containers = ends.flat_map(|ends| ends.containers.iter().chain(&ends.init_containers));
        let restarts: i32 = containers.map(|container| container.restarts).sum();
        restarts >= spec.backoff_limit.unwrap_or(6).max(1)
    }

    /// The end by what has become of the indexes.
    fn end_of_indexes(&self) -> Option<JobCondition> {
        let (indexed, spec) = (self.seen.indexed.as_ref()?, &self.seen.job.spec);
        if let Some(failed) = &indexed.failed {
            let total = failed.total();
            let most = spec.max_failed_indexes.and_then(|most| usize::try_from(most).ok());
            if most.is_some_and(|most| total > most) {
                let message = "Job has exceeded the specified maximal number of failed indexes";
                return Some(self.condition("FailureTarget", "MaxFailedIndexesExceeded", message));
            }
            if total > 0 && total + indexed.succeeded.total() >= indexed.completions {
                return Some(self.condition("FailureTarget", "FailedIndexes", "Job has failed indexes"));
            }
        }
        let met = succeeded_early(self.seen.job, &indexed.succeeded, indexed.completions)?;
        Some(self.condition("SuccessCriteriaMet", "SuccessPolicy", &met))
    }

    /// Has pods made and deleted; may find that the Job is complete.
    fn manage(&mut self) {
        let job = self.seen.job;
        if self.end.is_some() {
            self.steps.stop.clone_from(&self.seen.active);
            return;
        }
        let lives = job.metadata.deletion_timestamp.is_none();
        if lives {
            self.resize();
        }
        let idle = self.seen.active.len() + self.steps.create.len() == self.steps.drop.len();
        let enough = match job.spec.completions {
            Some(completions) => self.seen.succeeded >= completions,
            // One success is enough, once the others have ended.
            None => self.seen.succeeded > 0,
        };
        if enough && idle {
            let message = "Reached expected number of succeeded pods";
            self.end = Some(self.condition("SuccessCriteriaMet", "CompletionsReached", message));
        } else if lives {
            self.tell_suspension();
        }
    }

    fn tell_suspension(&mut self) {
        let suspend = self.seen.job.spec.suspend;
        let known = self
            .status
            .conditions
            .iter()
            .position(|condition| condition.type_ == "Suspended");
        let wanted = if suspend {
            self.condition("Suspended", "JobSuspended", "Job suspended")
        } else {
            let resumed = self.condition("Suspended", "JobResumed", "Job resumed");
            JobCondition {
                status: "False".to_owned(),
                ..resumed
            }
        };
        match known {
            Some(at) if self.status.conditions[at].status == wanted.status => return,
            Some(at) => self.status.conditions[at] = wanted,
            None if suspend => self.status.conditions.push(wanted),
            None => return,
        }
        // The deadline counts from when it goes on.
        if !suspend {
            self.status.start_time = Some(whole_seconds(self.seen.now));
        }
    }

    /// As many pods as there are to be.
    fn resize(&mut self) {
        let (seen, spec) = (&self.seen, &self.seen.job.spec);
        let active = count(seen.active.len());
        let parallelism = spec.parallelism.unwrap_or(1);
        let wanted = match spec.completions {
            _ if spec.suspend => 0,
            Some(completions) => (completions - seen.succeeded).min(parallelism).max(0),
            None if seen.succeeded > 0 => active,
            None => parallelism,
        };
        let surplus = self.surplus(usize::try_from(active - wanted).unwrap_or(0));
        if spec.suspend || !surplus.is_empty() {
            self.steps.drop = surplus;
            if !spec.suspend {
                self.steps.drop.truncate(BURST);
            }
            return;
        }
        let ending = if seen.replaces_failed_only() {
            count(seen.terminating.len())
        } else {
            0
        };
        let missing = usize::try_from(wanted - active - ending).unwrap_or(0).min(BURST);
        if missing > 0 {
            self.create(missing);
        }
    }

    /// Pods that are too many: of an Indexed Job all without a place of their own, and so many that `at_least` go.
    fn surplus(&self, at_least: usize) -> Vec<Arc<Pod>> {
        let mut left = self.seen.active.clone();
        // Those that are furthest come last.
        left.sort_by_key(|pod| {
            let phase = match pod.status.phase.as_str() {
                "Running" => 2,
                "Unknown" => 1,
                _ => 0,
            };
            let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
            let newest = (
                std::cmp::Reverse(pod.ready_since()),
                std::cmp::Reverse(pod.restarts()),
                std::cmp::Reverse(created),
            );
            (pod.node().is_some(), phase, pod.is_ready(), newest)
        });
        let mut surplus = Vec::new();
        if self.seen.indexed.is_some() {
            let mut places = Indexes::default();
            let mut keeps = Vec::new();
            for pod in left.into_iter().rev() {
                match index_of(&pod).filter(|index| self.seen.has_place(&pod) && !places.contains(*index)) {
                    Some(index) => {
                        places.add(index);
                        keeps.insert(0, pod);
                    }
                    None => surplus.push(pod),
                }
            }
            left = keeps;
        }
        let more = at_least.saturating_sub(surplus.len());
        surplus.extend(left.into_iter().take(more));
        surplus
    }

    /// Pods to make, unless it is too early after a failure.
    fn create(&mut self, missing: usize) {
        let seen = &self.seen;
        let each = seen.job.spec.backoff_limit_per_index.is_some();
        if !each {
            let failed = seen
                .pods
                .iter()
                .filter(|pod| seen.has_place(pod) && seen.is_failed(pod));
            let failed = failed.filter(|pod| pod.is_tracked() || pod.is_finished());
            let succeeded = seen.pods.iter().filter(|pod| pod.status.phase == "Succeeded");
            if let Some(due) = due_after(failed, succeeded).filter(|due| *due > seen.now) {
                wake(&mut self.wake_at, due);
                return;
            }
        }
        let Some(indexed) = &seen.indexed else {
            self.steps.create = vec![NewPod::default(); missing];
            return;
        };
        let mut taken = indexed.succeeded.clone();
        taken.merge(&seen.active.iter().filter_map(|pod| index_of(pod)).collect());
        if seen.replaces_failed_only() {
            taken.merge(&seen.terminating.iter().filter_map(|pod| index_of(pod)).collect());
        }
        if let Some(failed) = &indexed.failed {
            taken.merge(failed);
        }
        for index in taken.missing(missing, indexed.completions) {
            let before = indexed.waiting.get(&index);
            let failures = each.then(|| before.map_or((0, 0), |pod| failures_with(seen.job, pod)));
            let early = before.map(|pod| {
                let (counted, ignored) = failures_before(pod);
                due(usize::try_from(counted + ignored).unwrap_or(0) + 1, finished_at(pod))
            });
            match early.filter(|due| *due > seen.now) {
                Some(due) => wake(&mut self.wake_at, due),
                None => self.steps.create.push(NewPod {
                    index: Some(index),
                    failures,
                }),
            }
        }
    }
}

/// How many pods of its index have failed with this one, counted ones and others.
fn failures_with(job: &Job, pod: &Pod) -> (i32, i32) {
    let (counted, ignored) = failures_before(pod);
    if failure(job, pod).counts() {
        (counted + 1, ignored)
    } else {
        (counted, ignored + 1)
    }
}
