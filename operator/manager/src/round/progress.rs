//! How long rollouts take, and each pod in each phase of its update. For the figures only (metrics and the rollout's
//! report): nothing is decided on it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use afloat_api::{Status, Step, Steps, seconds};
use afloat_rollout::action::{Action, Why};
use afloat_rollout::pod::Pod;
use afloat_rollout::workload::observed::Plan;
use jiff::SignedDuration;

use crate::metrics::Metrics;

/// Of one workload.
#[derive(Default)]
pub(crate) struct Progress {
    /// The revision that is wanted.
    revision: String,
    /// When it was first seen, while the rollout lasts.
    since: Option<Instant>,
    /// Pods on their way, by uid.
    pods: HashMap<String, OnTheWay>,
    /// Writes since the revision was first seen.
    writes: u64,
    drain: Times,
    replace: Times,
    back: Times,
}

/// How long pods took for one phase.
#[derive(Clone, Copy, Default)]
struct Times {
    pods: u32,
    sum: Duration,
    max: Duration,
}

impl Times {
    fn add(&mut self, time: Duration) {
        self.pods += 1;
        self.sum += time;
        self.max = self.max.max(time);
    }

    fn step(self) -> Step {
        let text = |time: Duration| seconds(SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX));
        match self.sum.checked_div(self.pods) {
            None => Step::default(),
            Some(mean) => Step {
                pods: u64::from(self.pods),
                mean: text(mean),
                max: text(self.max),
            },
        }
    }
}

/// A pod on its way.
struct OnTheWay {
    name: String,
    phase: Phase,
    since: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Out of service, not changed yet.
    Drain,
    /// Changed, not back.
    Replace,
    /// Back, not Ready yet.
    Return,
}

impl Progress {
    /// Writes for the present revision.
    pub(crate) fn writes(&self) -> u64 {
        self.writes
    }

    /// How long pods took.
    pub(crate) fn steps(&self) -> Steps {
        Steps {
            drain: self.drain.step(),
            replace: self.replace.step(),
            back: self.back.step(),
        }
    }

    /// Takes note of what a plan saw. `here` finds the pod of a name.
    pub(crate) fn saw<'p, S: Status>(
        &mut self,
        plan: &Plan<S>,
        here: impl Fn(&str) -> Option<&'p Arc<Pod>>,
        metrics: &Metrics,
    ) {
        let revision = plan.status.update_revision();
        let done = plan.figures.updated_available >= plan.figures.expected;
        if self.revision != revision {
            // What was there when this instance began is no rollout that it has seen from its start.
            let known = !self.revision.is_empty();
            revision.clone_into(&mut self.revision);
            self.since = (known && !done).then(Instant::now);
            self.writes = 0;
            (self.drain, self.replace, self.back) = Default::default();
        } else if done && let Some(since) = self.since.take() {
            metrics.rolled_out(since.elapsed());
        }
        let back = &mut self.back;
        self.pods.retain(
            |uid, way| match here(&way.name).filter(|pod| pod.metadata.uid == *uid) {
                Some(pod) if way.phase == Phase::Return && pod.ready() => {
                    metrics.passed("return", way.since.elapsed());
                    back.add(way.since.elapsed());
                    false
                }
                found => found.is_some(),
            },
        );
    }

    /// Takes note of a write that was answered.
    pub(crate) fn wrote(&mut self, action: &Action, metrics: &Metrics) {
        self.writes += 1;
        let (at, why) = match action {
            Action::PatchPod { at, why, .. } | Action::PatchPodStatus { at, why, .. } => (at, *why),
            _ => return,
        };
        let before = self.pods.get(&at.uid).map(|way| (way.phase, way.since));
        let phase = match (why, before) {
            (Why::Drain, _) => Phase::Drain,
            (Why::Update, Some((Phase::Drain, since))) => {
                metrics.passed("drain", since.elapsed());
                self.drain.add(since.elapsed());
                Phase::Replace
            }
            (Why::Update, None) => Phase::Replace,
            (Why::Return | Why::Lifecycle, Some((Phase::Replace, since))) => {
                metrics.passed("replace", since.elapsed());
                self.replace.add(since.elapsed());
                Phase::Return
            }
            _ => return,
        };
        let way = OnTheWay {
            name: at.name.clone(),
            phase,
            since: Instant::now(),
        };
        self.pods.insert(at.uid.clone(), way);
    }
}
