//! Pods that a node makes: only mirrors of those that it has read from a file, which take nothing of the cluster's.

use serde_json::Value;

use super::links::{Source, references};
use super::write::{Refusal, Stored, Write, refuse};
use crate::authorization::quoted;
use crate::json::{list, text};

const MIRROR: &str = "kubernetes.io/config.mirror";

pub(super) fn create(node: &str, write: &Write<'_>, stored: &dyn Stored) -> Result<(), Refusal> {
    let pod = write.object.unwrap_or(&Value::Null);
    let name = quoted(node);
    if pod
        .pointer("/metadata/annotations")
        .is_none_or(|all| all.get(MIRROR).is_none())
    {
        return refuse(format!(
            "pod does not have {} annotation, node {name} can only create mirror pods",
            quoted(MIRROR)
        ));
    }
    if text(pod.pointer("/spec/nodeName")) != node {
        return refuse(format!(
            "node {name} can only create pods with spec.nodeName set to itself"
        ));
    }
    owned(node, pod, stored)?;
    refers_to_nothing(&name, pod)
}

/// It has to belong to its node.
fn owned(node: &str, pod: &Value, stored: &dyn Stored) -> Result<(), Refusal> {
    let name = quoted(node);
    let owner = match list(pod.get("metadata"), "ownerReferences") {
        [] => {
            return refuse(format!(
                "node {name} can only create pods with an owner reference set to itself"
            ));
        }
        [one] => one,
        _ => {
            return refuse(format!(
                "node {name} can only create pods with a single owner reference set to itself"
            ));
        }
    };
    let is = |field: &str, value: &str| text(owner.get(field)) == value;
    let flag = |field: &str| owner.get(field).and_then(Value::as_bool) == Some(true);
    if !is("apiVersion", "v1") || !is("kind", "Node") || !is("name", node) {
        return refuse(format!(
            "node {name} can only create pods with an owner reference set to itself"
        ));
    }
    if !flag("controller") {
        return refuse(format!(
            "node {name} can only create pods with a controller owner reference set to itself"
        ));
    }
    if flag("blockOwnerDeletion") {
        return refuse(format!(
            "node {name} must not set blockOwnerDeletion on an owner reference"
        ));
    }
    let Some(object) = stored.find("nodes", "", node) else {
        return Err(Refusal::NotFound("node", node.to_owned()));
    };
    let (given, own) = (text(owner.get("uid")), text(object.pointer("/metadata/uid")));
    if given != own {
        return refuse(format!("node {node} UID mismatch: expected {given} got {own}"));
    }
    Ok(())
}

fn refers_to_nothing(node: &str, pod: &Value) -> Result<(), Refusal> {
    let mut whole = pod.clone();
    if let Some(annotations) = whole
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut)
    {
        annotations.remove(MIRROR);
    }
    let all = references(&whole);
    let refers = |kind| all.iter().any(|(source, _)| *source == kind);
    let volumes = list(pod.get("spec"), "volumes");
    let bundles = volumes
        .iter()
        .flat_map(|volume| list(volume.get("projected"), "sources"));
    let claims = volumes
        .iter()
        .any(|volume| volume.get("persistentVolumeClaim").is_some_and(Value::is_object));
    let what = if refers(Source::Account) {
        "a service account"
    } else if refers(Source::Secret) {
        "secrets"
    } else if refers(Source::ConfigMap) {
        "configmaps"
    } else if bundles
        .into_iter()
        .any(|part| part.get("clusterTrustBundle").is_some_and(Value::is_object))
    {
        "clustertrustbundles"
    } else if claims {
        "persistentvolumeclaims"
    } else if !list(pod.get("spec"), "resourceClaims").is_empty() {
        "resourceclaims"
    } else {
        return Ok(());
    };
    refuse(format!("node {node} can not create pods that reference {what}"))
}
