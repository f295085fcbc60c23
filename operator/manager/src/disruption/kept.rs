//! What is kept of budgets, and of pods that they may be about: little, as there are so many.

use std::sync::Arc;

use afloat_api::{PodUnavailableBudget, names};
use afloat_rollout::pod::complete::incomplete;
use afloat_rollout::pod::images::Nodes;
use afloat_rollout::pod::{Controller, Pod, Wire};
use afloat_rollout::texts::Entries;
use afloat_watching::{Kind, Whole};
use afloat_words::key::Key;
use afloat_words::texts::Pool;
use jiff::Timestamp;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use crate::kept::{Group, by_namespace};

/// Stands for PodUnavailableBudgets.
pub(super) struct Budgets;
/// Stands for PodDisruptionBudgets.
pub(super) struct Others;
/// Stands for pods of whatever owner.
pub(super) struct Guarded;

impl Whole for Budgets {
    type Object = PodUnavailableBudget;
    type Index = Group;
    fn indexes(budget: &PodUnavailableBudget) -> Vec<Group> {
        by_namespace(budget)
    }
}

impl Whole for Others {
    type Object = PodDisruptionBudget;
    type Index = Group;
    fn indexes(budget: &PodDisruptionBudget) -> Vec<Group> {
        by_namespace(budget)
    }
}

/// A pod as budgets see it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct GuardedPod {
    pub(super) namespace: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) uid: Arc<str>,
    pub(super) labels: Entries,
    pub(super) controller: Option<Controller>,
    pub(super) created: Option<Timestamp>,
    /// Neither terminating nor over.
    pub(super) active: bool,
    terminating: bool,
    pub(super) available: bool,
    pub(super) ready_since: Option<Timestamp>,
    /// Somebody wants it gone, and it is to be replaced first.
    pub(super) going: bool,
    /// The budget that its annotations name, if both name one.
    pub(super) related: Option<String>,
}

impl GuardedPod {
    fn of(pod: Pod) -> Self {
        let related = names::RELATED_BUDGET.map(|key| pod.annotations.get(key));
        Self {
            active: pod.active(),
            terminating: pod.metadata.terminating,
            available: available(&pod, Timestamp::now()),
            ready_since: pod.ready_since(),
            going: pod.labels.contains_key(names::SPECIFIED_DELETE)
                || pod.annotations.contains_key(names::EVICTION_WAITS),
            related: related[0].filter(|_| related[0] == related[1]).map(str::to_owned),
            namespace: pod.metadata.namespace.shared(),
            name: pod.metadata.name.shared(),
            uid: pod.metadata.uid.shared(),
            created: pod.metadata.created,
            labels: pod.labels,
            controller: pod.controller,
        }
    }
}

/// Whether a pod counts as available: Ready, not marked, and no change of it under way. Where its gate tells of that, the gate is believed.
pub(super) fn available(pod: &Pod, now: Timestamp) -> bool {
    let marked = pod.labels.keys().any(|key| key.starts_with(names::UNAVAILABLE_PREFIX));
    let told = pod.has_gate(names::INPLACE_READY);
    pod.active() && pod.ready() && !marked && (told || incomplete(pod, &Nodes::new(), now).is_empty())
}

impl Kind for Guarded {
    type Wire = Wire;
    type Kept = GuardedPod;
    type Index = Group;
    fn read(text: &str) -> serde_json::Result<Wire> {
        afloat_rollout::pod::read(text)
    }
    fn keep(wire: Wire) -> GuardedPod {
        GuardedPod::of(Pod::from(wire))
    }
    fn key(pod: &GuardedPod) -> Key {
        Key::new(pod.namespace.clone(), pod.name.clone())
    }
    fn uid(pod: &GuardedPod) -> &str {
        &pod.uid
    }
    fn deleting(pod: &GuardedPod) -> bool {
        pod.terminating
    }
    fn indexes(pod: &GuardedPod) -> Vec<Group> {
        vec![pod.namespace.clone()]
    }
    fn share(pod: &mut GuardedPod, before: Option<&GuardedPod>, texts: &mut Pool) {
        let none = Entries::default();
        pod.labels.share(before.map_or(&none, |before| &before.labels), texts);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn kept(change: impl FnOnce(&mut Value)) -> GuardedPod {
        let mut pod = json!({
            "metadata": {"name": "a", "namespace": "n", "uid": "u", "labels": {"app": "web"}},
            // By digest: what runs is told by another one (kruise #2570).
            "spec": {"containers": [{"name": "app", "image": "r.example/app@sha256:11"}]},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
                "containerStatuses": [{"name": "app", "image": "r.example/app@sha256:11", "imageID": "sha256:22", "ready": true,
                    "state": {"running": {}}}]},
        });
        change(&mut pod);
        Guarded::keep(afloat_rollout::pod::read(&pod.to_string()).unwrap())
    }

    #[test]
    fn ready_pods_are_available_whatever_their_images_are() {
        assert!(kept(|_| ()).available);
        assert!(!kept(|pod| pod["status"]["conditions"][0]["status"] = json!("False")).available);
        assert!(!kept(|pod| pod["metadata"]["labels"]["unavailable-pod.kruise.io/x"] = json!("true")).available);
        let closed = json!([{"type": "Ready", "status": "True"}, {"type": names::INPLACE_READY, "status": "False"}]);
        assert!(!kept(|pod| pod["status"]["conditions"] = closed).available);
    }

    #[test]
    fn a_pod_names_its_budget_twice_or_not_at_all() {
        let both = json!({"kruise.io/related-pub": "b", "pub.kruise.io/related-pub": "b"});
        assert_eq!(
            kept(|pod| pod["metadata"]["annotations"] = both).related.as_deref(),
            Some("b")
        );
        let one = json!({"kruise.io/related-pub": "b"});
        assert_eq!(kept(|pod| pod["metadata"]["annotations"] = one).related, None);
    }
}
