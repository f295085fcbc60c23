//! CloneSet: what to do next. The idea of the whole product in one function, [`plan`].
//!
//! A pod moves to the new revision in three writes: out of service (the readiness gate False), changed (images, labels,
//! record), back in service (the gate True) once the node runs the containers from the new spec. Nothing is remembered
//! between two plans; where a pod stands is read off the pod.

use std::sync::Arc;

use afloat_api::{CloneSet, filled, names};
use serde_json::{Value, json};

use super::claim::hash::claims_hash;
use super::observed::{Observed, Plan, roster};
use super::owner::owner;
use super::planner::{CloneSetPlanner, Wishes};
use crate::action::Action;
use crate::workload::history::{Found, Revisions};
use crate::workload::memo::Memo;
use crate::workload::owner::Owner;

/// Decides.
pub fn plan(seen: &Observed<'_>) -> Plan {
    let set = seen.cloneset;
    if !seen.pods.fits(set.metadata.uid.as_deref(), &set.matcher()) {
        // It is another's, or from before the selector was another one.
        let pods = roster(set).with(seen.pods.pods().cloned());
        return plan(&Observed { pods: &pods, ..*seen });
    }
    if set.metadata.deletion_timestamp.is_some() {
        return Plan {
            status: set.status.clone(),
            ..Plan::default()
        };
    }
    let collisions = set.status.collision_count.unwrap_or(0);
    let (current, reported) = (&set.status.current_revision, &set.status.update_revision);
    // As OpenKruise would have it, which looks for it on the way back.
    let filled = Some(&set.spec.template)
        .filter(|_| !seen.gates.template_no_defaults)
        .and_then(filled);
    let owner = Owner {
        template: filled.as_ref().unwrap_or(&set.spec.template),
        ..owner(set)
    };
    let (found, memo) = seen
        .memo
        .resolve(owner, collisions, (current, reported), seen.revisions);
    let revisions = match found {
        Found::Known(mut revisions) => {
            if let Some(Action::NumberRevision { number, .. }) = &mut revisions.number {
                number.claims = Some(claims_hash(set));
            }
            *revisions
        }
        Found::Missing { mut body, collisions } => {
            body["metadata"]["annotations"][names::CLAIMS_HASH] = json!(claims_hash(set));
            let mut status = set.status.clone();
            status.collision_count = Some(collisions);
            return Plan {
                actions: vec![Action::CreateRevision { body }],
                status,
                ..Plan::default()
            };
        }
    };
    let wishes = Wishes::of(set, seen.gates);
    let mut planner = CloneSetPlanner::new(seen, &wishes, revisions, memo);
    if let Some((revision, template)) = planner.goes_back() {
        let mut set = set.clone();
        set.spec.template = template.clone();
        set.spec.keep_no_pods_back();
        let done = planner.decide_as(&set, Revisions::only(revision));
        return planner.finish(Some(done));
    }
    match planner.before_the_partition() {
        Some((set, revisions)) => {
            planner.decide_as(&set, revisions);
        }
        None => planner.decide(),
    }
    planner.finish(None)
}

impl CloneSetPlanner<'_> {
    /// Does everything as if this were wanted; what is told of it is told as what it is. Gives whether all of it is done.
    fn decide_as(&mut self, set: &CloneSet, revisions: Revisions) -> bool {
        let seen = Observed {
            cloneset: set,
            recorded: None,
            ..*self.seen
        };
        let wishes = Wishes::of(set, seen.gates);
        let mut other = CloneSetPlanner::new(&seen, &wishes, revisions, Memo::default());
        other.decide();
        let done = other.base.all_updated();
        self.take_over(other);
        done
    }

    /// The gate CloneSetPartitionRollback: where more pods are updated than the partition allows, those beyond it go back to
    /// the revision before, which is the same rollout seen from its other end.
    fn before_the_partition(&self) -> Option<(CloneSet, Revisions)> {
        let (count, rollout) = (&self.base.count, self.base.seen.rollout);
        let asked = self.seen.gates.partition_rollback && !rollout.paused && !rollout.on_delete;
        if !asked || count.to_bring_back() == 0 || self.base.held_by_loss() {
            return None;
        }
        let revisions = &self.base.revisions;
        let mut set = self.seen.cloneset.clone();
        let template = std::mem::replace(&mut set.spec.template, Value::clone(revisions.old_template.as_ref()?));
        set.spec.keep_back(count.replicas - count.partition);
        let swapped = Revisions {
            current: revisions.update.clone(),
            old_template: Some(Arc::new(template)),
            ..Revisions::only(revisions.current.clone())
        };
        Some((set, swapped))
    }
}
