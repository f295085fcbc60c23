//! CloneSet: what to do next. The idea of the whole product in one function, [`plan`].
//!
//! A pod moves to the new revision in three writes: out of service (the readiness gate False), changed (images, labels,
//! record), back in service (the gate True) once the node runs the containers from the new spec. Nothing is remembered
//! between two plans; where a pod stands is read off the pod.

use super::observed::{Observed, Plan};
use super::owner::owner;
use super::planner::{CloneSetPlanner, Wishes};
use crate::action::Action;
use crate::workload::history::{Found, Revisions, resolve};

/// Decides.
pub fn plan(seen: &Observed<'_>) -> Plan {
    let set = seen.cloneset;
    if set.metadata.deletion_timestamp.is_some() {
        return Plan {
            status: set.status.clone(),
            ..Plan::default()
        };
    }
    let collisions = set.status.collision_count.unwrap_or(0);
    let (current, reported) = (&set.status.current_revision, &set.status.update_revision);
    let revisions = match resolve(owner(set), collisions, current, reported, seen.revisions) {
        Found::Known(revisions) => *revisions,
        Found::Missing { body, collisions } => {
            let mut status = set.status.clone();
            status.collision_count = Some(collisions);
            return Plan {
                actions: vec![Action::CreateRevision { body }],
                status,
                ..Plan::default()
            };
        }
    };
    let wishes = Wishes::of(set);
    let mut planner = CloneSetPlanner::new(seen, &wishes, revisions);
    let Some((revision, template)) = planner.goes_back() else {
        planner.decide();
        return planner.finish(None);
    };
    // Everything is done as if the old template were wanted, and told as what it is.
    let mut set = seen.cloneset.clone();
    set.spec.template = template.clone();
    set.spec.keep_no_pods_back();
    let seen = Observed {
        cloneset: &set,
        recorded: None,
        ..*seen
    };
    let wishes = Wishes::of(&set);
    let mut other = CloneSetPlanner::new(&seen, &wishes, Revisions::only(revision));
    other.decide();
    let done = other.base.all_updated();
    planner.take_over(other);
    planner.finish(Some(done))
}
