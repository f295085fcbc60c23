//! What a Job's decision is made from: its pods by what they are to it, and how many have come to which end.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use crate::Error;
use crate::objects::counts::count;
use crate::objects::pod::{COMPLETION_INDEX, INDEX_FAILURES, INDEX_IGNORED_FAILURES, JOB_TRACKING};
use crate::objects::selector::Labels;
use crate::objects::{Job, Pod, Uncounted, annotation};
use crate::workload::ownership::{Claimed, claim};

use super::indexes::Indexes;
use super::policy::{Failure, failure};

/// A Job and its pods at one time.
pub(super) struct Seen<'a> {
    pub(super) job: &'a Job,
    pub(super) now: Timestamp,
    /// Its own, those that it adopts among them; of an Indexed Job in the order of their indexes.
    pub(super) pods: Vec<Arc<Pod>>,
    pub(super) active: Vec<Arc<Pod>>,
    /// Own pods that are being deleted and have not ended.
    pub(super) terminating: Vec<Arc<Pod>>,
    /// Recorded in its status as ended and not counted, as far as they still have their finalizer.
    pub(super) uncounted: Uncounted,
    /// Recorded, and without finalizer by now: to be counted.
    pub(super) freed: (usize, usize),
    /// How many have succeeded and failed, the uncounted among them.
    pub(super) succeeded: i32,
    pub(super) failed: i32,
    pub(super) indexed: Option<Indexed>,
}

/// What there is of an Indexed Job besides.
pub(super) struct Indexed {
    pub(super) completions: usize,
    /// Succeeded, by the status.
    pub(super) stored: Indexes,
    pub(super) succeeded: Indexes,
    /// Not to be tried again; none if the Job has no limit for each index.
    pub(super) failed: Option<Indexes>,
    /// Failed pods that stay until the pod that takes their place knows how many have failed before it.
    pub(super) waiting: BTreeMap<usize, Arc<Pod>>,
}

/// Says which pods are the Job's. One that was stored before selectors were made has those that it controls.
pub(super) fn claimed(job: &Job, candidates: &[Arc<Pod>]) -> Result<Claimed<Pod>, Error> {
    let selector = &job.spec.selector;
    let labels = Labels::parse(selector)?;
    let selects = !Labels::is_empty(selector);
    Ok(claim(&job.metadata, &labels, candidates, |pod: &Pod| {
        selects && !pod.is_terminating()
    }))
}

/// An adopted pod, as it is going to be.
fn with_finalizer(pod: &Arc<Pod>) -> Arc<Pod> {
    if pod.is_tracked() {
        return pod.clone();
    }
    let mut tracked = Pod::clone(pod);
    tracked
        .metadata
        .finalizers
        .get_or_insert_default()
        .push(JOB_TRACKING.to_owned());
    Arc::new(tracked)
}

/// Which of an Indexed Job's completions the pod is for.
pub(super) fn index_of(pod: &Pod) -> Option<usize> {
    annotation(&pod.metadata, COMPLETION_INDEX)?.parse().ok()
}

/// How many pods of its index had failed before it, counted ones and others.
pub(super) fn failures_before(pod: &Pod) -> (i32, i32) {
    let number = |name| {
        let text = annotation(&pod.metadata, name).and_then(|text| text.parse().ok());
        text.filter(|number: &i32| *number >= 0).unwrap_or(0)
    };
    (number(INDEX_FAILURES), number(INDEX_IGNORED_FAILURES))
}

impl<'a> Seen<'a> {
    pub(super) fn of(job: &'a Job, claimed: &Claimed<Pod>, now: Timestamp) -> Self {
        let adopted = claimed.adopt.iter().map(with_finalizer);
        let mut pods: Vec<Arc<Pod>> = claimed.own.iter().cloned().chain(adopted).collect();
        if job.is_indexed() {
            pods.sort_by_key(|pod| index_of(pod));
        }
        let stored = job.status.uncounted_terminated_pods.clone().unwrap_or_default();
        let still = |uids: &[String]| -> Vec<String> {
            let has = |uid: &&String| pods.iter().any(|pod| pod.is_tracked() && pod.uid() == uid.as_str());
            uids.iter().filter(has).cloned().collect()
        };
        let uncounted = Uncounted {
            succeeded: still(&stored.succeeded),
            failed: still(&stored.failed),
        };
        let mut seen = Self {
            job,
            now,
            active: pods.iter().filter(|pod| pod.is_active()).cloned().collect(),
            terminating: pods
                .iter()
                .filter(|pod| pod.is_terminating() && !pod.is_finished())
                .cloned()
                .collect(),
            freed: (
                stored.succeeded.len() - uncounted.succeeded.len(),
                stored.failed.len() - uncounted.failed.len(),
            ),
            uncounted,
            pods,
            succeeded: 0,
            failed: 0,
            indexed: None,
        };
        seen.indexed = seen.indexes();
        (seen.succeeded, seen.failed) = seen.ended(&stored);
        seen
    }

    /// How many have succeeded and failed.
    fn ended(&self, stored: &Uncounted) -> (i32, i32) {
        let new = |uids: &[String], ended: &dyn Fn(&Pod) -> bool| {
            let counts = |pod: &&Arc<Pod>| {
                let known = uids.iter().any(|uid| uid == pod.uid());
                pod.is_tracked() && !known && self.has_place(pod) && ended(pod)
            };
            count(self.pods.iter().filter(counts).count())
        };
        let status = &self.job.status;
        let succeeded = match &self.indexed {
            Some(indexed) => count(indexed.succeeded.total()),
            None => {
                let new = new(&self.uncounted.succeeded, &|pod| pod.status.phase == "Succeeded");
                status.succeeded + count(stored.succeeded.len()) + new
            }
        };
        let new = new(&self.uncounted.failed, &|pod| {
            self.is_failed(pod) && failure(self.job, pod).counts()
        });
        (succeeded, status.failed + count(stored.failed.len()) + new)
    }

    fn indexes(&self) -> Option<Indexed> {
        let job = self.job;
        let completions = usize::try_from(job.spec.completions?)
            .ok()
            .filter(|_| job.is_indexed())?;
        let of = |wanted: &dyn Fn(&Pod) -> bool| -> Indexes {
            let tracked = self.pods.iter().filter(|pod| pod.is_tracked() && wanted(pod));
            tracked
                .filter_map(|pod| index_of(pod).filter(|index| *index < completions))
                .collect()
        };
        let stored = Indexes::parse(&job.status.completed_indexes, completions);
        let mut succeeded = of(&|pod| pod.status.phase == "Succeeded");
        succeeded.merge(&stored);
        let failed = job.spec.backoff_limit_per_index.map(|limit| {
            let known = job.status.failed_indexes.as_deref().unwrap_or_default();
            let mut failed = of(&|pod| self.is_failed(pod) && at_its_end(job, pod, limit));
            failed.merge(&Indexes::parse(known, completions));
            failed
        });
        let mut indexed = Indexed {
            completions,
            stored,
            succeeded,
            failed,
            waiting: BTreeMap::new(),
        };
        if let Some(failed) = &indexed.failed {
            indexed.waiting = self.waiting(&indexed, failed);
        }
        Some(indexed)
    }

    /// For each index that is to be tried again the failed pod that knows most of its failures.
    fn waiting(&self, indexed: &Indexed, failed: &Indexes) -> BTreeMap<usize, Arc<Pod>> {
        let active: Indexes = self.active.iter().filter_map(|pod| index_of(pod)).collect();
        let mut waiting: BTreeMap<usize, Arc<Pod>> = BTreeMap::new();
        for pod in self.pods.iter().filter(|pod| pod.is_tracked() && self.is_failed(pod)) {
            let Some(index) = index_of(pod).filter(|index| *index < indexed.completions) else {
                continue;
            };
            if indexed.succeeded.contains(index) || failed.contains(index) || active.contains(index) {
                continue;
            }
            let knows = |pod: &Pod| {
                let (counted, ignored) = failures_before(pod);
                (counted + ignored, super::backoff::finished_at(pod))
            };
            let known = waiting.entry(index).or_insert_with(|| pod.clone());
            if knows(pod) > knows(known) {
                *known = pod.clone();
            }
        }
        waiting
    }

    /// Whether it is for a completion that there is, or the Job has no indexes.
    pub(super) fn has_place(&self, pod: &Pod) -> bool {
        match &self.indexed {
            Some(indexed) => index_of(pod).is_some_and(|index| index < indexed.completions),
            None => true,
        }
    }

    /// Whether pods are replaced only once they have ended, not while they are being deleted.
    pub(super) fn replaces_failed_only(&self) -> bool {
        let spec = &self.job.spec;
        spec.pod_failure_policy.is_some() || spec.pod_replacement_policy.as_deref() == Some("Failed")
    }

    pub(super) fn is_failed(&self, pod: &Pod) -> bool {
        let phase = pod.status.phase.as_str();
        phase == "Failed" || (!self.replaces_failed_only() && pod.is_terminating() && phase != "Succeeded")
    }
}

/// Whether with this failed pod its index has failed.
fn at_its_end(job: &Job, pod: &Pod, limit: i32) -> bool {
    match failure(job, pod) {
        Failure::FailsIndex => true,
        Failure::Ignored => false,
        Failure::Counts | Failure::FailsJob(_) => failures_before(pod).0 >= limit,
    }
}
