//! A plan for a DaemonSet in the making.

use afloat_api::{DaemonSet, Rollout};
use jiff::SignedDuration;
use serde_json::Value;

use super::layout::{Layout, Look};
use super::site::Sites;
use crate::workload::history::Revisions;
use crate::workload::kind::Workload;
use crate::workload::memo::Memo;
use crate::workload::observed::Observed;
use crate::workload::plan::planner::Planner;
use crate::workload::plan::seen::{Seen, Turns};

/// What a DaemonSet's spec says, in a form that is made once.
pub(super) struct Wishes {
    rollout: Rollout,
    min_ready: SignedDuration,
}

impl Wishes {
    pub(super) fn of(set: &DaemonSet) -> Self {
        Self {
            rollout: set.spec.rollout(),
            min_ready: SignedDuration::from_secs(i64::from(set.spec.min_ready_seconds.unwrap_or(0).max(0))),
        }
    }

    pub(super) fn layout<'a>(
        &self,
        set: &DaemonSet,
        sites: &'a Sites<'a>,
        update: &str,
        seen: &Observed<'_>,
    ) -> Layout<'a> {
        let look = Look {
            set,
            rollout: &self.rollout,
            update,
            min_ready: self.min_ready,
            now: seen.now,
        };
        Layout::of(&look, sites)
    }
}

/// A plan for a DaemonSet in the making: the plan that any workload has, and where its pods belong.
pub(super) struct DaemonPlanner<'a> {
    pub(super) set: &'a DaemonSet,
    pub(super) around: &'a Observed<'a>,
    pub(super) layout: &'a Layout<'a>,
    pub(super) base: Planner<'a>,
}

impl<'a> DaemonPlanner<'a> {
    pub(super) fn new(
        (set, around): (&'a DaemonSet, &'a Observed<'a>),
        (wishes, layout): (&'a Wishes, &'a Layout<'a>),
        current: &'a str,
        revisions: Revisions,
        memo: Memo,
    ) -> Self {
        let seen = Seen {
            around,
            owner: set.owner(),
            rollout: &wishes.rollout,
            limits: layout.limits,
            turns: Turns::Given(&layout.turns),
            in_order: false,
            keeps_nodes: true,
            excess: &layout.excess,
            min_ready: wishes.min_ready,
            hooks: set.spec.lifecycle.as_ref(),
            brings_to_life: false,
            pods_to_delete: &[],
            excludes_leaving: false,
            history_limit: set.spec.revision_history_limit,
            current_revision: current,
            conditions: &set.status.conditions,
            claims_hash: None,
        };
        Self {
            set,
            around,
            layout,
            base: Planner::new(seen, revisions, memo),
        }
    }

    /// The revision to go back to as too much is lost, with its template.
    pub(super) fn goes_back(&self) -> Option<(String, &'a Value)> {
        let record = self.base.record.as_ref()?;
        record.goes_back(&self.base.seen, &self.base.revisions.update)
    }
}
