//! What the plan reports: counters, revisions, conditions.

use afloat_api::{StatefulSetStatus, names};

use super::ordinals::misspelt;
use super::planner::StatefulSetPlanner;
use crate::workload::kind::Workload;
use crate::workload::observed::Plan;
use crate::workload::roster::Relation;

impl StatefulSetPlanner<'_> {
    /// `back`: see [`Planner::tell_of_losses`](crate::workload::plan::planner::Planner::tell_of_losses).
    pub(super) fn finish(mut self, back: Option<bool>) -> Plan<StatefulSetStatus> {
        let set = self.seen.set;
        self.base.tell_of_misspelt();
        if let Some(message) = misspelt(set) {
            self.base.waits.say(message.clone());
            self.base.warnings.push(("UnknownOrdinals", message));
        }
        let figures = self.base.figures();
        let mut status = self.status();
        let mut conditions = std::mem::take(&mut status.conditions);
        let failed = (self.failed_create.take(), self.base.failed_update.take());
        let create = (names::FAILED_CREATE_POD, "FailedCreate");
        self.base.tell_of_failure(&mut conditions, create, failed.0);
        let update = (names::FAILED_UPDATE_POD, "FailedUpdatePodInPlace");
        self.base.tell_of_failure(&mut conditions, update, failed.1);
        self.base.tell_of_losses(&mut conditions, back);
        let old = (set.status.update_revision.as_str(), set.figures());
        self.base
            .tell_of_rollout(&mut conditions, old, (&status.update_revision, figures));
        for condition in &mut conditions {
            // Conditions of a StatefulSet have no such field.
            condition.last_update_time = None;
        }
        status.conditions = conditions;
        let reported = [status.update_revision.clone(), status.current_revision.clone()];
        let reported = [&*reported[0], &*reported[1], &*set.status.current_revision];
        self.base.finish(status, &reported)
    }

    /// Pods are counted as Kubernetes and OpenKruise count those of StatefulSets: also while they are going.
    fn status(&self) -> StatefulSetStatus {
        let set = self.seen.set;
        let revisions = &self.base.revisions;
        let mut status = StatefulSetStatus {
            observed_generation: set.metadata.generation.unwrap_or(0),
            current_revision: revisions.current.clone(),
            update_revision: revisions.update.clone(),
            collision_count: Some(set.status.collision_count.unwrap_or(0)),
            conditions: set.status.conditions.clone(),
            label_selector: set.selector_text(),
            ..StatefulSetStatus::default()
        };
        let seen = &self.base.seen;
        for (_, member) in self.wishes.places.controlled() {
            let pod = member.pod();
            let (ready, available) = (member.ready, member.available(seen.min_ready, seen.now));
            let (updated, stays) = (pod.at_revision(&revisions.update), !pod.metadata.terminating);
            status.replicas += 1;
            status.ready_replicas += i32::from(ready);
            status.available_replicas += i32::from(available);
            status.current_replicas += i32::from(stays && pod.at_revision(&revisions.current));
            status.updated_replicas += i32::from(stays && updated);
            status.updated_ready_replicas += i32::from(ready && updated);
            status.updated_available_replicas += i32::from(available && updated);
        }
        let there = self.wishes.places.controlled();
        let there = there.filter(|(_, member)| member.relation == Relation::Ours);
        let ordinals: Vec<_> = there.map(|(ordinal, _)| ordinal).collect();
        status.volume_claims = self.wishes.claims.told(ordinals.into_iter());
        self.complete(&mut status);
        status
    }

    /// The update is over when all pods that are wanted are there, updated and Ready. OpenKruise does not ask whether all are there: of
    /// a pod that the partition keeps and that is being made anew it would forget which revision it had.
    fn complete(&self, status: &mut StatefulSetStatus) {
        let wanted = i32::try_from(self.base.count.replicas).unwrap_or(i32::MAX);
        let counts = [status.replicas, status.updated_replicas, status.ready_replicas];
        if !self.wishes.rollout.on_delete && counts == [wanted; 3] {
            status.current_replicas = status.updated_replicas;
            status.current_revision.clone_from(&status.update_revision);
        }
    }
}
