//! Advanced DaemonSet: what to do next. Every node that suits has one pod; the [layout](super::layout) says where pods come, change and
//! go, and each goes the way that every workload's pods go, as fast as the budget allows.

use std::collections::BTreeMap;

use afloat_api::{DaemonSet, DaemonSetStatus, names};

use super::create;
use super::demand::Demand;
use super::planner::{DaemonPlanner, Wishes};
use super::report::Report;
use super::site::Sites;
use crate::action::Why;
use crate::pod::label::short;
use crate::workload::history::Revisions;
use crate::workload::kind::Workload;
use crate::workload::memo::Memo;
use crate::workload::observed::{Observed, Plan};
use crate::workload::plan::begin::{Begun, begin, with_own_roster};
use crate::workload::plan::tally::ours;

/// Decides.
pub(super) fn plan(set: &DaemonSet, seen: &Observed<'_>) -> Plan<DaemonSetStatus> {
    if let Some(plan) = with_own_roster(set, seen) {
        return plan;
    }
    let refused = |reason: &'static str, message: String| Plan {
        status: set.status.clone(),
        figures: set.figures(),
        warnings: vec![(reason, message)],
        ..Plan::default()
    };
    if set.spec.selector == Default::default() {
        let message = "This DaemonSet is selecting all pods. A non-empty selector is required.";
        return refused("SelectingAll", message.into());
    }
    let (current, reported) = revisions_before(set, seen);
    let (revisions, memo) = match begin((set, set.owner()), None, (&current, &reported), seen) {
        Begun::Whole(plan) => return *plan,
        Begun::At(revisions, memo) => (*revisions, memo),
    };
    let demand = match Demand::of(&set.spec.template) {
        Ok(demand) => demand,
        Err(why) => return refused("FailedCreate", why),
    };
    let sites = Sites::of(&demand, seen.nodes, seen.pods);
    let report = Report::of(set, &sites, short(&revisions.update), seen.now);
    let wishes = Wishes::of(set);
    let layout = wishes.layout(set, &sites, &revisions.update, seen);
    let mut planner = DaemonPlanner::new((set, seen), (&wishes, &layout), &current, revisions, memo);
    let Some((revision, template)) = planner.goes_back() else {
        planner.decide();
        return planner.finish(report, None);
    };
    let mut back = set.clone();
    back.spec.template = template.clone();
    back.spec.keep_no_pods_back();
    let done = planner.decide_as(&back, &demand, Revisions::only(revision));
    planner.finish(report, Some(done))
}

/// The names of the revision that pods had before the present rollout, and of the one that was wanted last. No status tells the first:
/// it is the one that most of the other pods have.
fn revisions_before(set: &DaemonSet, seen: &Observed<'_>) -> (String, String) {
    let name = |hash: &str| format!("{}-{hash}", set.owner().name());
    let reported = set.status.update_revision.as_str();
    let mut others: BTreeMap<&str, usize> = BTreeMap::new();
    let labels = ours(seen.pods).filter_map(|pod| pod.labels.get(names::REVISION));
    for label in labels.filter(|label| *label != reported) {
        *others.entry(label).or_default() += 1;
    }
    let most = others.into_iter().max_by_key(|(_, pods)| *pods);
    (name(most.map_or(reported, |(label, _)| label)), name(reported))
}

impl DaemonPlanner<'_> {
    fn decide(&mut self) {
        self.base.adopt(|_| true);
        let layout = self.layout;
        self.base.room = self.base.room.min(layout.burst);
        for (pod, why) in layout.leave.iter().chain(&layout.prepared) {
            self.base.delete(pod, *why);
        }
        self.replace_those_that_are_over();
        if !layout.surges {
            for pod in self.base.tally.specified.clone() {
                self.base.delete(pod, Why::Specified);
            }
        }
        self.create();
        // Where a new pod takes an old one's place beforehand, the old one goes by that alone.
        if !layout.surges {
            self.base.update();
        }
        self.base.launch();
        self.base.refresh();
    }

    /// Does everything as if this were wanted; what is told of it is told as what it is. Gives whether all of it is done.
    fn decide_as(&mut self, set: &DaemonSet, demand: &Demand, revisions: Revisions) -> bool {
        let around = &Observed {
            recorded: None,
            ..*self.around
        };
        let sites = Sites::of(demand, around.nodes, around.pods);
        let wishes = Wishes::of(set);
        let layout = wishes.layout(set, &sites, &revisions.update, around);
        let current = revisions.current.clone();
        let memo = Memo::default();
        let mut other = DaemonPlanner::new((set, around), (&wishes, &layout), &current, revisions, memo);
        other.base.memo.failures = std::mem::take(&mut self.base.memo.failures);
        other.decide();
        let done = other.base.all_updated();
        self.base.memo.failures = std::mem::take(&mut other.base.memo.failures);
        self.base.take_over(other.base);
        done
    }

    /// A pod that is over is deleted, and the node gets another one, ever less often if that fails too: a node that refuses a pod does
    /// so within a moment.
    fn replace_those_that_are_over(&mut self) {
        let (now, layout) = (self.base.seen.now, self.layout);
        self.base.memo.failures.begin(self.set.metadata.generation.unwrap_or(0));
        for (pod, node) in &layout.over {
            if let Some(until) = self.base.memo.failures.held_until(node, now) {
                self.base.wake(until);
                self.base.waits.say(format!(
                    "pod {} on node {node} is over, and is replaced at {until}",
                    pod.name()
                ));
                continue;
            }
            self.base.memo.failures.note(node, now);
            let (reason, word) = match pod.status.phase.as_str() {
                "Succeeded" => ("SucceededDaemonPod", "succeeded"),
                _ => ("FailedDaemonPod", "failed"),
            };
            let name = format!("{}/{}", pod.metadata.namespace, pod.name());
            let message = format!("Found {word} daemon pod {name} on node {node}, will try to kill it");
            self.base.warnings.push((reason, message));
            self.base.delete(pod, Why::Finished);
        }
    }

    fn create(&mut self) {
        let surge = if self.base.held_by_loss() {
            &[][..]
        } else {
            &self.layout.surge
        };
        let nodes: Vec<&str> = self.layout.bare.iter().chain(surge).copied().collect();
        let now = &nodes[..nodes.len().min(self.layout.burst)];
        if now.len() < nodes.len() {
            self.base.wake(self.base.seen.now);
        }
        if self.layout.held > 0 {
            let held = self.layout.held;
            self.base.waits.say(format!("{held} pods to update wait for maxSurge"));
        }
        let revision = self.base.revisions.update.clone();
        match create::pods(self.set, self.base.seen.rollout, self.around, &revision, now) {
            Ok(actions) => {
                self.base.coming = actions.len();
                self.base.actions.extend(actions);
            }
            Err(why) => {
                let message = format!("pods cannot be created: {why}");
                self.base.waits.say(message.clone());
                self.base.warnings.push(("FailedCreate", message));
            }
        }
    }
}
