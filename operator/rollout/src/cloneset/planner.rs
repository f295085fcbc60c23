//! A plan for a CloneSet in the making: the plan that any workload has, and what pods without names of their own need beside it.

use std::collections::{BTreeMap, BTreeSet};

use afloat_api::{CloneSet, Gates, PodUpdatePolicy, Rollout};
use serde_json::Value;

use super::claim::hash::claims_hash;
use super::claim::{ById, by_id, clean_up, of_pod};
use crate::action::Action;
use crate::workload::budget::Limits;
use crate::workload::foresight::Foreseen as _;
use crate::workload::history::Revisions;
use crate::workload::kind::Workload;
use crate::workload::memo::Memo;
use crate::workload::observed::Observed;
use crate::workload::plan::planner::Planner;
use crate::workload::plan::seen::{Seen, Turns};
use crate::workload::roster::Relation;

/// A CloneSet, and what is seen beside it.
#[derive(Clone, Copy)]
pub(super) struct SeenSet<'a> {
    pub(super) set: &'a CloneSet,
    pub(super) around: &'a Observed<'a>,
}

/// Who is surplus is told by counts, as one pod is as good as another.
static NOBODY: BTreeSet<String> = BTreeSet::new();

/// What a CloneSet's spec says, in a form that is made once.
pub(super) struct Wishes {
    rollout: Rollout,
    claims_hash: Option<String>,
    /// The pods that come to their turn, where it is not just any.
    pub(super) turns: Option<BTreeMap<String, usize>>,
}

impl Wishes {
    pub(super) fn of(set: &CloneSet, gates: Gates) -> Self {
        let rollout = set.spec.rollout();
        // A pod that may only change in place keeps the claims that it has.
        let recreates = gates.recreate_for_claims && rollout.policy != PodUpdatePolicy::InPlaceOnly;
        Self {
            rollout,
            claims_hash: recreates.then(|| claims_hash(set)),
            turns: None,
        }
    }
}

/// See the module.
pub(super) struct CloneSetPlanner<'a> {
    pub(super) seen: SeenSet<'a>,
    pub(super) base: Planner<'a>,
    pub(super) claims: ById<'a>,
    pub(super) failed_scale: Option<String>,
}

fn seen<'a>(seen: SeenSet<'a>, wishes: &'a Wishes) -> Seen<'a> {
    let set = seen.set;
    let asked = set.spec.scale_strategy.as_ref();
    Seen {
        around: seen.around,
        owner: set.owner(),
        rollout: &wishes.rollout,
        limits: Limits::anonymous(&wishes.rollout, set.spec.replicas()),
        turns: wishes.turns.as_ref().map_or(Turns::Any, Turns::Given),
        in_order: false,
        keeps_nodes: false,
        excess: &NOBODY,
        min_ready: set.min_ready(),
        hooks: set.spec.lifecycle.as_ref(),
        brings_to_life: true,
        pods_to_delete: asked.map_or(&[], |strategy| strategy.pods_to_delete.as_slice()),
        excludes_leaving: set.excludes_preparing_delete(),
        history_limit: set.spec.revision_history_limit,
        current_revision: &set.status.current_revision,
        conditions: &set.status.conditions,
        claims_hash: wishes.claims_hash.as_deref(),
    }
}

impl<'a> CloneSetPlanner<'a> {
    pub(super) fn new(of: SeenSet<'a>, wishes: &'a Wishes, revisions: Revisions, memo: Memo) -> Self {
        Self {
            seen: of,
            base: Planner::new(seen(of, wishes), revisions, memo),
            claims: by_id(of.around.claims),
            failed_scale: None,
        }
    }

    /// The revision to go back to as too much is lost, with its template.
    pub(super) fn goes_back(&self) -> Option<(String, &'a Value)> {
        let record = self.base.record.as_ref()?;
        record.goes_back(&self.base.seen, &self.base.revisions.update)
    }

    pub(super) fn decide(&mut self) {
        self.base.adopt(|_| true);
        self.scale();
        self.base.update();
        self.base.launch();
        self.base.refresh();
        self.prune();
        self.give_claims();
        let around = self.seen.around;
        self.base
            .actions
            .extend(clean_up(self.seen.set, around.pods, around.claims));
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
        let pods = self.seen.around.pods;
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
