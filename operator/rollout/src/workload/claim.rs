//! Volume claims that are made from a workload's templates. A claim is named after its template, its workload and what the
//! workload calls the pod that it is for, so that it can outlive the pod and be found by the next one.

use afloat_api::names;
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

    /// Whether it stays.
    pub(crate) fn alive(&self) -> bool {
        self.metadata.deletion_timestamp.is_none()
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

/// Puts claims into a pod's volumes, each under its template's name, in place of volumes of the same names; gives whether
/// there are any.
pub(crate) fn mount<'t>(spec: &mut Value, claims: impl Iterator<Item = (&'t str, String)>) -> bool {
    let mut volumes = spec
        .get("volumes")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let mut any = false;
    for (template, claim) in claims {
        any = true;
        volumes.retain(|volume| volume["name"] != template);
        volumes.push(json!({"name": template, "persistentVolumeClaim": {"claimName": claim}}));
    }
    if any {
        spec["volumes"] = Value::Array(volumes);
    }
    any
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
