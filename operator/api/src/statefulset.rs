//! The Advanced StatefulSet as the controller reads it: v1beta1 alone, lenient, absent fields by their documented defaults.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::core::Selector;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cloneset::{
    InPlaceUpdateStrategy, Lifecycle, Matcher, PodUpdatePolicy, PriorityStrategy, Rollout, UpdateStrategy,
};
use crate::status::{Condition, reports};

/// An Advanced StatefulSet.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct StatefulSet {
    /// Name, labels, versions.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What is wanted.
    #[serde(default)]
    pub spec: StatefulSetSpec,
    /// What was last written about it.
    #[serde(default)]
    pub status: StatefulSetStatus,
}

crate::kind!(
    StatefulSet,
    "apps.kruise.io" / "v1beta1",
    "StatefulSet",
    "statefulsets",
    NamespaceResourceScope
);

/// What is wanted of a StatefulSet.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StatefulSetSpec {
    /// Desired number of pods; absent means 1.
    pub replicas: Option<i32>,
    /// Which pods may belong to the set; ownership itself is by owner reference.
    pub selector: LabelSelector,
    /// The pod template, verbatim.
    pub template: Value,
    /// Claims made for each pod, verbatim.
    pub volume_claim_templates: Option<Vec<Value>>,
    /// When claims that are there grow with their templates.
    pub volume_claim_update_strategy: Option<VolumeClaimUpdateStrategy>,
    /// The headless Service that gives pods their names in the DNS.
    pub service_name: Option<String>,
    /// OrderedReady or Parallel; absent means OrderedReady.
    pub pod_management_policy: Option<String>,
    /// How to update.
    pub update_strategy: UpdateStrategy<StatefulSetRollingUpdate>,
    /// Revisions kept that no pod uses; absent means 10.
    pub revision_history_limit: Option<i32>,
    /// Ordinals that no pod may have: numbers, and ranges as text ("2-5", both ends included).
    pub reserve_ordinals: Option<Vec<IntOrString>>,
    /// Hooks.
    pub lifecycle: Option<Lifecycle>,
    /// How to scale.
    pub scale_strategy: Option<StatefulSetScaleStrategy>,
    /// What becomes of claims whose pods are not wanted any more.
    pub persistent_volume_claim_retention_policy: Option<ClaimRetentionPolicy>,
    /// Where ordinals begin.
    pub ordinals: Option<StatefulSetOrdinals>,
}

/// `spec.volumeClaimUpdateStrategy`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct VolumeClaimUpdateStrategy {
    /// `OnDelete` or `OnPodRollingUpdate`; absent means OnDelete.
    #[serde(rename = "type")]
    pub kind: Option<String>,
}

/// The settings of a rollout.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StatefulSetRollingUpdate {
    /// Pods to keep at old revisions; OpenKruise knows numbers only.
    pub partition: Option<IntOrString>,
    /// Pods that may be unavailable; absent means 1.
    pub max_unavailable: Option<IntOrString>,
    /// ReCreate, InPlaceIfPossible or InPlaceOnly.
    pub pod_update_policy: Option<String>,
    /// Update no pod.
    pub paused: Option<bool>,
    /// Update in another order than from the highest ordinal down.
    pub unordered_update: Option<UnorderedUpdate>,
    /// Settings of in-place updates.
    pub in_place_update_strategy: Option<InPlaceUpdateStrategy>,
    /// Seconds a pod must be Ready to count as available.
    pub min_ready_seconds: Option<i32>,
}

/// `unorderedUpdate`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UnorderedUpdate {
    /// Who goes first.
    pub priority_strategy: Option<PriorityStrategy>,
}

/// `spec.scaleStrategy`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StatefulSetScaleStrategy {
    /// Limits the creation of pods by the number of those that are not available.
    pub max_unavailable: Option<IntOrString>,
}

/// `spec.persistentVolumeClaimRetentionPolicy`: `Retain` or `Delete`, absent means Retain.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClaimRetentionPolicy {
    /// When the set is deleted.
    pub when_deleted: Option<String>,
    /// When the set has fewer pods.
    pub when_scaled: Option<String>,
}

/// `spec.ordinals`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct StatefulSetOrdinals {
    /// The first one.
    pub start: i32,
}

impl StatefulSetSpec {
    /// Desired number of pods, default 1, never negative.
    pub fn replicas(&self) -> usize {
        usize::try_from(self.replicas.unwrap_or(1)).unwrap_or(0)
    }

    /// Whether pods are created and deleted without waiting for each other.
    pub fn parallel(&self) -> bool {
        self.pod_management_policy.as_deref() == Some("Parallel")
    }

    fn rolling(&self) -> Option<&StatefulSetRollingUpdate> {
        self.update_strategy.rolling_update.as_ref()
    }

    /// The order of an update that does not go by ordinals; None: it does.
    pub fn unordered(&self) -> Option<&UnorderedUpdate> {
        self.rolling()?.unordered_update.as_ref()
    }

    /// Seconds a pod must be Ready to count as available.
    pub fn min_ready_seconds(&self) -> i32 {
        let rolling = self.rolling();
        rolling
            .and_then(|rolling| rolling.min_ready_seconds)
            .unwrap_or(0)
            .max(0)
    }

    /// Whether claims that are there grow with their templates, pod by pod.
    pub fn grows_claims(&self) -> bool {
        let strategy = self.volume_claim_update_strategy.as_ref();
        strategy.and_then(|strategy| strategy.kind.as_deref()) == Some("OnPodRollingUpdate")
    }

    /// Whether claims go with the set, and whether they go with pods that are not wanted any more.
    pub fn deletes_claims(&self) -> (bool, bool) {
        let policy = self.persistent_volume_claim_retention_policy.as_ref();
        let deletes = |word: Option<&String>| word.is_some_and(|word| word == "Delete");
        (
            deletes(policy.and_then(|policy| policy.when_deleted.as_ref())),
            deletes(policy.and_then(|policy| policy.when_scaled.as_ref())),
        )
    }

    /// The update strategy with its defaults, in the words that all workloads have.
    pub fn rollout(&self) -> Rollout {
        let empty = StatefulSetRollingUpdate::default();
        let rolling = self.rolling().unwrap_or(&empty);
        let grace = rolling.in_place_update_strategy.as_ref();
        let unordered = rolling.unordered_update.as_ref();
        let priority = unordered.and_then(|unordered| unordered.priority_strategy.clone());
        Rollout {
            on_delete: self.update_strategy.on_delete(),
            policy: PodUpdatePolicy::read(rolling.pod_update_policy.as_deref()),
            partition: rolling.partition.clone().unwrap_or(IntOrString::Int(0)),
            max_unavailable: rolling.max_unavailable.clone().unwrap_or(IntOrString::Int(1)),
            max_surge: IntOrString::Int(0),
            paused: rolling.paused.unwrap_or(false),
            grace_seconds: grace.and_then(|grace| grace.grace_period_seconds).unwrap_or(0).max(0),
            priority: priority.unwrap_or_default(),
            scatter: Vec::new(),
        }
    }

    /// From now on no pod stays at an old revision.
    pub fn keep_no_pods_back(&mut self) {
        if let Some(rolling) = &mut self.update_strategy.rolling_update {
            rolling.partition = None;
        }
    }
}

impl StatefulSet {
    /// The selector, read once.
    pub fn matcher(&self) -> Matcher {
        Matcher::new(&self.spec.selector)
    }

    /// The selector as text, for `status.labelSelector`; empty if it cannot be read.
    pub fn selector_text(&self) -> String {
        Selector::try_from(self.spec.selector.clone())
            .map(|selector| selector.to_string())
            .unwrap_or_default()
    }
}

/// What a StatefulSet reports.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StatefulSetStatus {
    /// Generation of the spec that the other fields speak of.
    pub observed_generation: i64,
    /// Pods, those that are going included.
    pub replicas: i32,
    /// Of those, Ready.
    pub ready_replicas: i32,
    /// Of those, Ready for minReadySeconds.
    pub available_replicas: i32,
    /// At the current revision, and not going.
    pub current_replicas: i32,
    /// At the update revision, and not going.
    pub updated_replicas: i32,
    /// At the update revision and Ready.
    pub updated_ready_replicas: i32,
    /// At the update revision and available.
    pub updated_available_replicas: i32,
    /// Name of the revision that all pods had last.
    pub current_revision: String,
    /// Name of the revision that the spec's template has.
    pub update_revision: String,
    /// Hash collisions of revision names met so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collision_count: Option<i32>,
    /// What is going on.
    pub conditions: Vec<Condition>,
    /// The selector as text, for the scale subresource.
    pub label_selector: String,
    /// How far claims have grown, by their templates.
    pub volume_claims: Vec<VolumeClaimStatus>,
}

reports!(StatefulSetStatus);

/// How far the claims of one template have grown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumeClaimStatus {
    /// Name of the template.
    pub volume_claim_name: String,
    /// Claims that ask for at least what the template does.
    pub compatible_replicas: i32,
    /// Of those, claims that have what they ask for.
    pub compatible_ready_replicas: i32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(value: Value) -> StatefulSetSpec {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn absent_settings_have_their_defaults() {
        let plain = spec(json!({}));
        let rollout = plain.rollout();
        assert_eq!(
            (plain.replicas(), plain.parallel(), plain.min_ready_seconds()),
            (1, false, 0)
        );
        assert_eq!(rollout.max_unavailable, IntOrString::Int(1));
        assert_eq!(rollout.policy, PodUpdatePolicy::ReCreate);
        assert!(!rollout.on_delete && !plain.grows_claims());
        assert_eq!(plain.deletes_claims(), (false, false));
    }

    #[test]
    fn settings_are_read_where_they_stand() {
        let all = spec(json!({
            "podManagementPolicy": "Parallel",
            "persistentVolumeClaimRetentionPolicy": {"whenScaled": "Delete"},
            "volumeClaimUpdateStrategy": {"type": "OnPodRollingUpdate"},
            "updateStrategy": {"rollingUpdate": {
                "partition": "20%", "podUpdatePolicy": "InPlaceOnly", "minReadySeconds": 5,
                "unorderedUpdate": {"priorityStrategy": {"orderPriority": [{"orderedKey": "a"}]}},
                "inPlaceUpdateStrategy": {"gracePeriodSeconds": 7}}},
        }));
        let rollout = all.rollout();
        assert!(all.parallel() && all.grows_claims() && all.unordered().is_some());
        assert_eq!(
            (rollout.policy, rollout.grace_seconds),
            (PodUpdatePolicy::InPlaceOnly, 7)
        );
        assert_eq!(rollout.priority.order_priority.len(), 1);
        assert_eq!((all.deletes_claims(), all.min_ready_seconds()), ((false, true), 5));
    }
}
