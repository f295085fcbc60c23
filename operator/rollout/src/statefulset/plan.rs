//! StatefulSet: what to do next. A pod for each ordinal, with the claims of that ordinal; in order, or all at once; updated from the last
//! to the first, each by the way that all pods go ([`crate::workload::plan`]).
//!
//! A name is given anew when whoever had it is gone from the API server, which is when its node has said that its containers have ended,
//! or somebody has said so in its place. So there are never two pods of one ordinal, whatever became of a node.

use afloat_api::{StatefulSet, StatefulSetStatus};

use super::planner::{SeenSet, StatefulSetPlanner, Wishes};
use crate::workload::history::Revisions;
use crate::workload::kind::Workload;
use crate::workload::memo::Memo;
use crate::workload::observed::{Observed, Plan};
use crate::workload::owner::Owner;
use crate::workload::plan::begin::{Begun, begin, filled_template, with_own_roster};

/// Decides.
pub fn plan(set: &StatefulSet, seen: &Observed<'_>) -> Plan<StatefulSetStatus> {
    if let Some(plan) = with_own_roster(set, seen) {
        return plan;
    }
    let filled = filled_template(&set.spec.template, seen.gates);
    let owner = Owner {
        template: filled.as_ref().unwrap_or(&set.spec.template),
        ..set.owner()
    };
    let named = (
        set.status.current_revision.as_str(),
        set.status.update_revision.as_str(),
    );
    let (revisions, memo) = match begin((set, owner), None, named, seen) {
        Begun::Whole(plan) => return *plan,
        Begun::At(revisions, memo) => (*revisions, memo),
    };
    let of = SeenSet { set, around: seen };
    let wishes = Wishes::of(of, &revisions.update);
    let mut planner = StatefulSetPlanner::new(of, &wishes, revisions, memo);
    if let Some((revision, template)) = planner.goes_back() {
        let mut set = set.clone();
        set.spec.template = template.clone();
        set.spec.keep_no_pods_back();
        let done = planner.decide_as(&set, Revisions::only(revision));
        return planner.finish(Some(done));
    }
    planner.decide();
    planner.finish(None)
}

impl StatefulSetPlanner<'_> {
    /// Does everything as if this were wanted; what is told of it is told as what it is. Gives whether all of it is done.
    fn decide_as(&mut self, set: &StatefulSet, revisions: Revisions) -> bool {
        let around = &Observed {
            recorded: None,
            ..*self.seen.around
        };
        let of = SeenSet { set, around };
        let wishes = Wishes::of(of, &revisions.update);
        let mut other = StatefulSetPlanner::new(of, &wishes, revisions, Memo::default());
        other.decide();
        let done = other.base.all_updated();
        self.take_over(other);
        done
    }
}
