//! How many pods: creation and deletion.

use afloat_api::{CloneSet, names};
use serde_json::Value;

use super::planner::CloneSetPlanner;
use super::{claim, create};
use crate::action::patch::SetPatch;
use crate::action::{Action, At, Why};
use crate::pod::lifecycle::State;
use crate::pod::object::Pod;
use crate::workload::budget::{Count, Round, resolve};
use crate::workload::order::{Deletion, crowds};
use crate::workload::plan::leave::leaves_for_good;
use crate::workload::plan::tally::ours;
use crate::workload::roster::Relation;
use crate::workload::waits::Wait;

impl<'a> CloneSetPlanner<'a> {
    /// Creates missing pods, deletes those somebody asked to delete and those that are too many.
    pub(super) fn scale(&mut self) {
        let count = self.scaling_count();
        let surge = self.base.surge.min(count.surge());
        let missing = self.limit_scale_up(count.to_create(surge));
        // A pod waits for its claims before it is given a node.
        for pod in self
            .base
            .tally
            .unsettled
            .iter()
            .filter(|pod| pod.spec.node_name.is_none())
        {
            if let Some(id) = pod.labels.get(names::INSTANCE_ID) {
                self.base
                    .actions
                    .extend(claim::missing(self.seen.set, &self.claims, id));
            }
        }
        match create::pods(&self.seen, &self.base.revisions, &self.claims, &count, missing) {
            Ok(creation) => {
                self.base.actions.extend(creation.actions);
                self.base.coming = creation.updated;
                for pod in creation.after {
                    self.wait_for_the_end_of(pod);
                }
            }
            Err(why) => self.failed_scale = Some(format!("pods cannot be created: {why}")),
        }

        let mut specified = self.base.tally.specified.clone();
        if specified.len() > 1 {
            let deletion = self.deletion();
            specified.sort_by(|a, b| deletion.order(a, b));
        }
        for pod in specified {
            if !self.base.waits_for_replacement(pod) {
                self.base.delete(pod, Why::Specified);
            }
        }
        let surplus = count.to_remove(surge);
        for pod in self.surplus_pods(surplus) {
            self.base.delete(pod, Why::ScaleDown);
        }
    }

    /// The gate PreparingUpdateAsUpdate: who is held before its update will be updated, so that neither a new pod nor
    /// the removal of one is to make up for it.
    fn scaling_count(&self) -> Count {
        let mut count = self.base.count;
        if self.base.seen.gates.preparing_update_as_update {
            let outdated = self.base.tally.outdated.iter();
            count.updated += outdated.filter(|member| member.state == State::PreparingUpdate).count();
        }
        count
    }

    fn prepares(&self, pod: &Pod) -> bool {
        self.base.seen.gates.preparing_update_as_update && State::of(pod) == State::PreparingUpdate
    }

    /// A pod that is over and that nobody deletes would be waited for without end; a StatefulSet, whose pods have names of
    /// their own, too, deletes it for its successor as well.
    fn wait_for_the_end_of(&mut self, pod: &'a Pod) {
        self.base.waits.pod(Wait::Predecessor, || pod.name().to_owned());
        if !pod.metadata.terminating {
            let action = Action::DeletePod {
                at: pod.at(),
                why: Why::Finished,
                claims: Vec::new(),
            };
            self.base.write(pod, action);
        }
    }

    fn deletion(&self) -> Deletion {
        Deletion {
            min_ready: self.base.seen.min_ready,
            now: self.seen.around.now,
            crowd: crowds(
                &ours(self.seen.around.pods).collect::<Vec<_>>(),
                &topology(self.seen.set),
                self.seen.around.nodes,
            ),
        }
    }

    /// Old pods that the partition does not keep go before updated ones.
    fn surplus_pods(&self, surplus: usize) -> Vec<&'a Pod> {
        if surplus == 0 {
            return Vec::new();
        }
        let mut kept: Vec<_> = ours(self.seen.around.pods)
            .filter(|pod| !self.base.specified(pod))
            .collect();
        let deletion = self.deletion();
        kept.sort_by(|a, b| deletion.order(a, b));
        let leaving = |pod: &&Pod| State::of(pod) == State::PreparingDelete || leaves_for_good(pod);
        let (leaving, kept): (Vec<_>, Vec<_>) = kept.into_iter().partition(leaving);
        let wanted = surplus;
        let surplus = surplus.saturating_sub(leaving.len());
        let (old, new): (Vec<_>, Vec<_>) = kept
            .into_iter()
            .partition(|pod| !self.base.updated(pod) && !self.prepares(pod));
        let mut old_first = surplus.min(old.len().saturating_sub(self.base.count.partition));
        if self.no_more_surge() {
            let free = old.iter().filter(|pod| !self.base.available(pod)).count();
            old_first = old_first.min(free + self.base.may_go);
        }
        let (first, rest) = old.split_at(old_first);
        let order = leaving.iter().chain(first).chain(&new).chain(rest);
        order.copied().take(wanted).collect()
    }

    /// Whether pods beyond `replicas` are what is left of a surge that is not wanted any more. Then an old pod that must serve
    /// on is not waited for while there is a new one that does not serve: it may never do so. While there is a surge that
    /// new pod is what the old one is kept for.
    fn no_more_surge(&self) -> bool {
        self.base.count.max_surge == 0 || self.base.held_by_loss()
    }

    /// Names in `podsToDelete` whose pods are gone or going have done their work.
    pub(super) fn prune(&mut self) {
        let set = self.seen.set;
        let Some(listed) = set
            .spec
            .scale_strategy
            .as_ref()
            .map(|strategy| &strategy.pods_to_delete)
        else {
            return;
        };
        let here = |name: &&String| {
            let member = self.seen.around.pods.member_of(name);
            member.is_some_and(|member| member.relation == Relation::Ours)
        };
        let kept: Vec<String> = listed.iter().filter(here).cloned().collect();
        if kept.len() == listed.len() {
            return;
        }
        let at = At::of(&set.metadata);
        let patch = SetPatch { pods_to_delete: kept };
        self.base.actions.push(Action::PatchSet { at, patch });
    }

    fn limit_scale_up(&mut self, missing: usize) -> usize {
        let strategy = self.seen.set.spec.scale_strategy.as_ref();
        let Some(limit) = strategy.and_then(|strategy| strategy.max_unavailable.as_ref()) else {
            return missing;
        };
        let limit = resolve(limit, self.base.count.replicas, Round::Up);
        let allowed = limit
            .saturating_sub(self.base.count.total - self.base.count.available)
            .min(missing);
        if allowed < missing {
            let message = format!(
                "{} pods to create wait for scaleStrategy.maxUnavailable",
                missing - allowed
            );
            if allowed == 0 {
                self.base.warnings.push(("ScaleUpLimited", message.clone()));
            }
            self.base.waits.say(message);
        }
        allowed
    }
}

/// The topologies over which the template spreads its pods.
pub(super) fn topology(set: &CloneSet) -> Vec<String> {
    let constraints = set.spec.template.pointer("/spec/topologySpreadConstraints");
    let key = |constraint: &Value| constraint.get("topologyKey")?.as_str().map(str::to_owned);
    let list = constraints.and_then(Value::as_array);
    list.into_iter().flatten().filter_map(key).collect()
}
