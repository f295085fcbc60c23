//! What the volume loops and the scheduler read of claims, volumes and classes.

use std::collections::BTreeMap;

use afloat_words::quantity::Quantity;
use k8s_openapi::api::core::v1::NodeSelector;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope};
use serde::Deserialize;
use serde_json::Value;

use super::kind::{Key, Kind, annotation, partial_kind};

/// Who makes the cluster's own volumes.
pub(crate) const PROVISIONER: &str = "afloat.dev/local";
/// Annotation of a claim: the node that the scheduler chose for its first pod.
pub(crate) const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// Annotation of a claim: who is to make a volume for it.
pub(crate) const STORAGE_PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
/// Annotation of a claim: it has once been bound completely.
pub(crate) const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// Annotation of a claim or volume: the other one was chosen by the controller, not by a user.
pub(crate) const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// Annotation of a volume: who made it.
pub(crate) const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// Annotation of a class: claims that name none get it.
pub(crate) const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";
/// Keeps a claim while pods use it.
pub(crate) const CLAIM_PROTECTION: &str = "kubernetes.io/pvc-protection";
/// Keeps a volume while a claim is bound to it.
pub(crate) const VOLUME_PROTECTION: &str = "kubernetes.io/pv-protection";

/// A PersistentVolumeClaim.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Claim {
    pub(crate) metadata: ObjectMeta,
    pub(crate) spec: ClaimSpec,
    pub(crate) status: ClaimStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ClaimSpec {
    pub(crate) access_modes: Vec<String>,
    pub(crate) resources: Requested,
    pub(crate) selector: Option<LabelSelector>,
    pub(crate) storage_class_name: Option<String>,
    pub(crate) volume_mode: Option<String>,
    pub(crate) volume_name: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Requested {
    pub(crate) requests: BTreeMap<String, Value>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ClaimStatus {
    pub(crate) phase: String,
    pub(crate) access_modes: Vec<String>,
    pub(crate) capacity: BTreeMap<String, Value>,
}

partial_kind!(
    Claim,
    "",
    "PersistentVolumeClaim",
    "persistentvolumeclaims",
    NamespaceResourceScope
);
impl Kind for Claim {}

impl Claim {
    pub(crate) fn annotation(&self, name: &str) -> Option<&str> {
        annotation(&self.metadata, name)
    }

    /// Its class; none and empty both mean that no volume is made for it.
    pub(crate) fn class(&self) -> &str {
        self.spec.storage_class_name.as_deref().unwrap_or_default()
    }

    pub(crate) fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// Bound once and for all: volume and claim know each other.
    pub(crate) fn is_bound(&self) -> bool {
        self.annotation(BIND_COMPLETED).is_some() && !self.spec.volume_name.is_empty()
    }

    /// Bytes that it asks for.
    pub(crate) fn bytes(&self) -> i64 {
        bytes(self.spec.resources.requests.get("storage"))
    }
}

/// A PersistentVolume.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Volume {
    pub(crate) metadata: ObjectMeta,
    pub(crate) spec: VolumeSpec,
    pub(crate) status: VolumeStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct VolumeSpec {
    pub(crate) access_modes: Vec<String>,
    pub(crate) capacity: BTreeMap<String, Value>,
    pub(crate) claim_ref: Option<ClaimRef>,
    pub(crate) node_affinity: VolumeAffinity,
    pub(crate) persistent_volume_reclaim_policy: String,
    pub(crate) storage_class_name: String,
    pub(crate) volume_mode: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct VolumeAffinity {
    pub(crate) required: Option<NodeSelector>,
}

/// Which claim a volume is for.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct ClaimRef {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct VolumeStatus {
    pub(crate) phase: String,
}

partial_kind!(
    Volume,
    "",
    "PersistentVolume",
    "persistentvolumes",
    ClusterResourceScope
);
impl Kind for Volume {}

impl Volume {
    pub(crate) fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    pub(crate) fn bytes(&self) -> i64 {
        bytes(self.spec.capacity.get("storage"))
    }

    /// Made by the cluster's own provisioner.
    pub(crate) fn is_ours(&self) -> bool {
        annotation(&self.metadata, PROVISIONED_BY) == Some(PROVISIONER)
    }

    /// The key of the claim that it is for.
    pub(crate) fn claim_key(&self) -> Option<Key> {
        let claim = self.spec.claim_ref.as_ref()?;
        Some(Key::new(claim.namespace.as_str(), claim.name.as_str()))
    }

    /// Meant for this claim: by uid, or reserved by name.
    pub(crate) fn is_for(&self, claim: &Claim) -> bool {
        let key = Key::of(&claim.metadata);
        self.spec.claim_ref.as_ref().is_some_and(|reference| {
            *reference.namespace == *key.namespace
                && *reference.name == *key.name
                && (reference.uid.is_empty() || reference.uid == claim.uid())
        })
    }

    /// The one node that its affinity names, as the cluster's own provisioner writes it.
    pub(crate) fn node(&self) -> Option<&str> {
        let term = self.spec.node_affinity.required.as_ref()?.node_selector_terms.first()?;
        let expression = term.match_expressions.as_ref()?.first()?;
        expression.values.as_ref()?.first().map(String::as_str)
    }
}

/// A StorageClass.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct StorageClass {
    pub(crate) metadata: ObjectMeta,
    pub(crate) provisioner: String,
    pub(crate) reclaim_policy: String,
    pub(crate) volume_binding_mode: String,
}

partial_kind!(
    StorageClass,
    "storage.k8s.io",
    "StorageClass",
    "storageclasses",
    ClusterResourceScope
);
impl Kind for StorageClass {}

impl StorageClass {
    pub(crate) fn waits_for_consumer(&self) -> bool {
        self.volume_binding_mode == "WaitForFirstConsumer"
    }

    /// Somebody makes volumes of it.
    pub(crate) fn provisions(&self) -> bool {
        self.provisioner != "kubernetes.io/no-provisioner"
    }

    pub(crate) fn is_default(&self) -> bool {
        annotation(&self.metadata, DEFAULT_CLASS) == Some("true")
    }
}

fn bytes(quantity: Option<&Value>) -> i64 {
    let amount = quantity.and_then(|written| Quantity::of_json(written).ok());
    amount.map_or(0, Quantity::value)
}
