//! What a DaemonSet reports: its nodes in numbers, as OpenKruise counts them, and our own condition.

use afloat_api::{DaemonSet, DaemonSetStatus, Figures, names};
use jiff::{SignedDuration, Timestamp};

use super::planner::DaemonPlanner;
use super::site::Sites;
use crate::pod::label::{same_revision, short};
use crate::workload::budget::{Round, resolve};
use crate::workload::observed::Plan;

/// Nodes in numbers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Report {
    desired: i32,
    current: i32,
    misscheduled: i32,
    ready: i32,
    updated: i32,
    available: i32,
}

impl Report {
    /// Counts. Of several pods on a node the one that came first speaks for it.
    pub(super) fn of(set: &DaemonSet, sites: &Sites<'_>, hash: &str, now: Timestamp) -> Self {
        let min_ready = SignedDuration::from_secs(i64::from(set.spec.min_ready_seconds.unwrap_or(0).max(0)));
        let mut report = Self::default();
        for site in &sites.nodes {
            let first = site.pods.first();
            if !site.suits.start {
                report.misscheduled += i32::from(first.is_some());
                continue;
            }
            report.desired += 1;
            let Some(pod) = first else { continue };
            let label = pod.labels.get(names::REVISION).unwrap_or_default();
            report.current += 1;
            report.ready += i32::from(pod.ready());
            report.available += i32::from(pod.available(min_ready, now));
            report.updated += i32::from(same_revision(label, hash));
        }
        report
    }
}

/// The pods in numbers, as a status tells of them.
pub(super) fn figures(set: &DaemonSet, status: &DaemonSetStatus) -> Figures {
    let desired = status.desired_number_scheduled;
    let of = usize::try_from(desired).unwrap_or(0);
    let kept = i32::try_from(resolve(&set.spec.rollout().partition, of, Round::Down)).unwrap_or(i32::MAX);
    let updated = status.updated_number_scheduled;
    Figures {
        wanted: desired,
        expected: desired.saturating_sub(kept).max(0),
        total: status.current_number_scheduled,
        ready: status.number_ready,
        available: status.number_available,
        updated,
        updated_ready: updated.min(status.number_ready),
        updated_available: updated.min(status.number_available),
    }
}

impl DaemonPlanner<'_> {
    /// `back`: see [`Planner::tell_of_losses`](crate::workload::plan::planner::Planner::tell_of_losses).
    pub(super) fn finish(mut self, report: Report, back: Option<bool>) -> Plan<DaemonSetStatus> {
        let set = self.set;
        self.base.tell_of_misspelt();
        let mut status = self.status(report);
        let mut conditions = std::mem::take(&mut status.conditions);
        let failure = (names::FAILED_UPDATE, "FailedUpdatePodInPlace");
        let failed = self.base.failed_update.take();
        self.base.tell_of_failure(&mut conditions, failure, failed);
        self.base.tell_of_losses(&mut conditions, back);
        let new = Figures {
            expected: self.base.figures().expected,
            ..figures(set, &status)
        };
        let old = (set.status.update_revision.as_str(), figures(set, &set.status));
        self.base
            .tell_of_rollout(&mut conditions, old, (&status.update_revision, new));
        status.conditions = conditions;
        let update = self.base.revisions.update.clone();
        self.base.finish(status, &[&update])
    }

    fn status(&self, report: Report) -> DaemonSetStatus {
        DaemonSetStatus {
            observed_generation: self.set.metadata.generation.unwrap_or(0),
            desired_number_scheduled: report.desired,
            current_number_scheduled: report.current,
            number_misscheduled: report.misscheduled,
            number_ready: report.ready,
            updated_number_scheduled: report.updated,
            number_available: report.available,
            number_unavailable: report.desired - report.available,
            update_revision: short(&self.base.revisions.update).to_owned(),
            ..self.set.status.clone()
        }
    }
}
