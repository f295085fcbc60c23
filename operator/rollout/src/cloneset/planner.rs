//! A plan for a CloneSet in the making: the plan that any workload has, and what pods without names of their own need beside it.

use afloat_api::{CloneSet, Gates, Matcher, PodUpdatePolicy, Rollout};
use jiff::SignedDuration;
use serde_json::Value;

use super::claim::hash::claims_hash;
use super::claim::{ById, by_id, clean_up, of_pod};
use super::observed::Observed;
use super::owner::owner;
use crate::action::Action;
use crate::workload::history::Revisions;
use crate::workload::memo::Memo;
use crate::workload::plan::planner::Planner;
use crate::workload::plan::seen::Seen;
use crate::workload::roster::Relation;

/// What a CloneSet's spec says, in a form that is made once.
pub(super) struct Wishes {
    rollout: Rollout,
    matcher: Matcher,
    claims_hash: Option<String>,
}

impl Wishes {
    pub(super) fn of(set: &CloneSet, gates: Gates) -> Self {
        let rollout = set.spec.rollout();
        // A pod that may only change in place keeps the claims that it has.
        let recreates = gates.recreate_for_claims && rollout.policy != PodUpdatePolicy::InPlaceOnly;
        Self {
            rollout,
            matcher: set.matcher(),
            claims_hash: recreates.then(|| claims_hash(set)),
        }
    }
}

/// See the module.
pub(super) struct CloneSetPlanner<'a> {
    pub(super) seen: &'a Observed<'a>,
    pub(super) base: Planner<'a>,
    pub(super) claims: ById<'a>,
    pub(super) failed_scale: Option<String>,
}

fn seen<'a>(observed: &Observed<'a>, wishes: &'a Wishes) -> Seen<'a> {
    let set = observed.cloneset;
    let asked = set.spec.scale_strategy.as_ref();
    Seen {
        owner: owner(set),
        rollout: &wishes.rollout,
        replicas: set.spec.replicas(),
        min_ready: SignedDuration::from_secs(i64::from(set.spec.min_ready_seconds.unwrap_or(0).max(0))),
        hooks: set.spec.lifecycle.as_ref(),
        matcher: &wishes.matcher,
        pods_to_delete: asked.map_or(&[], |strategy| strategy.pods_to_delete.as_slice()),
        excludes_leaving: set.excludes_preparing_delete(),
        history_limit: set.spec.revision_history_limit,
        current_revision: &set.status.current_revision,
        conditions: &set.status.conditions,
        pods: observed.pods,
        revisions: observed.revisions,
        now: observed.now,
        drained: observed.drained,
        nodes: observed.nodes,
        opened: observed.opened,
        traffic: observed.traffic,
        resizes: observed.resizes,
        gates: observed.gates,
        claims_hash: wishes.claims_hash.as_deref(),
        recorded: observed.recorded,
    }
}

impl<'a> CloneSetPlanner<'a> {
    pub(super) fn new(observed: &'a Observed<'a>, wishes: &'a Wishes, revisions: Revisions, memo: Memo) -> Self {
        Self {
            seen: observed,
            base: Planner::new(seen(observed, wishes), revisions, memo),
            claims: by_id(observed.claims),
            failed_scale: None,
        }
    }

    /// The revision to go back to as too much is lost, with its template.
    pub(super) fn goes_back(&self) -> Option<(String, &'a Value)> {
        let record = self.base.record.as_ref()?;
        record.goes_back(&self.base.seen, &self.base.revisions.update)
    }

    pub(super) fn decide(&mut self) {
        self.base.adopt();
        self.scale();
        self.base.update();
        self.base.launch();
        self.base.refresh();
        self.prune();
        self.give_claims();
        let seen = self.seen;
        self.base
            .actions
            .extend(clean_up(seen.cloneset, seen.pods, seen.claims));
    }

    /// What another planner wants done.
    pub(super) fn take_over(&mut self, other: CloneSetPlanner<'_>) {
        self.base.take_over(other.base);
        self.failed_scale = other.failed_scale;
    }

    /// The claims of pods that are deleted go with them.
    fn give_claims(&mut self) {
        if self.claims.is_empty() {
            return;
        }
        let pods = self.seen.pods;
        for action in &mut self.base.actions {
            if let Action::DeletePod { at, claims, .. } = action
                && let Some(member) = pods
                    .member_of(&at.name)
                    .filter(|member| member.relation == Relation::Ours)
            {
                *claims = of_pod(&self.claims, member.pod());
            }
        }
    }
}
