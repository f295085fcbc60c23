//! What the loops know of a Namespace, and of what each of them has.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope};
use serde::Deserialize;

use super::kind::{Kind, partial_kind};

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
