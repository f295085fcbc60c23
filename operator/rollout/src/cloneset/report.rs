//! What the plan reports: counters, revisions, conditions.

use afloat_api::{CloneSetStatus, Figures, names};

use super::planner::CloneSetPlanner;
use super::progress::progressing;
use crate::workload::conditions::{clear_condition, set_condition};
use crate::workload::kind::Workload;
use crate::workload::observed::Plan;

impl CloneSetPlanner<'_> {
    /// `back`: see [`Planner::tell_of_losses`](crate::workload::plan::planner::Planner::tell_of_losses).
    pub(super) fn finish(mut self, back: Option<bool>) -> Plan<CloneSetStatus> {
        let set = self.seen.set;
        self.base.tell_of_misspelt();
        let figures = self.base.figures();
        let mut status = self.status(figures);
        let mut conditions = std::mem::take(&mut status.conditions);
        let failed = (self.failed_scale.take(), self.base.failed_update.take());
        self.base
            .tell_of_failure(&mut conditions, (names::FAILED_SCALE, "FailedCreate"), failed.0);
        let update = (names::FAILED_UPDATE, "FailedUpdatePodInPlace");
        self.base.tell_of_failure(&mut conditions, update, failed.1);
        self.base.tell_of_losses(&mut conditions, back);
        let now = self.base.seen.now;
        match progressing(set, &status, now) {
            None => clear_condition(&mut conditions, names::PROGRESSING),
            Some((verdict, look)) => {
                if let Some(at) = look {
                    self.base.wake(at);
                }
                set_condition(&mut conditions, names::PROGRESSING, verdict, false, now);
            }
        }
        let old = (set.status.update_revision.as_str(), set.figures());
        self.base
            .tell_of_rollout(&mut conditions, old, (&status.update_revision, figures));
        status.conditions = conditions;
        let reported = [status.update_revision.clone(), status.current_revision.clone()];
        let reported = [&*reported[0], &*reported[1], &*set.status.current_revision];
        self.base.finish(status, &reported)
    }

    fn status(&self, figures: Figures) -> CloneSetStatus {
        let set = self.seen.set;
        let mut status = set.status.clone();
        status.observed_generation = set.metadata.generation.unwrap_or(0);
        status.replicas = figures.total;
        status.ready_replicas = figures.ready;
        status.available_replicas = figures.available;
        status.updated_replicas = figures.updated;
        status.updated_ready_replicas = figures.updated_ready;
        status.updated_available_replicas = figures.updated_available;
        status.expected_updated_replicas = figures.expected;
        status.update_revision.clone_from(&self.base.revisions.update);
        status.current_revision.clone_from(if self.base.at_one_revision() {
            &self.base.revisions.update
        } else {
            &self.base.revisions.current
        });
        status.collision_count = Some(status.collision_count.unwrap_or(0));
        status.label_selector = set.selector_text();
        status
    }
}
