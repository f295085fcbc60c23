//! What the plan reports: counters, revisions, conditions.

use afloat_api::{CloneSetStatus, names};

use super::observed::Plan;
use super::planner::CloneSetPlanner;
use super::progress::{moved, progressing, rollout};
use crate::workload::conditions::{Verdict, clear_condition, set_condition};
use crate::workload::{history, limit, traffic};

impl CloneSetPlanner<'_> {
    /// `back`: see [`Planner::tell_of_losses`](crate::workload::plan::planner::Planner::tell_of_losses).
    pub(super) fn finish(mut self, back: Option<bool>) -> Plan {
        let set = self.seen.cloneset;
        if let Some(message) = traffic::misspelt(self.base.seen.owner) {
            self.base.waits.say(message.clone());
            self.base.warnings.push(("UnknownDrain", message));
        }
        for message in limit::misspelt(self.base.seen.owner) {
            self.base.waits.say(message.clone());
            self.base.warnings.push(("UnknownLossLimit", message));
        }
        let mut status = self.figures();
        self.failures(&mut status);
        self.base.tell_of_losses(&mut status.conditions, back);
        match progressing(set, &status, self.seen.now) {
            None => clear_condition(&mut status.conditions, names::PROGRESSING),
            Some((verdict, look)) => {
                if let Some(at) = look {
                    self.base.wake(at);
                }
                let conditions = &mut status.conditions;
                set_condition(conditions, names::PROGRESSING, verdict, false, self.seen.now);
            }
        }
        let verdict = rollout(set, &status, &self.base.tally.unsettled, &self.base.waits.sentences());
        let moved = moved(&set.status, &status);
        set_condition(&mut status.conditions, names::ROLLOUT, verdict, moved, self.seen.now);
        self.base.actions.extend(self.base.revisions.number.take());
        let limit = set.spec.revision_history_limit;
        let reported = [
            status.update_revision.as_str(),
            &status.current_revision,
            &set.status.current_revision,
        ];
        self.base
            .actions
            .extend(history::truncate(limit, &reported, self.seen.revisions, self.seen.pods));
        Plan {
            actions: self.base.actions,
            status,
            wake_at: self.base.wake_at,
            warnings: self.base.warnings,
            news: self.base.news,
            phases: self.base.tally.phases,
            memo: self.base.memo,
            observes: self.base.observes,
        }
    }

    fn figures(&self) -> CloneSetStatus {
        let set = self.seen.cloneset;
        let mut status = set.status.clone();
        status.observed_generation = set.metadata.generation.unwrap_or(0);
        let (tally, number) = (&self.base.tally, |count: usize| {
            i32::try_from(count).unwrap_or(i32::MAX)
        });
        status.replicas = number(tally.count.total);
        status.ready_replicas = number(tally.ready);
        status.available_replicas = number(tally.served);
        status.updated_replicas = number(tally.count.updated);
        status.updated_ready_replicas = number(tally.updated_ready);
        status.updated_available_replicas = number(tally.updated_served);
        let replicas = self.base.count.replicas;
        status.expected_updated_replicas = number(replicas - self.base.count.partition);
        status.update_revision.clone_from(&self.base.revisions.update);
        status.current_revision.clone_from(&self.base.revisions.current);
        if self.base.count.total == replicas && self.base.count.updated == replicas {
            status.current_revision.clone_from(&self.base.revisions.update);
        }
        status.collision_count = Some(status.collision_count.unwrap_or(0));
        status.label_selector = set.selector_text();
        status
    }

    /// OpenKruise sets these conditions, which have no reason there, and never clears them; here they speak of the present.
    fn failures(&mut self, status: &mut CloneSetStatus) {
        let now = self.seen.now;
        match self.failed_scale.take() {
            None => clear_condition(&mut status.conditions, names::FAILED_SCALE),
            Some(message) => {
                self.base.warnings.push(("FailedCreate", message.clone()));
                let verdict = Verdict {
                    status: true,
                    reason: "",
                    message,
                };
                set_condition(&mut status.conditions, names::FAILED_SCALE, verdict, false, now);
            }
        }
        let Some(message) = self.base.failed_update.take() else {
            clear_condition(&mut status.conditions, names::FAILED_UPDATE);
            return;
        };
        self.base.warnings.push(("FailedUpdatePodInPlace", message.clone()));
        let verdict = Verdict {
            status: true,
            reason: "",
            message,
        };
        set_condition(&mut status.conditions, names::FAILED_UPDATE, verdict, false, now);
    }
}
