//! Whose the pods are, and how many: adoption and release, creation and deletion.

use afloat_api::{CloneSet, PodUpdatePolicy, names};
use serde_json::{Value, json};

use super::create;
use super::drain::leaves_for_good;
use super::plan::Planner;
use crate::action::{Action, At, Why};
use crate::cloneset::claim;
use crate::pod::object::Pod;
use crate::workload::budget::{Round, resolve};
use crate::workload::order::{Deletion, crowds};

impl<'a> Planner<'a> {
    /// Adopts orphans that match the selector, releases pods that no longer do. An adopted pod counts from the next plan
    /// on, when it is seen as ours.
    pub(super) fn claim(&mut self) {
        let set = self.seen.cloneset;
        let uid = set.metadata.uid.as_deref().unwrap_or_default();
        for pod in self.tally.orphans.clone() {
            self.claim_pod(pod, Why::Adopt, &crate::workload::revision::owner(set));
        }
        for pod in self.tally.strays.clone() {
            self.claim_pod(pod, Why::Release, &json!({"$patch": "delete", "uid": uid}));
        }
    }

    fn claim_pod(&mut self, pod: &'a Pod, why: Why, owner: &Value) {
        let at = pod.at();
        let patch = json!({"metadata": {
            "uid": at.uid, "resourceVersion": at.resource_version, "ownerReferences": [owner],
        }});
        self.write(pod, Action::PatchPod { at, patch, why });
    }

    /// Creates missing pods, deletes those somebody asked to delete and those that are too many.
    pub(super) fn scale(&mut self) {
        let surge = self.surge;
        let missing = self.limit_scale_up(self.count.to_create(surge));
        // A pod waits for its claims before it is given a node.
        for pod in self.tally.unsettled.iter().filter(|pod| pod.spec.node_name.is_none()) {
            if let Some(id) = pod.labels.get(names::INSTANCE_ID) {
                self.actions
                    .extend(claim::missing(self.seen.cloneset, &self.claims, id));
            }
        }
        match create::pods(self.seen, &self.revisions, &self.claims, &self.count, missing) {
            Ok(actions) => self.actions.extend(actions),
            Err(why) => self.failed_scale = Some(format!("pods cannot be created: {why}")),
        }

        let mut specified = self.tally.specified.clone();
        if specified.len() > 1 {
            let deletion = self.deletion();
            specified.sort_by(|a, b| deletion.order(a, b));
        }
        for pod in specified {
            self.delete(pod, Why::Specified);
        }
        let surplus = self.count.to_remove(surge);
        for pod in self.surplus_pods(surplus) {
            self.delete(pod, Why::ScaleDown);
        }
    }

    fn deletion(&self) -> Deletion {
        Deletion {
            min_ready: self.min_ready,
            now: self.seen.now,
            crowd: crowds(&self.tally.pods, &topology(self.seen.cloneset), self.seen.nodes),
        }
    }

    /// Old pods that the partition does not keep go before updated ones.
    fn surplus_pods(&self, surplus: usize) -> Vec<&'a Pod> {
        if surplus == 0 {
            return Vec::new();
        }
        let mut kept: Vec<_> = self
            .tally
            .pods
            .iter()
            .copied()
            .filter(|pod| !self.specified(pod))
            .collect();
        let deletion = self.deletion();
        kept.sort_by(|a, b| deletion.order(a, b));
        let leaving =
            |pod: &&Pod| crate::pod::lifecycle::state(pod) == names::STATE_PREPARING_DELETE || leaves_for_good(pod);
        let (leaving, kept): (Vec<_>, Vec<_>) = kept.into_iter().partition(leaving);
        let wanted = surplus;
        let surplus = surplus.saturating_sub(leaving.len());
        let (old, new): (Vec<_>, Vec<_>) = kept.into_iter().partition(|pod| !self.updated(pod));
        let old_first = surplus.min(old.len().saturating_sub(self.count.partition));
        let (first, rest) = old.split_at(old_first);
        let order = leaving.iter().chain(first).chain(&new).chain(rest);
        order.copied().take(wanted).collect()
    }

    /// Names in `podsToDelete` whose pods are gone or going have done their work.
    pub(super) fn prune(&mut self) {
        let set = self.seen.cloneset;
        let Some(listed) = set
            .spec
            .scale_strategy
            .as_ref()
            .map(|strategy| &strategy.pods_to_delete)
        else {
            return;
        };
        let here = |name: &&String| self.tally.pods.iter().any(|pod| pod.name() == name.as_str());
        let kept: Vec<&String> = listed.iter().filter(here).collect();
        if kept.len() == listed.len() {
            return;
        }
        let at = At::of(&set.metadata);
        let kept = if kept.is_empty() { Value::Null } else { json!(kept) };
        let patch = json!({
            "metadata": {"uid": at.uid, "resourceVersion": at.resource_version},
            "spec": {"scaleStrategy": {"podsToDelete": kept}},
        });
        self.actions.push(Action::PatchSet { at, patch });
    }

    pub(super) fn delete(&mut self, pod: &'a Pod, why: Why) {
        if self.written.contains(pod.name())
            || self.held_from_deletion(pod)
            || self.drains_before_deletion(pod)
            || !self.spend(pod)
        {
            return;
        }
        let action = Action::DeletePod {
            at: pod.at(),
            why,
            claims: claim::of_pod(&self.claims, pod),
        };
        self.write(pod, action);
    }

    /// A rollout that is in place for every pod and has a budget of its own gains nothing from extra pods
    /// (kruise #2369), unless that budget is everything that serves.
    pub(super) fn surge_is_needless(&self) -> bool {
        self.count.max_unavailable > 0
            && self.count.max_unavailable < self.count.replicas
            && self.count.to_delete == 0
            && self.rollout.policy != PodUpdatePolicy::ReCreate
            && self.tally.outdated.iter().all(|pod| self.difference(pod).is_ok())
    }

    fn limit_scale_up(&mut self, missing: usize) -> usize {
        let strategy = self.seen.cloneset.spec.scale_strategy.as_ref();
        let Some(limit) = strategy.and_then(|strategy| strategy.max_unavailable.as_ref()) else {
            return missing;
        };
        let limit = resolve(limit, self.count.replicas, Round::Up);
        let allowed = limit
            .saturating_sub(self.count.total - self.count.available)
            .min(missing);
        if allowed < missing {
            let message = format!(
                "{} pods to create wait for scaleStrategy.maxUnavailable",
                missing - allowed
            );
            if allowed == 0 {
                self.warnings.push(("ScaleUpLimited", message.clone()));
            }
            self.waits.say(message);
        }
        allowed
    }
}

/// The topologies over which the template spreads its pods.
pub fn topology(set: &CloneSet) -> Vec<String> {
    let constraints = set.spec.template.pointer("/spec/topologySpreadConstraints");
    let key = |constraint: &Value| constraint.get("topologyKey")?.as_str().map(str::to_owned);
    let list = constraints.and_then(Value::as_array);
    list.into_iter().flatten().filter_map(key).collect()
}
