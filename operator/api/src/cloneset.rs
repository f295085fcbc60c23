//! CloneSet as the controller reads it: v1beta1 alone, lenient, absent fields by their documented defaults. What is written in v1alpha1
//! is converted before ([`crate::convert`]), on a cluster by the API server.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::core::{Expression, Selector};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::inplace::Texts;
use crate::status::{Condition, reports};

/// A CloneSet.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct CloneSet {
    /// Name, labels, versions.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What is wanted.
    #[serde(default)]
    pub spec: CloneSetSpec,
    /// What was last written about it.
    #[serde(default)]
    pub status: CloneSetStatus,
}

crate::kind!(
    CloneSet,
    "apps.kruise.io" / "v1beta1",
    "CloneSet",
    "clonesets",
    NamespaceResourceScope
);

/// What is wanted of a CloneSet.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CloneSetSpec {
    /// Desired number of pods; absent means 1.
    pub replicas: Option<i32>,
    /// Which pods may belong to the set; ownership itself is by owner reference.
    pub selector: LabelSelector,
    /// The pod template, verbatim.
    pub template: Value,
    /// Claims made for each pod, verbatim.
    pub volume_claim_templates: Option<Vec<Value>>,
    /// How to scale.
    pub scale_strategy: Option<ScaleStrategy>,
    /// How to update.
    pub update_strategy: UpdateStrategy<RollingUpdate>,
    /// Revisions kept that no pod uses; absent means 10.
    pub revision_history_limit: Option<i32>,
    /// Seconds a pod must be Ready to count as available.
    pub min_ready_seconds: Option<i32>,
    /// Seconds without progress after which the rollout is called stuck.
    pub progress_deadline_seconds: Option<i32>,
    /// Hooks.
    pub lifecycle: Option<Lifecycle>,
}

/// `spec.scaleStrategy`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ScaleStrategy {
    /// Names of pods to delete first.
    pub pods_to_delete: Vec<String>,
    /// Limits scaling up by the number of unavailable pods.
    pub max_unavailable: Option<IntOrString>,
    /// Reuse left-over claims; absent means no.
    #[serde(rename = "enablePVCReuse")]
    pub enable_pvc_reuse: Option<bool>,
    /// Do not count pods that a preDelete hook holds.
    pub exclude_preparing_delete: Option<bool>,
}

/// `spec.updateStrategy` of a workload whose settings are `R`. Read it through `rollout` of the spec, which knows the defaults.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UpdateStrategy<R> {
    /// RollingUpdate or OnDelete.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The settings.
    pub rolling_update: Option<R>,
}

impl<R> UpdateStrategy<R> {
    /// Whether pods change only when somebody deletes them.
    pub(crate) fn on_delete(&self) -> bool {
        self.kind.as_deref() == Some("OnDelete")
    }
}

/// The settings of a rollout.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RollingUpdate {
    /// Pods to keep at old revisions.
    pub partition: Option<IntOrString>,
    /// Pods that may be unavailable.
    pub max_unavailable: Option<IntOrString>,
    /// Pods that may exist beyond `replicas`.
    pub max_surge: Option<IntOrString>,
    /// ReCreate, InPlaceIfPossible or InPlaceOnly.
    pub pod_update_policy: Option<String>,
    /// Update no pod.
    pub paused: Option<bool>,
    /// Update order by labels.
    pub priority_strategy: Option<PriorityStrategy>,
    /// Spread of the update order.
    pub scatter_strategy: Option<Vec<ScatterTerm>>,
    /// Settings of in-place updates.
    pub in_place_update_strategy: Option<InPlaceUpdateStrategy>,
}

/// Update order by labels; weights win where both are given.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PriorityStrategy {
    /// The heavier pod goes first.
    pub weight_priority: Vec<WeightTerm>,
    /// The pod with the earlier key, then with the higher number, goes first.
    pub order_priority: Vec<OrderTerm>,
}

/// Weight of the pods that match.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WeightTerm {
    /// 0 to 100; the weights of all matching terms are added.
    pub weight: i32,
    /// Which pods.
    pub match_selector: LabelSelector,
}

/// A label by whose trailing number pods are ordered.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OrderTerm {
    /// The label.
    pub ordered_key: String,
}

/// Pods with this label are not updated one right after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ScatterTerm {
    /// Of the label.
    pub key: String,
    /// Of the label.
    pub value: String,
}

/// Settings of in-place updates.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InPlaceUpdateStrategy {
    /// Seconds between "the pod left service" and "the image changes".
    pub grace_period_seconds: Option<i64>,
    /// Nodes that pull the new images at the same time; 1.
    pub image_pre_download_parallelism: Option<IntOrString>,
    /// Seconds of one pull.
    pub image_pre_download_timeout_seconds: Option<i32>,
    /// Updated pods that are to be Ready before; 0.
    pub image_pre_download_min_updated_ready_pods: Option<i32>,
}

/// `spec.lifecycle`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Lifecycle {
    /// In front of each deletion.
    pub pre_delete: Option<LifecycleHook>,
    /// Before and after each in-place update.
    pub in_place_update: Option<LifecycleHook>,
    /// Between creation and availability.
    pub pre_normal: Option<LifecycleHook>,
}

impl Lifecycle {
    /// Whether there is no hook at all.
    pub fn is_empty(&self) -> bool {
        self.pre_delete.is_none() && self.in_place_update.is_none() && self.pre_normal.is_none()
    }
}

/// A hook: it holds while the pod carries the labels or finalizers.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LifecycleHook {
    /// Labels with values.
    pub labels_handler: BTreeMap<String, String>,
    /// Finalizers.
    pub finalizers_handler: Vec<String>,
    /// Whether to take the pod out of service while held.
    pub mark_pod_not_ready: bool,
}

/// How a pod moves to another revision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PodUpdatePolicy {
    /// Delete it and create another.
    #[default]
    ReCreate,
    /// In place where the difference allows it, else recreate.
    InPlaceIfPossible,
    /// In place or not at all.
    InPlaceOnly,
}

impl PodUpdatePolicy {
    /// Reads the word that stands for it; any other word, or none, is the default.
    pub(crate) fn read(word: Option<&str>) -> Self {
        match word {
            Some("InPlaceIfPossible") => Self::InPlaceIfPossible,
            Some("InPlaceOnly") => Self::InPlaceOnly,
            _ => Self::ReCreate,
        }
    }
}

/// `spec.updateStrategy` with defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct Rollout {
    /// Pods change only when somebody deletes them.
    pub on_delete: bool,
    /// How a pod changes.
    pub policy: PodUpdatePolicy,
    /// Pods to keep at old revisions; 0.
    pub partition: IntOrString,
    /// Budget; 20 %.
    pub max_unavailable: IntOrString,
    /// Extra pods; 0.
    pub max_surge: IntOrString,
    /// Update no pod.
    pub paused: bool,
    /// Quiet period in seconds, never negative.
    pub grace_seconds: i64,
    /// Who goes first.
    pub priority: PriorityStrategy,
    /// Who does not follow right after whom.
    pub scatter: Vec<ScatterTerm>,
}

impl CloneSetSpec {
    /// From now on no pod stays at an old revision.
    pub fn keep_no_pods_back(&mut self) {
        if let Some(rolling) = &mut self.update_strategy.rolling_update {
            rolling.partition = None;
        }
    }

    /// From now on that many pods stay at another revision.
    pub fn keep_back(&mut self, pods: usize) {
        let rolling = self.update_strategy.rolling_update.get_or_insert_default();
        rolling.partition = Some(IntOrString::Int(i32::try_from(pods).unwrap_or(i32::MAX)));
    }

    /// The update strategy with its defaults.
    pub fn rollout(&self) -> Rollout {
        let empty = RollingUpdate::default();
        let rolling = self.update_strategy.rolling_update.as_ref().unwrap_or(&empty);
        let grace = rolling.in_place_update_strategy.as_ref();
        let or = |setting: &Option<IntOrString>, default| setting.clone().unwrap_or(default);
        Rollout {
            on_delete: self.update_strategy.on_delete(),
            policy: PodUpdatePolicy::read(rolling.pod_update_policy.as_deref()),
            partition: or(&rolling.partition, IntOrString::Int(0)),
            max_unavailable: or(&rolling.max_unavailable, IntOrString::String("20%".into())),
            max_surge: or(&rolling.max_surge, IntOrString::Int(0)),
            paused: rolling.paused.unwrap_or(false),
            priority: rolling.priority_strategy.clone().unwrap_or_default(),
            scatter: rolling.scatter_strategy.clone().unwrap_or_default(),
            grace_seconds: grace.and_then(|grace| grace.grace_period_seconds).unwrap_or(0).max(0),
        }
    }

    /// Whether claims of pods that somebody else removed wait for new pods.
    pub fn reuses_claims(&self) -> bool {
        let strategy = self.scale_strategy.as_ref();
        strategy.and_then(|strategy| strategy.enable_pvc_reuse).unwrap_or(false)
    }

    /// Desired number of pods, default 1, never negative.
    pub fn replicas(&self) -> usize {
        usize::try_from(self.replicas.unwrap_or(1)).unwrap_or(0)
    }
}

impl CloneSet {
    /// The value of an annotation.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata.annotations.as_ref()?.get(key).map(String::as_str)
    }

    /// Whether the selector matches these labels. For many pods take [`CloneSet::matcher`].
    pub fn selects(&self, labels: &impl Texts) -> bool {
        self.matcher().selects(labels)
    }

    /// Whether pods that a preDelete hook holds do not count for scaling up.
    pub fn excludes_preparing_delete(&self) -> bool {
        let strategy = self.spec.scale_strategy.as_ref();
        let label = self
            .metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get(crate::names::EXCLUDE_PREPARING_DELETE));
        strategy.and_then(|strategy| strategy.exclude_preparing_delete) == Some(true)
            || label.is_some_and(|value| value == "true")
    }

    /// The selector, read once.
    pub fn matcher(&self) -> Matcher {
        Matcher::new(&self.spec.selector)
    }

    /// The selector as text, for `status.labelSelector`; empty if it cannot be read.
    pub fn selector_text(&self) -> String {
        self.matcher().text()
    }
}

/// A selector that was read. One that is empty or cannot be read matches nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Matcher {
    expressions: Vec<Expression>,
}

impl Matcher {
    /// Reads a selector.
    pub fn new(selector: &LabelSelector) -> Self {
        let selector = Selector::try_from(selector.clone()).ok();
        Self {
            expressions: selector.into_iter().flatten().collect(),
        }
    }

    /// The selector as the API takes it in a query; empty if it was not read.
    pub fn text(&self) -> String {
        Selector::from_iter(self.expressions.iter().cloned()).to_string()
    }

    /// Whether it matches these labels.
    pub fn selects(&self, labels: &impl Texts) -> bool {
        let matches = |expression: &Expression| match expression {
            Expression::In(key, values) => labels.text(key).is_some_and(|value| values.contains(value)),
            Expression::NotIn(key, values) => labels.text(key).is_none_or(|value| !values.contains(value)),
            Expression::Equal(key, wanted) => labels.text(key) == Some(wanted),
            Expression::NotEqual(key, other) => labels.text(key) != Some(other),
            Expression::Exists(key) => labels.text(key).is_some(),
            Expression::DoesNotExist(key) => labels.text(key).is_none(),
        };
        !self.expressions.is_empty() && self.expressions.iter().all(matches)
    }
}

/// What a CloneSet reports.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CloneSetStatus {
    /// Generation of the spec that the other fields speak of.
    pub observed_generation: i64,
    /// Pods that are neither terminating nor finished.
    pub replicas: i32,
    /// Of those, Ready.
    pub ready_replicas: i32,
    /// Of those, Ready for minReadySeconds.
    pub available_replicas: i32,
    /// At the update revision.
    pub updated_replicas: i32,
    /// At the update revision and Ready.
    pub updated_ready_replicas: i32,
    /// At the update revision and available.
    pub updated_available_replicas: i32,
    /// How many pods are to be at the update revision.
    pub expected_updated_replicas: i32,
    /// Name of the revision that the spec's template has.
    pub update_revision: String,
    /// Name of the revision that all pods had last.
    pub current_revision: String,
    /// Hash collisions of revision names met so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collision_count: Option<i32>,
    /// What is going on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// The selector as text, for the scale subresource.
    pub label_selector: String,
}

reports!(CloneSetStatus);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rollout(strategy: &Value) -> Rollout {
        let spec: CloneSetSpec = serde_json::from_value(json!({"selector": {}, "updateStrategy": strategy})).unwrap();
        spec.rollout()
    }

    #[test]
    fn absent_settings_have_their_defaults() {
        let plain = rollout(&json!({}));
        assert_eq!(plain.policy, PodUpdatePolicy::ReCreate);
        assert_eq!(plain.max_unavailable, IntOrString::String("20%".into()));
        assert_eq!(plain.partition, IntOrString::Int(0));
        assert!(!plain.on_delete && !plain.paused);
        assert!(rollout(&json!({"type": "OnDelete"})).on_delete);
    }

    #[test]
    fn an_empty_selector_selects_nothing() {
        assert!(!CloneSet::default().selects(&BTreeMap::new()));
    }
}
