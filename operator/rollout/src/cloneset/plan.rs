//! CloneSet: what to do next. The idea of the whole product in one function, [`plan`].
//!
//! A pod moves to the new revision in three writes: out of service (the readiness gate False), changed (images, labels,
//! record), back in service (the gate True) once the node runs the containers from the new spec. Nothing is remembered
//! between two plans; where a pod stands is read off the pod.

use std::collections::BTreeMap;
use std::sync::Arc;

use afloat_api::{CloneSet, CloneSetStatus};
use serde_json::Value;

use super::claim::hash::claims_hash;
use super::planner::{CloneSetPlanner, SeenSet, Wishes};
use crate::config::stamp::changes;
use crate::pod::Pod;
use crate::pod::drain::Drain;
use crate::pod::lifecycle::State;
use crate::workload::history::Revisions;
use crate::workload::kind::Workload;
use crate::workload::memo::Memo;
use crate::workload::observed::{Observed, Plan};
use crate::workload::order::update_sequence;
use crate::workload::owner::Owner;
use crate::workload::plan::begin::{Begun, begin, filled_template, with_own_roster};
use crate::workload::plan::tally::ours;

/// Decides.
pub fn plan(set: &CloneSet, seen: &Observed<'_>) -> Plan<CloneSetStatus> {
    if let Some(plan) = with_own_roster(set, seen) {
        return plan;
    }
    let filled = filled_template(&set.spec.template, seen.gates);
    let owner = Owner {
        template: filled.as_ref().unwrap_or(&set.spec.template),
        ..set.owner()
    };
    let status = &set.status;
    let named = (status.current_revision.as_str(), status.update_revision.as_str());
    let (revisions, memo) = match begin((set, owner), Some(claims_hash(set)), named, seen) {
        Begun::Whole(plan) => return *plan,
        Begun::At(revisions, memo) => (*revisions, memo),
    };
    let wishes = Wishes::of(set, seen.gates);
    let of = SeenSet { set, around: seen };
    let mut planner = CloneSetPlanner::new(of, &wishes, revisions, memo);
    if let Some((revision, template)) = planner.goes_back() {
        let mut set = set.clone();
        set.spec.template = template.clone();
        set.spec.keep_no_pods_back();
        let done = planner.decide_as(&set, Revisions::only(revision), None);
        return planner.finish(Some(done));
    }
    match planner.before_the_partition() {
        Some((set, revisions)) => {
            let turns = planner.going_back();
            planner.decide_as(&set, revisions, Some(turns));
        }
        None => planner.decide(),
    }
    planner.finish(None)
}

impl CloneSetPlanner<'_> {
    /// Does everything as if this were wanted; what is told of it is told as what it is. Gives whether all of it is done.
    fn decide_as(&mut self, set: &CloneSet, revisions: Revisions, turns: Option<BTreeMap<String, usize>>) -> bool {
        let around = &Observed {
            recorded: None,
            ..*self.seen.around
        };
        let mut wishes = Wishes::of(set, around.gates);
        wishes.turns = turns;
        let mut other = CloneSetPlanner::new(SeenSet { set, around }, &wishes, revisions, Memo::default());
        other.decide();
        let done = other.base.all_updated();
        self.take_over(other);
        done
    }

    /// The gate CloneSetPartitionRollback: where more pods are updated than the partition allows, those beyond it go back to
    /// the revision before, which is the same rollout seen from its other end.
    fn before_the_partition(&self) -> Option<(CloneSet, Revisions)> {
        let (count, rollout) = (&self.base.count, self.base.seen.rollout);
        let asked = self.base.seen.gates.partition_rollback && !rollout.paused && !rollout.on_delete;
        if !asked || count.to_bring_back() == 0 || self.base.held_by_loss() {
            return None;
        }
        let revisions = &self.base.revisions;
        let old = revisions.old_template.as_ref()?;
        // What ConfigMaps held is not brought back by a restart.
        if !changes(self.base.seen.owner.template, old).is_empty() {
            return None;
        }
        let mut set = self.seen.set.clone();
        let template = std::mem::replace(&mut set.spec.template, Value::clone(old));
        let known = [&revisions.current, &revisions.update];
        let others = ours(self.seen.around.pods).filter(|pod| !known.iter().any(|name| pod.at_revision(name)));
        set.spec.keep_back(count.replicas - count.partition + others.count());
        let swapped = Revisions {
            current: revisions.update.clone(),
            old_template: Some(Arc::new(template)),
            ..Revisions::only(revisions.current.clone())
        };
        Some((set, swapped))
    }

    /// Which pods go back, in their order: updated ones only. Those that have begun to come first.
    fn going_back(&self) -> BTreeMap<String, usize> {
        let all: Vec<&Pod> = ours(self.seen.around.pods).collect();
        let updated = |pod: &&Pod| self.base.updated(pod) && !self.base.specified(pod);
        let waiting = all.iter().copied().filter(updated).collect();
        let mut order = update_sequence(waiting, &all, self.base.seen.rollout);
        let current = &self.base.revisions.current;
        let begun = |pod: &Pod| {
            State::of(pod) == State::PreparingUpdate || Drain::of(pod).is_some_and(|drain| drain.revision == *current)
        };
        order.sort_by_key(|pod| !begun(pod));
        order.truncate(self.base.count.to_bring_back());
        let places = order.into_iter().enumerate();
        places.map(|(place, pod)| (pod.name().to_owned(), place)).collect()
    }
}
