//! Volume claims that are made from a workload's templates. A claim is named after its template, its workload and what the
//! workload calls the pod that it is for, so that it can outlive the pod and be found by the next one.

use std::collections::BTreeMap;

use afloat_api::names;
use afloat_words::quantity::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::owner::Owner;
use crate::pod::object::Pod;

/// A PersistentVolumeClaim, trimmed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Claim {
    /// Name, labels, owners, versions.
    pub metadata: ObjectMeta,
    /// What it asks for.
    pub spec: ClaimSpec,
    /// What it has.
    pub status: ClaimStatus,
}

/// What a claim asks for.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClaimSpec {
    /// Class of its volume.
    pub storage_class_name: Option<String>,
    /// How it may be mounted.
    pub access_modes: Vec<String>,
    /// How much.
    pub resources: ClaimResources,
}

/// How much a claim asks for.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ClaimResources {
    /// By the name of the resource.
    pub requests: BTreeMap<String, Value>,
}

/// What a claim has.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ClaimStatus {
    /// By the name of the resource.
    pub capacity: BTreeMap<String, Value>,
    /// How far its volume has grown.
    pub conditions: Vec<ClaimCondition>,
}

/// A condition of a claim.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ClaimCondition {
    /// Which.
    #[serde(rename = "type")]
    pub kind: String,
    /// True, False or Unknown.
    pub status: String,
}

/// A StorageClass, trimmed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StorageClass {
    /// Its name.
    pub metadata: ObjectMeta,
    /// Whether its volumes can grow.
    pub allow_volume_expansion: Option<bool>,
}

afloat_api::kind!(
    StorageClass,
    "storage.k8s.io" / "v1",
    "StorageClass",
    "storageclasses",
    ClusterResourceScope
);

fn storage(amounts: &BTreeMap<String, Value>) -> i128 {
    let amount = amounts.get("storage").and_then(|amount| Quantity::of_json(amount).ok());
    amount.map_or(0, Quantity::nano)
}

afloat_api::kind!(
    Claim,
    "v1",
    "PersistentVolumeClaim",
    "persistentvolumeclaims",
    NamespaceResourceScope
);

impl Claim {
    /// Its name.
    pub(crate) fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// The instance id of the pod that it is for, where pods have one.
    pub(crate) fn id(&self) -> Option<&str> {
        let labels = self.metadata.labels.as_ref()?;
        labels.get(names::INSTANCE_ID).map(String::as_str)
    }

    /// Whether it is as its template says, but for the size. A class that one of the two leaves open is the cluster's default.
    pub(crate) fn same_but_size(&self, template: &Value) -> bool {
        let wanted = ClaimSpec::of(template);
        let classes = (&self.spec.storage_class_name, &wanted.storage_class_name);
        let same_class = !matches!(classes, (Some(one), Some(other)) if one != other);
        same_class && self.spec.access_modes == wanted.access_modes
    }

    /// Whether it asks for what its template does, or more.
    pub(crate) fn holds(&self, template: &Value) -> bool {
        let wanted = ClaimSpec::of(template);
        self.same_but_size(template) && storage(&self.spec.resources.requests) >= storage(&wanted.resources.requests)
    }

    /// Whether it has what it asks for.
    pub(crate) fn has_grown(&self) -> bool {
        storage(&self.status.capacity) >= storage(&self.spec.resources.requests)
    }

    /// Whether its volume has grown and its file system will when the pod starts.
    pub(crate) fn waits_for_pod(&self) -> bool {
        let mut conditions = self.status.conditions.iter();
        conditions.any(|condition| condition.kind == "FileSystemResizePending" && condition.status == "True")
    }

    /// Whether it stays.
    pub(crate) fn alive(&self) -> bool {
        self.metadata.deletion_timestamp.is_none()
    }
}

impl ClaimSpec {
    /// That of a template.
    pub(crate) fn of(template: &Value) -> Self {
        let spec = template.get("spec");
        spec.and_then(|spec| Self::deserialize(spec).ok()).unwrap_or_default()
    }
}

/// The templates of `volumeClaimTemplates`, by their names.
pub(crate) fn templates(list: Option<&Vec<Value>>) -> impl Iterator<Item = (&str, &Value)> + Clone {
    let list = list.into_iter().flatten();
    list.filter_map(|template| Some((template.pointer("/metadata/name")?.as_str()?, template)))
}

/// The name of the claim of a template for the pod of that id, or ordinal.
pub(crate) fn name(owner: Owner<'_>, template: &str, id: &str) -> String {
    format!("{template}-{}-{id}", owner.name())
}

/// A new claim, made from a template. The labels are put over those of the template.
pub(crate) fn body<'l>(
    owner: Owner<'_>,
    name: &str,
    template: &Value,
    labels: impl IntoIterator<Item = (&'l str, &'l str)>,
    owners: &[OwnerReference],
) -> Value {
    let map = |path: &str| {
        template
            .pointer(path)
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default()
    };
    let mut all: Map<String, Value> = map("/metadata/labels");
    all.extend(labels.into_iter().map(|(key, value)| (key.to_owned(), json!(value))));
    let mut metadata = json!({
        "name": name,
        "namespace": owner.metadata.namespace,
        "labels": all,
        "annotations": map("/metadata/annotations"),
    });
    if !owners.is_empty() {
        metadata["ownerReferences"] = json!(owners);
    }
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata,
        "spec": map("/spec"),
    })
}

/// Puts claims into a pod's volumes, each under its template's name, in place of volumes of the same names.
pub(crate) fn mount<'t>(spec: &mut Value, claims: impl Iterator<Item = (&'t str, String)>) {
    let mut volumes = spec
        .get("volumes")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    for (template, claim) in claims {
        volumes.retain(|volume| volume["name"] != template);
        volumes.push(json!({"name": template, "persistentVolumeClaim": {"claimName": claim}}));
    }
    if !volumes.is_empty() {
        spec["volumes"] = Value::Array(volumes);
    }
}

/// The reference that a claim carries which is to go with a pod.
pub(crate) fn heir(pod: &Pod) -> OwnerReference {
    OwnerReference {
        api_version: "v1".into(),
        kind: "Pod".into(),
        name: pod.name().to_owned(),
        uid: pod.metadata.uid.to_string(),
        ..OwnerReference::default()
    }
}
