//! The parts of objects that the loops read. Own partial types instead of k8s-openapi's, because a controller that caches
//! whole Pods pays tens of KiB for each of them; templates stay JSON so that no field is lost between a Deployment and a Pod.

use std::borrow::Cow;
use std::collections::BTreeMap;

pub(crate) use afloat_words::owner::controller_of;
pub(crate) use afloat_words::percent::Round;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope};
use kube::Resource;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub(crate) use crate::pod::Pod;

/// Annotation in which `kubectl apply` keeps what it applied last.
pub(crate) const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Namespace (empty for cluster-scoped kinds) and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Key {
    pub(crate) fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    pub(crate) fn of(meta: &ObjectMeta) -> Self {
        Self {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
        }
    }
}

/// A secondary key under which the cache finds objects without walking all of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Index {
    /// Controlled by the owner with this uid.
    Owner(String),
    /// In this namespace and controlled by nobody.
    Orphan(String),
    /// Bound to this node.
    Node(String),
    /// In this namespace.
    Namespace(String),
}

/// An object that a [`crate::cache::Cache`] holds.
pub(crate) trait Kind:
    Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + Sync + 'static
{
    /// Drops what no loop reads, before the object enters the cache.
    fn trim(&mut self) {
        trim_metadata(self.meta_mut());
    }

    /// Where the cache finds this object again.
    fn indexes(&self) -> Vec<Index> {
        default_indexes(self.meta())
    }
}

/// Drops what no loop reads of any kind: who set which field, and kubectl's copy of the whole object.
pub(crate) fn trim_metadata(meta: &mut ObjectMeta) {
    meta.managed_fields = None;
    meta.self_link = None;
    if let Some(annotations) = &mut meta.annotations {
        annotations.remove(LAST_APPLIED);
    }
}

pub(crate) fn default_indexes(meta: &ObjectMeta) -> Vec<Index> {
    let namespace = meta.namespace.clone().unwrap_or_default();
    let by_owner = match controller_of(meta) {
        Some(owner) => Index::Owner(owner.uid.clone()),
        None => Index::Orphan(namespace.clone()),
    };
    vec![Index::Namespace(namespace), by_owner]
}

/// Implements `kube::Resource` for a partial type with a `metadata` field.
macro_rules! partial_kind {
    ($type:ty, $group:literal, $kind:literal, $plural:literal, $scope:ty) => {
        partial_kind!($type, $group, "v1", $kind, $plural, $scope);
    };
    ($type:ty, $group:literal, $version:literal, $kind:literal, $plural:literal, $scope:ty) => {
        impl kube::Resource for $type {
            type DynamicType = ();
            type Scope = $scope;
            fn kind((): &()) -> Cow<'_, str> {
                Cow::Borrowed($kind)
            }
            fn group((): &()) -> Cow<'_, str> {
                Cow::Borrowed($group)
            }
            fn version((): &()) -> Cow<'_, str> {
                Cow::Borrowed($version)
            }
            fn plural((): &()) -> Cow<'_, str> {
                Cow::Borrowed($plural)
            }
            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }
            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}
pub(crate) use partial_kind;

/// One entry of `status.conditions`, as workloads and nodes have them.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Condition {
    #[serde(rename = "type")]
    pub(crate) type_: String,
    pub(crate) status: String,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) last_transition_time: Option<Time>,
    pub(crate) last_update_time: Option<Time>,
    pub(crate) last_heartbeat_time: Option<Time>,
}

/// A ReplicaSet.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ReplicaSet {
    pub(crate) metadata: ObjectMeta,
    pub(crate) spec: ReplicaSetSpec,
    pub(crate) status: ReplicaSetStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ReplicaSetSpec {
    pub(crate) replicas: Option<i32>,
    pub(crate) min_ready_seconds: i32,
    pub(crate) selector: LabelSelector,
    pub(crate) template: Value,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ReplicaSetStatus {
    pub(crate) replicas: i32,
    pub(crate) fully_labeled_replicas: i32,
    pub(crate) ready_replicas: i32,
    pub(crate) available_replicas: i32,
    pub(crate) observed_generation: i64,
    pub(crate) conditions: Vec<Condition>,
}

partial_kind!(ReplicaSet, "apps", "ReplicaSet", "replicasets", NamespaceResourceScope);
impl Kind for ReplicaSet {}

impl ReplicaSet {
    /// `spec.replicas` with its default of 1.
    pub(crate) fn replicas(&self) -> i32 {
        self.spec.replicas.unwrap_or(1)
    }
}

/// A Deployment.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Deployment {
    pub(crate) metadata: ObjectMeta,
    pub(crate) spec: DeploymentSpec,
    pub(crate) status: DeploymentStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct DeploymentSpec {
    pub(crate) replicas: Option<i32>,
    pub(crate) min_ready_seconds: i32,
    pub(crate) progress_deadline_seconds: Option<i32>,
    pub(crate) revision_history_limit: Option<i32>,
    pub(crate) paused: bool,
    pub(crate) selector: LabelSelector,
    pub(crate) strategy: DeploymentStrategy,
    pub(crate) template: Value,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct DeploymentStrategy {
    #[serde(rename = "type")]
    pub(crate) type_: String,
    pub(crate) rolling_update: Option<RollingUpdate>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct RollingUpdate {
    pub(crate) max_surge: Option<IntOrString>,
    pub(crate) max_unavailable: Option<IntOrString>,
    pub(crate) partition: Option<i32>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct DeploymentStatus {
    pub(crate) replicas: i32,
    pub(crate) updated_replicas: i32,
    pub(crate) ready_replicas: i32,
    pub(crate) available_replicas: i32,
    pub(crate) unavailable_replicas: i32,
    pub(crate) observed_generation: i64,
    pub(crate) collision_count: Option<i32>,
    pub(crate) conditions: Vec<Condition>,
}

partial_kind!(Deployment, "apps", "Deployment", "deployments", NamespaceResourceScope);
impl Kind for Deployment {}

/// A Namespace.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Namespace {
    pub(crate) metadata: ObjectMeta,
    pub(crate) spec: NamespaceSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NamespaceSpec {
    pub(crate) finalizers: Vec<String>,
}

partial_kind!(Namespace, "", "Namespace", "namespaces", ClusterResourceScope);
impl Kind for Namespace {}

/// A Node: what the scheduler and the node lifecycle loop read.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Node {
    pub(crate) metadata: ObjectMeta,
    pub(crate) spec: NodeSpec,
    pub(crate) status: NodeStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct NodeSpec {
    pub(crate) unschedulable: bool,
    pub(crate) taints: Vec<Taint>,
}

/// A node's taint.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Taint {
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) effect: String,
    pub(crate) time_added: Option<Time>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NodeStatus {
    pub(crate) allocatable: BTreeMap<String, String>,
    pub(crate) capacity: BTreeMap<String, String>,
    pub(crate) conditions: Vec<Condition>,
}

partial_kind!(Node, "", "Node", "nodes", ClusterResourceScope);
impl Kind for Node {}

/// A Lease: only what tells that its holder lives.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Lease {
    pub(crate) metadata: ObjectMeta,
    pub(crate) spec: LeaseSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct LeaseSpec {
    pub(crate) renew_time: Option<String>,
}

partial_kind!(Lease, "coordination.k8s.io", "Lease", "leases", NamespaceResourceScope);
impl Kind for Lease {}

/// Metadata of a ServiceAccount.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ServiceAccount {
    pub(crate) metadata: ObjectMeta,
}

partial_kind!(
    ServiceAccount,
    "",
    "ServiceAccount",
    "serviceaccounts",
    NamespaceResourceScope
);
impl Kind for ServiceAccount {}

/// A ConfigMap with the data.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ConfigMap {
    pub(crate) metadata: ObjectMeta,
    pub(crate) data: BTreeMap<String, String>,
}

partial_kind!(ConfigMap, "", "ConfigMap", "configmaps", NamespaceResourceScope);
impl Kind for ConfigMap {}

/// A PodDisruptionBudget.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PodDisruptionBudget {
    pub(crate) metadata: ObjectMeta,
    pub(crate) spec: PodDisruptionBudgetSpec,
    pub(crate) status: PodDisruptionBudgetStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodDisruptionBudgetSpec {
    pub(crate) min_available: Option<IntOrString>,
    pub(crate) max_unavailable: Option<IntOrString>,
    pub(crate) selector: Option<LabelSelector>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodDisruptionBudgetStatus {
    pub(crate) observed_generation: i64,
    pub(crate) disruptions_allowed: i32,
    pub(crate) current_healthy: i32,
    pub(crate) desired_healthy: i32,
    pub(crate) expected_pods: i32,
    pub(crate) disrupted_pods: BTreeMap<String, Time>,
    pub(crate) conditions: Vec<Condition>,
}

partial_kind!(
    PodDisruptionBudget,
    "policy",
    "PodDisruptionBudget",
    "poddisruptionbudgets",
    NamespaceResourceScope
);
impl Kind for PodDisruptionBudget {}

/// A count or percentage against `total`, rounded up or down.
///
/// Text that is neither counts as 0: the API server has validated it, and 0 is the careful side of every budget.
pub(crate) fn scaled(value: &IntOrString, total: i32, round: Round) -> i32 {
    let total = u32::try_from(total).unwrap_or(0);
    let number = afloat_words::percent::scaled(value, total, round).unwrap_or(0);
    i32::try_from(number).unwrap_or(if number < 0 { i32::MIN } else { i32::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_round_as_asked() {
        let quarter = IntOrString::String("25%".into());
        assert_eq!(scaled(&quarter, 10, Round::Up), 3);
        assert_eq!(scaled(&quarter, 10, Round::Down), 2);
        assert_eq!(scaled(&IntOrString::Int(4), 10, Round::Down), 4);
        assert_eq!(scaled(&IntOrString::String("x".into()), 10, Round::Up), 0);
    }
}
