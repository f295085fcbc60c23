//! The second half of a Job's plan: which pods are recorded, freed and counted, and the status that comes of it.

use std::sync::Arc;

use crate::objects::counts::count;
use crate::objects::{JobStatus, Pod, Uncounted};
use crate::workload::Plan;

use super::observe::index_of;
use super::plan::{Making, Next, Steps};
use super::policy::failure;

/// Kubernetes' limit of UIDs in the status.
const UNCOUNTED_MOST: usize = 500;

/// What is to be done about the finalizer of a pod.
enum Account {
    /// It stays: the pod has not ended, or the status that is written now says first that it has.
    Waits,
    /// It goes: the status knows, or has nothing to know.
    Free,
    Succeeded,
    Failed,
}

impl Making<'_> {
    /// The plan.
    pub(super) fn finish(mut self) -> Plan<Steps, Next> {
        let (uncounted, all) = self.record();
        let mut base = self.status.clone();
        match &self.seen.indexed {
            Some(indexed) => {
                base.succeeded = count(indexed.succeeded.total());
                base.completed_indexes = indexed.succeeded.to_string();
                base.failed_indexes = indexed.failed.as_ref().map(ToString::to_string);
            }
            None => base.succeeded += count(self.seen.freed.0),
        }
        base.failed += count(self.seen.freed.1);
        base.uncounted_terminated_pods = Some(uncounted);
        let not_done = self.with_pods(base.clone(), false);
        let mut done = self.with_pods(base, true);
        self.count_freed(&mut done);
        self.end(&mut done, all);
        let next = Next { done, not_done };
        Plan {
            steps: self.steps,
            status: Some(next).filter(|next| next.done != self.seen.job.status),
            wake_at: self.wake_at,
        }
    }

    /// Finds the pods whose finalizer goes now, and those to record before. False beside them: not all found room.
    fn record(&mut self) -> (Uncounted, bool) {
        let (mut uncounted, mut all) = (self.seen.uncounted.clone(), true);
        let has = |pods: &[Arc<Pod>], pod: &Pod| pods.iter().any(|one| one.uid() == pod.uid());
        let mut free = Vec::new();
        for pod in self
            .seen
            .pods
            .iter()
            .filter(|pod| pod.is_tracked() && !has(&self.steps.drop, pod))
        {
            let room = uncounted.succeeded.len() + uncounted.failed.len() < UNCOUNTED_MOST;
            match self.account(pod) {
                Account::Waits => {}
                Account::Free if has(&self.steps.stop, pod) || has(&self.steps.adopt, pod) => {}
                Account::Free => free.push(pod.clone()),
                Account::Succeeded if room => uncounted.succeeded.push(pod.uid().to_owned()),
                Account::Failed if room => uncounted.failed.push(pod.uid().to_owned()),
                Account::Succeeded | Account::Failed => all = false,
            }
        }
        self.steps.free = free;
        (uncounted, all)
    }

    fn account(&self, pod: &Pod) -> Account {
        let (seen, job) = (&self.seen, self.seen.job);
        let known = |uids: &[String]| uids.iter().any(|uid| uid == pod.uid());
        let succeeded = pod.status.phase == "Succeeded";
        // What is stopped because the Job has succeeded has not failed.
        let done = self.end.as_ref().is_some_and(|end| end.type_ == "SuccessCriteriaMet");
        let failed = if done {
            pod.status.phase == "Failed" && !pod.is_terminating()
        } else {
            seen.is_failed(pod)
        };
        let leaving = job.metadata.deletion_timestamp.is_some();
        if !(leaving || self.end.is_some() || succeeded || failed && !self.is_awaited(pod)) {
            return Account::Waits;
        }
        if succeeded && !known(&seen.uncounted.failed) {
            return match &seen.indexed {
                Some(indexed) => match index_of(pod).filter(|_| seen.has_place(pod)) {
                    Some(index) if !indexed.stored.contains(index) => Account::Waits,
                    _ => Account::Free,
                },
                None if known(&seen.uncounted.succeeded) => Account::Free,
                None => Account::Succeeded,
            };
        }
        // When the Job fails, so has every pod that has not ended.
        if failed || self.end.is_some() && !done {
            let counts = seen.has_place(pod) && failure(job, pod).counts();
            return if known(&seen.uncounted.failed) || !counts {
                Account::Free
            } else {
                Account::Failed
            };
        }
        if leaving || job.status.holds("SuccessCriteriaMet").is_some() {
            Account::Free
        } else {
            Account::Waits
        }
    }

    /// Whether the pod that takes its place has still to learn from it.
    fn is_awaited(&self, pod: &Pod) -> bool {
        let waiting = self.seen.indexed.as_ref().map(|indexed| &indexed.waiting);
        let awaited = waiting
            .zip(index_of(pod))
            .and_then(|(waiting, index)| waiting.get(&index));
        awaited.is_some_and(|awaited| awaited.uid() == pod.uid())
    }

    /// The status with the numbers of pods: as they are, or as they will be.
    fn with_pods(&self, mut status: JobStatus, done: bool) -> JobStatus {
        let ready = |pods: &[Arc<Pod>]| count(pods.iter().filter(|pod| pod.is_ready()).count());
        let (seen, steps) = (&self.seen, &self.steps);
        status.active = count(seen.active.len());
        let (mut ready_now, mut terminating) = (ready(&seen.active), count(seen.terminating.len()));
        if done {
            let going = count(steps.drop.len() + steps.stop.len());
            status.active += count(steps.create.len()) - going;
            terminating += going;
            ready_now -= ready(&steps.drop) + ready(&steps.stop);
        }
        (status.ready, status.terminating) = (Some(ready_now), Some(terminating));
        status
    }

    /// What has lost its finalizer is counted.
    fn count_freed(&self, status: &mut JobStatus) {
        let Some(uncounted) = &mut status.uncounted_terminated_pods else {
            return;
        };
        for pod in &self.steps.free {
            let take = |uids: &mut Vec<String>| {
                let before = uids.len();
                uids.retain(|uid| uid != pod.uid());
                count(before - uids.len())
            };
            status.succeeded += take(&mut uncounted.succeeded);
            status.failed += take(&mut uncounted.failed);
        }
    }

    /// The conditions of the end: first which end it will be, and once that is stored and all pods have ended and are counted, the end
    /// itself.
    fn end(&self, status: &mut JobStatus, all: bool) {
        let Some(end) = &self.end else {
            return;
        };
        let stored = &self.seen.job.status;
        if end.type_ != "Failed" && stored.holds(&end.type_).is_none() {
            status.conditions.push(end.clone());
            return;
        }
        let uncounted = status.uncounted_terminated_pods.as_ref();
        let counted = uncounted.is_none_or(|pods| pods.succeeded.is_empty() && pods.failed.is_empty());
        if !all || !counted || status.terminating.unwrap_or(0) > 0 || status.active > 0 {
            return;
        }
        let type_ = if end.type_ == "Failed" { "Failed" } else { "Complete" };
        let last = self.condition(type_, &end.reason, &end.message);
        if type_ == "Complete" {
            status.completion_time.clone_from(&last.last_transition_time);
        }
        status.conditions.push(last);
    }
}
