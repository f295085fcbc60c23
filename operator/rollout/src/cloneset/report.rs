//! What the plan reports: counters, revisions, conditions.

use afloat_api::{CloneSetStatus, names};

use super::{Plan, Planner, history};
use crate::status::{Verdict, clear_condition, count, deadline, moved, set_condition, verdict};

impl Planner<'_> {
    pub(super) fn finish(mut self) -> Plan {
        let set = self.seen.cloneset;
        let mut status = self.figures();
        self.failures(&mut status);
        let progressing = verdict(set, &status, &self.pods, &self.waits);
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
        }
    }

    fn figures(&self) -> CloneSetStatus {
        let set = self.seen.cloneset;
        let mut status = set.status.clone();
        status.observed_generation = set.metadata.generation.unwrap_or(0);
        count(
            &mut status,
            &self.pods,
            &self.revisions.update,
            self.min_ready,
            self.seen.now,
        );
        let replicas = self.count.replicas;
        status.expected_updated_replicas = i32::try_from(replicas - self.count.partition).unwrap_or(i32::MAX);
        status.update_revision.clone_from(&self.revisions.update);
        status.current_revision.clone_from(&self.revisions.current);
        if self.pods.len() == replicas && self.count.updated == replicas {
            status.current_revision.clone_from(&self.revisions.update);
        }
        status.collision_count = Some(status.collision_count.unwrap_or(0));
        status.label_selector = set.selector_text();
        status
    }

    /// OpenKruise sets these conditions and never clears them; here they speak of the present.
    fn failures(&mut self, status: &mut CloneSetStatus) {
        let now = self.seen.now;
        clear_condition(status, names::FAILED_SCALE);
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
