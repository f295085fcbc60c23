//! What the plan reports: counters, revisions, conditions.

use afloat_api::{CloneSetStatus, names};

use super::history;
use super::plan::{Plan, Planner};
use crate::workload::status::{Verdict, clear_condition, deadline, moved, set_condition, verdict};

/// How many pods stand where in a rollout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    /// At another revision than the wanted one, and in service as far as this update is concerned.
    pub outdated: usize,
    /// At another revision, out of service so that they can be changed.
    pub draining: usize,
    /// Changed, until the node runs the change and they return to service.
    pub updating: usize,
    /// At the wanted revision and not available: new ones, and those that are back and not Ready yet.
    pub starting: usize,
    /// At the wanted revision and available.
    pub available: usize,
}

impl Planner<'_> {
    /// `back`: see [`Planner::tell_of_losses`].
    pub(super) fn finish(mut self, back: Option<bool>) -> Plan {
        let set = self.seen.cloneset;
        if let Some(message) = crate::workload::traffic::misspelt(set) {
            self.waits.say(message.clone());
            self.warnings.push(("UnknownDrain", message));
        }
        for message in crate::workload::loss::misspelt(set) {
            self.waits.say(message.clone());
            self.warnings.push(("UnknownLossLimit", message));
        }
        let mut status = self.figures();
        self.failures(&mut status);
        self.tell_of_losses(&mut status, back);
        let progressing = verdict(set, &status, &self.tally.unsettled, &self.waits.sentences());
        let (progressing, look) = deadline(set, &status, progressing, self.seen.now);
        if let Some(at) = look {
            self.wake(at);
        }
        let moved = moved(&set.status, &status);
        set_condition(&mut status, names::PROGRESSING, progressing, moved, self.seen.now);
        self.actions.extend(self.revisions.number.take());
        self.actions
            .extend(history::truncate(set, &status, self.seen.revisions, self.seen.pods));
        Plan {
            actions: self.actions,
            status,
            wake_at: self.wake_at,
            warnings: self.warnings,
            news: self.news,
            phases: self.tally.phases,
            observes: self.observes,
        }
    }

    fn figures(&self) -> CloneSetStatus {
        let set = self.seen.cloneset;
        let mut status = set.status.clone();
        status.observed_generation = set.metadata.generation.unwrap_or(0);
        self.tally.report(&mut status);
        let replicas = self.count.replicas;
        status.expected_updated_replicas = i32::try_from(replicas - self.count.partition).unwrap_or(i32::MAX);
        status.update_revision.clone_from(&self.revisions.update);
        status.current_revision.clone_from(&self.revisions.current);
        if self.count.total == replicas && self.count.updated == replicas {
            status.current_revision.clone_from(&self.revisions.update);
        }
        status.collision_count = Some(status.collision_count.unwrap_or(0));
        status.label_selector = set.selector_text();
        status
    }

    /// OpenKruise sets these conditions and never clears them; here they speak of the present.
    fn failures(&mut self, status: &mut CloneSetStatus) {
        let now = self.seen.now;
        match self.failed_scale.take() {
            None => clear_condition(status, names::FAILED_SCALE),
            Some(message) => {
                self.warnings.push(("FailedCreate", message.clone()));
                let verdict = Verdict {
                    status: true,
                    reason: "FailedScale",
                    message,
                };
                set_condition(status, names::FAILED_SCALE, verdict, false, now);
            }
        }
        let Some(message) = self.failed_update.take() else {
            clear_condition(status, names::FAILED_UPDATE);
            return;
        };
        self.warnings.push(("FailedUpdatePodInPlace", message.clone()));
        let verdict = Verdict {
            status: true,
            reason: "FailedUpdate",
            message,
        };
        set_condition(status, names::FAILED_UPDATE, verdict, false, now);
    }
}
