//! What the loops know of a Node.

use std::collections::BTreeMap;

use afloat_words::taint;
use k8s_openapi::api::core::v1::Toleration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope};
use serde::Deserialize;

use super::condition::Condition;
use super::kind::{Kind, partial_kind};

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

impl Taint {
    /// As tolerations look at it.
    pub(crate) fn words(&self) -> taint::Taint<'_> {
        taint::Taint {
            key: &self.key,
            value: &self.value,
            effect: &self.effect,
        }
    }
}

/// Whether one of the tolerations covers the taint.
pub(crate) fn tolerates(tolerations: &[Toleration], taint: &Taint) -> bool {
    taint::tolerated(tolerations, taint.words())
}

/// Whether this toleration covers the taint.
pub(crate) fn covers(toleration: &Toleration, taint: &Taint) -> bool {
    taint::covers(toleration, taint.words())
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
