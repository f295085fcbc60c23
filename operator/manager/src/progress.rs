//! How long rollouts take, and each pod in each phase of its update. For the figures only: nothing is decided on it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use afloat_rollout::action::{Action, Why};
use afloat_rollout::cloneset::Plan;
use afloat_rollout::pod::Pod;

use crate::metrics::Metrics;

/// Of one workload.
#[derive(Default)]
pub(crate) struct Progress {
    /// The revision that is wanted.
    revision: String,
    /// When it was first seen, while the rollout lasts.
    since: Option<Instant>,
    /// Pods on their way, by uid.
    pods: HashMap<String, (Phase, Instant)>,
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
    /// Takes note of what a plan saw.
    pub(crate) fn saw(&mut self, plan: &Plan, pods: &[Arc<Pod>], metrics: &Metrics) {
        let status = &plan.status;
        let done = status.updated_available_replicas >= status.expected_updated_replicas;
        if self.revision != status.update_revision {
            // What was there when this instance began is no rollout that it has seen from its start.
            let known = !self.revision.is_empty();
            self.revision.clone_from(&status.update_revision);
            self.since = (known && !done).then(Instant::now);
        } else if done && let Some(since) = self.since.take() {
            metrics.rolled_out(since.elapsed());
        }
        if self.pods.is_empty() {
            return;
        }
        let here: HashMap<&str, &Arc<Pod>> = pods.iter().map(|pod| (pod.metadata.uid.as_str(), pod)).collect();
        self.pods.retain(|uid, (phase, since)| match here.get(uid.as_str()) {
            Some(pod) if *phase == Phase::Return && pod.ready() => {
                metrics.passed("return", since.elapsed());
                false
            }
            found => found.is_some(),
        });
    }

    /// Takes note of a write that was answered.
    pub(crate) fn wrote(&mut self, action: &Action, metrics: &Metrics) {
        let (at, why) = match action {
            Action::PatchPod { at, why, .. } | Action::PatchPodStatus { at, why, .. } => (at, *why),
            _ => return,
        };
        let before = self.pods.get(&at.uid).copied();
        let phase = match (why, before) {
            (Why::Drain, _) => Phase::Drain,
            (Why::Update, Some((Phase::Drain, since))) => {
                metrics.passed("drain", since.elapsed());
                Phase::Replace
            }
            (Why::Update, None) => Phase::Replace,
            (Why::Return | Why::Lifecycle, Some((Phase::Replace, since))) => {
                metrics.passed("replace", since.elapsed());
                Phase::Return
            }
            _ => return,
        };
        self.pods.insert(at.uid.clone(), (phase, Instant::now()));
    }
}
