//! Whose the pods are, and how many: adoption and release, creation and deletion.

use std::sync::Arc;

use afloat_api::PodUpdatePolicy;
use serde_json::json;

use super::{Planner, create};
use crate::action::{Action, At, Why};
use crate::budget::{Round, resolve};
use crate::order::deletion_order;
use crate::pod::Pod;

impl<'a> Planner<'a> {
    /// Adopts orphans that match the selector, releases pods that no longer do. An adopted pod counts from the next plan
    /// on, when it is seen as ours.
    pub(super) fn claim(&mut self) {
        let set = self.seen.cloneset;
        let uid = set.metadata.uid.as_deref().unwrap_or_default();
        for pod in self.seen.pods.iter().map(Arc::as_ref) {
            let at = At::of(&pod.metadata);
            let selected = self.matcher.selects(pod.metadata.labels.as_ref());
            let (why, owner) = match pod.controller() {
                None if selected && pod.active() => (Why::Adopt, crate::revision::owner(set)),
                Some(owner) if owner.uid == uid && !selected && pod.metadata.deletion_timestamp.is_none() => {
                    (Why::Release, json!({"$patch": "delete", "uid": uid}))
                }
                _ => continue,
            };
            let patch = json!({"metadata": {
                "uid": at.uid, "resourceVersion": at.resource_version, "ownerReferences": [owner],
            }});
            self.written.insert(pod.name());
            self.actions.push(Action::PatchPod { at, patch, why });
        }
    }

    /// Creates missing pods, deletes those somebody asked to delete and those that are too many.
    pub(super) fn scale(&mut self) {
        let surge = if self.surge_is_needless() {
            0
        } else {
            self.count.surge()
        };
        let missing = self.limit_scale_up(self.count.to_create(surge));
        let claims = self
            .seen
            .cloneset
            .spec
            .volume_claim_templates
            .as_ref()
            .is_some_and(|list| !list.is_empty());
        let missing = if claims { 0 } else { missing };
        self.claims_unsupported = claims;
        self.actions.extend(create::pods(
            self.seen,
            &self.revisions,
            &self.pods,
            &self.count,
            missing,
        ));

        let mut specified: Vec<_> = self.pods.iter().copied().filter(|pod| self.specified(pod)).collect();
        specified.sort_by(|a, b| self.deletion(a, b));
        for pod in specified {
            self.delete(pod, Why::Specified);
        }
        let surplus = self.count.to_remove(surge);
        for pod in self.surplus_pods(surplus) {
            self.delete(pod, Why::ScaleDown);
        }
    }

    fn deletion(&self, a: &Pod, b: &Pod) -> std::cmp::Ordering {
        deletion_order(a, b, self.min_ready, self.seen.now)
    }

    /// Old pods that the partition does not keep go before updated ones.
    fn surplus_pods(&self, surplus: usize) -> Vec<&'a Pod> {
        let mut kept: Vec<_> = self.pods.iter().copied().filter(|pod| !self.specified(pod)).collect();
        kept.sort_by(|a, b| self.deletion(a, b));
        let (old, new): (Vec<_>, Vec<_>) = kept.into_iter().partition(|pod| !self.updated(pod));
        let old_first = surplus.min(old.len().saturating_sub(self.count.partition));
        let (first, rest) = old.split_at(old_first);
        first.iter().chain(&new).chain(rest).copied().take(surplus).collect()
    }

    pub(super) fn delete(&mut self, pod: &'a Pod, why: Why) {
        if self.written.contains(pod.name()) || !self.spend(pod) {
            return;
        }
        self.written.insert(pod.name());
        self.actions.push(Action::DeletePod {
            at: At::of(&pod.metadata),
            why,
        });
    }

    /// A rollout that is in place for every pod and has a budget of its own gains nothing from extra pods
    /// (kruise #2369).
    fn surge_is_needless(&self) -> bool {
        self.count.max_unavailable > 0
            && self.count.to_delete == 0
            && self
                .pods
                .iter()
                .filter(|pod| !self.updated(pod))
                .all(|pod| self.difference(pod).is_ok())
            && self.rollout.policy != PodUpdatePolicy::ReCreate
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
            self.waits.push(format!(
                "{} pods to create wait for scaleStrategy.maxUnavailable",
                missing - allowed
            ));
        }
        allowed
    }
}
