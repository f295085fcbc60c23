//! A plan for a StatefulSet in the making: the plan that any workload has, and what pods with names of their own need beside it.

use std::collections::BTreeSet;

use afloat_api::{Gates, Rollout, StatefulSet};
use jiff::SignedDuration;
use serde_json::Value;

use super::claims::Claims;
use super::growth::Growth;
use super::ordinals::{Ordinals, ordinal};
use super::places::Places;
use super::turns::{self, beyond_partition};
use crate::action::Why;
use crate::pod::object::Pod;
use crate::workload::budget::{Limits, Round, partition, resolve};
use crate::workload::history::Revisions;
use crate::workload::kind::Workload;
use crate::workload::memo::Memo;
use crate::workload::observed::Observed;
use crate::workload::plan::planner::Planner;
use crate::workload::plan::seen::{Seen, Turns};
use crate::workload::waits::Wait;

/// A StatefulSet, and what is seen beside it.
#[derive(Clone, Copy)]
pub(super) struct SeenSet<'a> {
    pub(super) set: &'a StatefulSet,
    pub(super) around: &'a Observed<'a>,
}

/// What a StatefulSet's spec says of the pods that are there, in a form that is made once.
pub(super) struct Wishes<'a> {
    pub(super) rollout: Rollout,
    limits: Limits,
    pub(super) places: Places<'a>,
    pub(super) claims: Claims<'a>,
    pub(super) growth: Growth<'a>,
    turns: turns::Turns<'a>,
    excess: BTreeSet<String>,
}

/// Budgets round down, but for the one pod that may always go (`stateful_set_control.go` of OpenKruise).
pub(super) fn limits(rollout: &Rollout, replicas: usize) -> Limits {
    Limits {
        replicas,
        partition: partition(&rollout.partition, replicas),
        max_unavailable: resolve(&rollout.max_unavailable, replicas, Round::Down).max(1),
        max_surge: 0,
    }
}

impl<'a> Wishes<'a> {
    pub(super) fn of(of: SeenSet<'a>, update: &str) -> Self {
        let (set, around) = (of.set, of.around);
        let rollout = set.spec.rollout();
        let limits = limits(&rollout, set.spec.replicas());
        let ordinals = Ordinals::of(set, around.gates);
        let places = Places::of(set.owner().name(), &ordinals, around.pods);
        let claims = Claims::of(set, around);
        let updated = |pod: &Pod| pod.at_revision(update);
        let order = beyond_partition(set, &places, limits.partition, updated);
        let growth = Growth::of(set, &claims, &places, &order, around.gates);
        let turns = turns::Turns::of(&order, &growth.held, updated, (min_ready(set), around.now));
        Self {
            excess: places.excess(),
            rollout,
            limits,
            places,
            claims,
            growth,
            turns,
        }
    }
}

/// See the module.
pub(super) struct StatefulSetPlanner<'a> {
    pub(super) seen: SeenSet<'a>,
    pub(super) wishes: &'a Wishes<'a>,
    pub(super) base: Planner<'a>,
    pub(super) failed_create: Option<String>,
}

/// How long a pod must be Ready to count as available.
pub(super) fn min_ready(set: &StatefulSet) -> SignedDuration {
    SignedDuration::from_secs(i64::from(set.spec.min_ready_seconds()))
}

fn seen<'a>(of: SeenSet<'a>, wishes: &'a Wishes<'a>) -> Seen<'a> {
    let set = of.set;
    Seen {
        around: of.around,
        owner: set.owner(),
        rollout: &wishes.rollout,
        limits: wishes.limits,
        turns: Turns::Given(&wishes.turns.places),
        in_order: set.spec.unordered().is_none(),
        keeps_nodes: false,
        excess: &wishes.excess,
        min_ready: min_ready(set),
        hooks: set.spec.lifecycle.as_ref(),
        brings_to_life: false,
        pods_to_delete: &[],
        excludes_leaving: false,
        history_limit: set.spec.revision_history_limit,
        current_revision: &set.status.current_revision,
        conditions: &set.status.conditions,
        claims_hash: None,
    }
}

impl<'a> StatefulSetPlanner<'a> {
    pub(super) fn new(of: SeenSet<'a>, wishes: &'a Wishes<'a>, revisions: Revisions, memo: Memo) -> Self {
        let mut base = Planner::new(seen(of, wishes), revisions, memo);
        // A claim that grows takes its pod's part of the budget, unless the pod's own update is all that it waits for.
        let growing = wishes.growth.under_way.iter();
        let growing = growing.filter(|pod| base.available(pod) && !wishes.turns.places.contains_key(pod.name()));
        let growing = growing.count();
        base.may_go = base.may_go.saturating_sub(growing);
        Self {
            seen: of,
            wishes,
            base,
            failed_create: None,
        }
    }

    pub(super) fn gates(&self) -> Gates {
        self.seen.around.gates
    }

    /// The revision to go back to as too much is lost, with its template.
    pub(super) fn goes_back(&self) -> Option<(String, &'a Value)> {
        let record = self.base.record.as_ref()?;
        record.goes_back(&self.base.seen, &self.base.revisions.update)
    }

    /// Each ordinal gets its pod, pods at other ordinals go, those that are outdated are updated, and all are looked after.
    pub(super) fn decide(&mut self) {
        let name = self.base.seen.owner.name();
        self.base.adopt(|pod| ordinal(name, pod.name()).is_some());
        for member in &self.wishes.places.nameless {
            self.base.release(member.pod());
        }
        let halted = self.fill();
        self.delete_specified();
        self.delete_condemned(halted);
        self.base.update();
        self.keep_order();
        self.grow();
        self.base.launch();
        self.base.refresh();
        self.keep_identities();
        self.keep_claims();
    }

    /// Looks again when it is the turn of those that are not updated before others.
    fn keep_order(&mut self) {
        if self.wishes.rollout.on_delete || self.wishes.rollout.paused {
            return;
        }
        for (pod, until) in &self.wishes.turns.later {
            self.base.waits.pod(Wait::Turn, || pod.name().to_owned());
            self.base.wake(*until);
        }
    }

    /// Pods that somebody asked to delete by a label, the largest ordinal first; the partition does not matter to that.
    fn delete_specified(&mut self) {
        let name = self.base.seen.owner.name();
        let mut specified = self.base.tally.specified.clone();
        specified.sort_by_key(|pod| std::cmp::Reverse(ordinal(name, pod.name())));
        for pod in specified {
            self.base.delete(pod, Why::Specified);
        }
    }

    /// What another planner wants done.
    pub(super) fn take_over(&mut self, other: StatefulSetPlanner<'_>) {
        self.base.take_over(other.base);
        self.failed_create = other.failed_create;
    }
}
