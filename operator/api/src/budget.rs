//! PodUnavailableBudget as the operator reads it: v1beta1. What v1alpha1 says by annotations counts where the fields are absent, as
//! nothing converts between the two versions.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::{Deserialize, Serialize};

use crate::names;

/// How many pods may be unavailable because somebody wants something.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PodUnavailableBudget {
    /// Name, annotations, versions.
    pub metadata: ObjectMeta,
    /// What is wanted.
    pub spec: BudgetSpec,
    /// What was last written about it.
    pub status: BudgetStatus,
}

crate::kind!(
    PodUnavailableBudget,
    "policy.kruise.io" / "v1beta1",
    "PodUnavailableBudget",
    "podunavailablebudgets",
    NamespaceResourceScope
);

/// `spec`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BudgetSpec {
    /// The pods; excludes `targetRef`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
    /// The workload whose pods they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<TargetRef>,
    /// Pods that may be unavailable; a percentage of all, rounded up. Excludes `minAvailable`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<IntOrString>,
    /// Pods that must be available.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_available: Option<IntOrString>,
    /// What is guarded; see [`PodUnavailableBudget::guards`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub protect_operations: Vec<Operation>,
    /// The number of which percentages are taken, in place of what the workloads want.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protect_total_replicas: Option<i32>,
    /// Pods that are counted, and may go nevertheless.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ignored_pod_selector: Option<LabelSelector>,
}

/// A workload in the budget's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TargetRef {
    /// Group and version; only the group counts.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
}

impl TargetRef {
    /// Whether that is what an owner reference names, in whatever version.
    pub fn names(&self, api_version: &str, kind: &str, name: &str) -> bool {
        group(&self.api_version) == group(api_version) && self.kind == kind && self.name == name
    }
}

/// The group in an `apiVersion`; empty: the core.
pub fn group(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

/// What is done to a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Operation {
    /// It is deleted.
    Delete,
    /// Its spec is changed so that containers restart, or it is marked unavailable.
    Update,
    /// It is evicted.
    Evict,
    /// Its resources are changed without a restart.
    Resize,
}

impl Operation {
    /// As annotations have it.
    pub fn read(text: &str) -> Option<Self> {
        match text {
            "DELETE" => Some(Self::Delete),
            "UPDATE" => Some(Self::Update),
            "EVICT" => Some(Self::Evict),
            "RESIZE" => Some(Self::Resize),
            _ => None,
        }
    }
}

/// `status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BudgetStatus {
    /// Generation of the spec that the other fields speak of.
    pub observed_generation: i64,
    /// Pods that may go and are still there: since when.
    pub disrupted_pods: BTreeMap<String, Time>,
    /// Pods that may be changed and are still available: since when.
    pub unavailable_pods: BTreeMap<String, Time>,
    /// How many more pods may be unavailable.
    pub unavailable_allowed: i32,
    /// Available pods.
    pub current_available: i32,
    /// Pods that must be available.
    pub desired_available: i32,
    /// Pods that there should be.
    pub total_replicas: i32,
}

impl PodUnavailableBudget {
    /// What it guards. Resizes only if they are listed: they restart nothing. With OpenKruise's gate InPlacePodVerticalScaling off they count as
    /// updates; here they never do.
    pub fn guards(&self) -> BTreeSet<Operation> {
        let listed: BTreeSet<_> = if self.spec.protect_operations.is_empty() {
            let text = self.annotation(names::PROTECT_OPERATIONS).unwrap_or_default();
            text.split(',')
                .filter_map(|word| Operation::read(word.trim()))
                .collect()
        } else {
            self.spec.protect_operations.iter().copied().collect()
        };
        if listed.is_empty() {
            return [Operation::Delete, Operation::Update, Operation::Evict].into();
        }
        listed
    }

    /// How many pods there should be, if that is said.
    pub fn said_total(&self) -> Option<i32> {
        let said = || self.annotation(names::PROTECT_TOTAL_REPLICAS)?.parse().ok();
        self.spec.protect_total_replicas.or_else(said)
    }

    fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata.annotations.as_ref()?.get(key).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn budget(spec: serde_json::Value, annotations: serde_json::Value) -> PodUnavailableBudget {
        serde_json::from_value(json!({"metadata": {"annotations": annotations}, "spec": spec})).unwrap()
    }

    #[test]
    fn what_is_guarded_is_said_by_fields_or_by_annotations() {
        use Operation::{Delete, Evict, Resize, Update};
        let key = names::PROTECT_OPERATIONS;
        for (spec, annotations, wanted) in [
            (json!({}), json!({}), vec![Delete, Update, Evict]),
            (json!({}), json!({key: ""}), vec![Delete, Update, Evict]),
            (json!({}), json!({key: "DELETE"}), vec![Delete]),
            (json!({}), json!({key: "EVICT,RESIZE"}), vec![Evict, Resize]),
            (
                json!({"protectOperations": ["UPDATE"]}),
                json!({key: "DELETE"}),
                vec![Update],
            ),
        ] {
            let guards: Vec<_> = budget(spec.clone(), annotations.clone()).guards().into_iter().collect();
            assert_eq!(guards, wanted, "{spec} {annotations}");
        }
    }

    #[test]
    fn how_many_there_should_be_is_said_by_a_field_or_by_an_annotation() {
        let key = names::PROTECT_TOTAL_REPLICAS;
        assert_eq!(budget(json!({}), json!({key: "7"})).said_total(), Some(7));
        assert_eq!(
            budget(json!({"protectTotalReplicas": 5}), json!({key: "7"})).said_total(),
            Some(5)
        );
        assert_eq!(budget(json!({}), json!({key: "x"})).said_total(), None);
    }

    #[test]
    fn a_target_is_the_same_in_every_version() {
        let target = TargetRef {
            api_version: "apps.kruise.io/v1alpha1".into(),
            kind: "CloneSet".into(),
            name: "web".into(),
        };
        assert!(target.names("apps.kruise.io/v1beta1", "CloneSet", "web"));
        assert!(!target.names("apps/v1", "CloneSet", "web"));
        assert!(!target.names("apps.kruise.io/v1beta1", "CloneSet", "api"));
    }
}
