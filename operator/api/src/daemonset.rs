//! The Advanced DaemonSet as the controller reads it: v1beta1 alone, lenient, absent fields by their documented defaults.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cloneset::{Lifecycle, Matcher, PodUpdatePolicy, PriorityStrategy, Rollout, UpdateStrategy};
use crate::names::PROGRESSIVE_CREATE;
use crate::status::{Condition, reports};

/// An Advanced DaemonSet: one pod on every node that suits.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct DaemonSet {
    /// Name, labels, versions.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What is wanted.
    #[serde(default)]
    pub spec: DaemonSetSpec,
    /// What was last written about it.
    #[serde(default)]
    pub status: DaemonSetStatus,
}

crate::kind!(
    DaemonSet,
    "apps.kruise.io" / "v1beta1",
    "DaemonSet",
    "daemonsets",
    NamespaceResourceScope
);

/// What is wanted of a DaemonSet.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DaemonSetSpec {
    /// Which pods may belong to the set; ownership itself is by owner reference.
    pub selector: LabelSelector,
    /// The pod template, verbatim.
    pub template: Value,
    /// How to update.
    pub update_strategy: UpdateStrategy<RollingUpdateDaemonSet>,
    /// Seconds a pod must be Ready to count as available.
    pub min_ready_seconds: Option<i32>,
    /// Pods created, deleted, and changed in place by one round at most; absent means 250.
    pub burst_replicas: Option<IntOrString>,
    /// Revisions kept that no pod uses; absent means 10.
    pub revision_history_limit: Option<i32>,
    /// Hooks, of which only preDelete is heeded.
    pub lifecycle: Option<Lifecycle>,
    /// How to create.
    pub scale_strategy: Option<DaemonSetScaleStrategy>,
}

/// `spec.scaleStrategy`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DaemonSetScaleStrategy {
    /// The partition limits the creation of pods, too.
    pub partitioned_scaling: bool,
}

/// The settings of a rollout.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RollingUpdateDaemonSet {
    /// Standard or InPlaceIfPossible; Surging, of old, is Standard with a maxSurge.
    pub rolling_update_type: Option<String>,
    /// Nodes whose pod may be unavailable.
    pub max_unavailable: Option<IntOrString>,
    /// Nodes that may have a pod of each revision.
    pub max_surge: Option<IntOrString>,
    /// Only pods on nodes with these labels are updated.
    pub selector: Option<LabelSelector>,
    /// Pods to keep at old revisions.
    pub partition: Option<IntOrString>,
    /// Update no pod.
    pub paused: Option<bool>,
}

/// [`RollingUpdateDaemonSet::rolling_update_type`]: recreate.
pub(crate) const STANDARD: &str = "Standard";
/// [`RollingUpdateDaemonSet::rolling_update_type`]: in place where the change allows it.
pub(crate) const IN_PLACE: &str = "InPlaceIfPossible";
/// [`RollingUpdateDaemonSet::rolling_update_type`] of old: the new pod is there before the old one goes.
pub(crate) const SURGING: &str = "Surging";

impl RollingUpdateDaemonSet {
    fn is(&self, kind: &str) -> bool {
        self.rolling_update_type.as_deref() == Some(kind)
    }
}

impl DaemonSetSpec {
    /// The update strategy with its defaults; as many nodes may be unavailable as the settings say, but for both that and maxSurge
    /// being 0: then it is 1.
    pub fn rollout(&self) -> Rollout {
        let empty = RollingUpdateDaemonSet::default();
        let rolling = self.update_strategy.rolling_update.as_ref().unwrap_or(&empty);
        let on_delete = self.update_strategy.on_delete();
        let policy = if rolling.is(IN_PLACE) {
            PodUpdatePolicy::InPlaceIfPossible
        } else {
            PodUpdatePolicy::ReCreate
        };
        let surging = i32::from(rolling.is(SURGING));
        let max_surge = rolling.max_surge.clone().unwrap_or(IntOrString::Int(surging));
        let surges = !on_delete && !is_zero(&max_surge);
        let unavailable = rolling.max_unavailable.clone();
        let unavailable = unavailable.filter(|setting| surges || !is_zero(setting));
        Rollout {
            on_delete,
            policy,
            partition: rolling.partition.clone().unwrap_or(IntOrString::Int(0)),
            max_unavailable: unavailable.unwrap_or(IntOrString::Int(i32::from(!surges))),
            max_surge: if surges { max_surge } else { IntOrString::Int(0) },
            paused: rolling.paused.unwrap_or(false),
            grace_seconds: 0,
            priority: PriorityStrategy::default(),
            scatter: Vec::new(),
        }
    }

    /// From now on no pod stays at an old revision, on whatever node.
    pub fn keep_no_pods_back(&mut self) {
        if let Some(rolling) = &mut self.update_strategy.rolling_update {
            rolling.partition = None;
            rolling.selector = None;
        }
    }

    /// Which nodes' pods are updated; None means all.
    pub fn updated_nodes(&self) -> Option<Matcher> {
        let rolling = self.update_strategy.rolling_update.as_ref()?;
        rolling.selector.as_ref().map(Matcher::new)
    }

    /// Pods created, deleted or changed in place at once, default 250.
    pub fn burst(&self) -> IntOrString {
        self.burst_replicas.clone().unwrap_or(IntOrString::Int(250))
    }
}

fn is_zero(setting: &IntOrString) -> bool {
    match setting {
        IntOrString::Int(number) => *number <= 0,
        IntOrString::String(text) => text.trim_start_matches('0').trim_end_matches('%').is_empty(),
    }
}

impl DaemonSet {
    /// Whether the partition limits the creation of pods, too.
    pub fn creates_progressively(&self) -> bool {
        let annotations = self.metadata.annotations.as_ref();
        let annotation = annotations.and_then(|all| all.get(PROGRESSIVE_CREATE));
        let strategy = self.spec.scale_strategy.as_ref();
        strategy.is_some_and(|strategy| strategy.partitioned_scaling) || annotation.is_some_and(|text| text == "true")
    }

    /// The selector, read once.
    pub fn matcher(&self) -> Matcher {
        Matcher::new(&self.spec.selector)
    }
}

/// What a DaemonSet reports.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DaemonSetStatus {
    /// Generation of the spec that the other fields speak of.
    pub observed_generation: i64,
    /// Nodes that have a pod and should.
    pub current_number_scheduled: i32,
    /// Nodes that have a pod and should not.
    pub number_misscheduled: i32,
    /// Nodes that should have a pod.
    pub desired_number_scheduled: i32,
    /// Of those that should, nodes with a Ready pod.
    pub number_ready: i32,
    /// Of those that should, nodes whose pod is at the update revision.
    pub updated_number_scheduled: i32,
    /// Of those that should, nodes with an available pod.
    pub number_available: i32,
    /// Of those that should, nodes without one.
    pub number_unavailable: i32,
    /// Hash collisions of revision names met so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collision_count: Option<i32>,
    /// What is going on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Hash of the revision that the spec's template has, as it is in pods' labels.
    pub update_revision: String,
}

reports!(DaemonSetStatus);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rollout(rolling: &Value) -> Rollout {
        let spec: DaemonSetSpec =
            serde_json::from_value(json!({"updateStrategy": {"rollingUpdate": rolling}})).unwrap();
        spec.rollout()
    }

    #[test]
    fn one_node_after_the_other_unless_it_is_said_otherwise() {
        let (one, none) = (IntOrString::Int(1), IntOrString::Int(0));
        for (rolling, unavailable, surge) in [
            (json!({}), &one, &none),
            (json!({"maxUnavailable": 0}), &one, &none),
            (json!({"maxUnavailable": "0%", "maxSurge": 0}), &one, &none),
            (json!({"maxSurge": 1}), &none, &one),
            (json!({"rollingUpdateType": "Surging"}), &none, &one),
        ] {
            let rollout = rollout(&rolling);
            assert_eq!(
                (&rollout.max_unavailable, &rollout.max_surge),
                (unavailable, surge),
                "{rolling}"
            );
        }
        let third = IntOrString::String("30%".into());
        assert_eq!(rollout(&json!({"maxUnavailable": "30%"})).max_unavailable, third);
    }

    #[test]
    fn in_place_where_it_is_asked_for() {
        assert_eq!(
            rollout(&json!({"rollingUpdateType": "Standard"})).policy,
            PodUpdatePolicy::ReCreate
        );
        let in_place = rollout(&json!({"rollingUpdateType": "InPlaceIfPossible"}));
        assert_eq!(in_place.policy, PodUpdatePolicy::InPlaceIfPossible);
    }

    #[test]
    fn the_annotation_of_v1alpha1_is_heeded_where_nobody_converts() {
        let set = |metadata: Value, scaling: Value| -> bool {
            let set = json!({"metadata": metadata, "spec": {"scaleStrategy": scaling}});
            serde_json::from_value::<DaemonSet>(set)
                .unwrap()
                .creates_progressively()
        };
        assert!(!set(json!({}), json!(null)));
        assert!(set(json!({}), json!({"partitionedScaling": true})));
        assert!(set(json!({"annotations": {PROGRESSIVE_CREATE: "true"}}), json!(null)));
    }
}
