//! Admission plugin NodeRestriction: which objects a node may write, and what of them.
//!
//! Not here: ResourceSlices (there are none).

use serde_json::Value;

use super::identity::{LEASES, node_of};
use super::write::{Refusal, Stored, Write, refuse};
use super::{labels, mirror};
use crate::admission::Operation;
use crate::authorization::quoted;
use crate::builtin::certificates;
use crate::json::{list, text};

/// Whether a write may go on, as far as it is a node's.
///
/// # Errors
/// Why not.
pub fn restrict(write: &Write<'_>, stored: &dyn Stored) -> Result<(), Refusal> {
    let Some(node) = node_of(write.user) else {
        return Ok(());
    };
    if node.is_empty() {
        return refuse(format!(
            "could not determine node from user {}",
            quoted(&write.user.name)
        ));
    }
    match (write.group, write.resource, write.subresource) {
        ("", "pods", "") => pod(node, write, stored),
        ("", "pods", "status") => pod_status(node, write),
        ("", "pods", "eviction") => eviction(node, write, stored),
        ("", "pods", other) => refuse(format!(
            "unexpected pod subresource {}, only 'status' and 'eviction' are allowed",
            quoted(other)
        )),
        ("", "nodes", _) => own_node(node, write),
        ("", "persistentvolumeclaims", "status") => claim_status(node, write),
        ("", "persistentvolumeclaims", _) => refuse("may only update PVC status"),
        ("", "serviceaccounts", "token") => token(node, write, stored),
        ("coordination.k8s.io", "leases", _) => lease(node, write),
        ("certificates.k8s.io", "certificatesigningrequests", _) => request(node, write),
        ("storage.k8s.io", "csinodes", _) if write.name != node => {
            refuse("can only access CSINode with the same name as the requesting node")
        }
        _ => Ok(()),
    }
}

/// A node asks for certificates of its own only.
fn request(node: &str, write: &Write<'_>) -> Result<(), Refusal> {
    let created = write.object.filter(|_| write.operation == Operation::Create);
    let Some(object) = created else { return Ok(()) };
    let signer = text(object.pointer("/spec/signerName"));
    if ![certificates::NODE_CLIENT_SIGNER, certificates::NODE_SERVING_SIGNER].contains(&signer) {
        return Ok(());
    }
    match certificates::request(object) {
        Err(why) => refuse(format!("unable to parse csr: {why}")),
        Ok(request) if request.common_name == format!("system:node:{node}") => Ok(()),
        Ok(_) => refuse(format!("can only create a node CSR with CN=system:node:{node}")),
    }
}

/// The pod that a request is about, which has to be there.
fn bound_to(namespace: &str, name: &str, stored: &dyn Stored) -> Result<Value, Refusal> {
    stored
        .find("pods", namespace, name)
        .ok_or_else(|| Refusal::NotFound("pod", name.to_owned()))
}

fn runs_on(pod: &Value, node: &str) -> bool {
    text(pod.pointer("/spec/nodeName")) == node
}

fn pod(node: &str, write: &Write<'_>, stored: &dyn Stored) -> Result<(), Refusal> {
    match write.operation {
        Operation::Create => mirror::create(node, write, stored),
        Operation::Delete if runs_on(&bound_to(write.namespace, write.name, stored)?, node) => Ok(()),
        Operation::Delete => refuse(format!(
            "node {} can only delete pods with spec.nodeName set to itself",
            quoted(node)
        )),
        Operation::Update => refuse(format!(
            "unexpected operation {}, node {} can only create and delete mirror pods",
            quoted(write.operation.as_str()),
            quoted(node)
        )),
    }
}

fn pod_status(node: &str, write: &Write<'_>) -> Result<(), Refusal> {
    let (Some(old), Some(new)) = (write.old, write.object) else {
        return refuse(format!("unexpected operation {}", quoted(write.operation.as_str())));
    };
    if !runs_on(old, node) {
        return refuse(format!(
            "node {} can only update pod status for pods with spec.nodeName set to itself",
            quoted(node)
        ));
    }
    let labels = |pod: &Value| {
        pod.pointer("/metadata/labels")
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default()
    };
    if labels(old) != labels(new) {
        return refuse(format!("node {} cannot update labels through pod status", quoted(node)));
    }
    let claims = |pod: &Value| {
        let all = list(pod.get("status"), "resourceClaimStatuses").iter();
        all.map(|claim| (claim.get("name").cloned(), claim.get("resourceClaimName").cloned()))
            .collect::<Vec<_>>()
    };
    if claims(old) != claims(new) {
        return refuse(format!("node {} cannot update resource claim statues", quoted(node)));
    }
    Ok(())
}

fn eviction(node: &str, write: &Write<'_>, stored: &dyn Stored) -> Result<(), Refusal> {
    if write.operation != Operation::Create {
        return refuse(format!("unexpected operation {}", write.operation.as_str()));
    }
    if runs_on(&bound_to(write.namespace, write.name, stored)?, node) {
        return Ok(());
    }
    refuse(format!(
        "node {node} can only evict pods with spec.nodeName set to itself"
    ))
}

fn own_node(node: &str, write: &Write<'_>) -> Result<(), Refusal> {
    let name = quoted(node);
    if write.name != node {
        return refuse(format!(
            "node {name} is not allowed to modify node {}",
            quoted(write.name)
        ));
    }
    let Some(new) = write.object else { return Ok(()) };
    let source = |object: &Value| {
        object
            .pointer("/spec/configSource")
            .filter(|source| !source.is_null())
            .cloned()
    };
    let forbidden: Vec<&str> = labels::forbidden(write.old, new).into_iter().collect();
    let Some(old) = write.old else {
        if source(new).is_some() {
            return refuse(format!(
                "node {name} is not allowed to create pods with a non-nil configSource"
            ));
        }
        if !forbidden.is_empty() {
            let list = forbidden.join(", ");
            return refuse(format!(
                "node {name} is not allowed to set the following labels: {list}"
            ));
        }
        return Ok(());
    };
    if source(new).is_some() && source(new) != source(old) {
        return refuse(format!(
            "node {name} is not allowed to update configSource to a new non-nil configSource"
        ));
    }
    if list(old.get("spec"), "taints") != list(new.get("spec"), "taints") {
        return refuse(format!("node {name} is not allowed to modify taints"));
    }
    if list(old.get("metadata"), "ownerReferences") != list(new.get("metadata"), "ownerReferences") {
        return refuse(format!("node {name} is not allowed to modify ownerReferences"));
    }
    if !forbidden.is_empty() {
        return refuse(format!("is not allowed to modify labels: {}", forbidden.join(", ")));
    }
    Ok(())
}

fn claim_status(node: &str, write: &Write<'_>) -> Result<(), Refusal> {
    let (Some(old), Some(new)) = (write.old, write.object) else {
        return refuse(format!("unexpected operation {}", quoted(write.operation.as_str())));
    };
    let rest = |claim: &Value| {
        let mut rest = claim.clone();
        if let Some(metadata) = rest.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("resourceVersion");
        }
        if let Some(status) = rest.get_mut("status").and_then(Value::as_object_mut) {
            for field in [
                "capacity",
                "conditions",
                "allocatedResources",
                "allocatedResourceStatuses",
            ] {
                status.remove(field);
            }
        }
        rest
    };
    let (old, new) = (rest(old), rest(new));
    let differs = |field: &&str| old.get(*field) != new.get(*field);
    let changed: Vec<&str> = ["metadata", "spec", "status"].into_iter().filter(differs).collect();
    if changed.is_empty() {
        return Ok(());
    }
    refuse(format!(
        "node {} is not allowed to update fields other than status.quantity and status.conditions: {}",
        quoted(node),
        changed.join(", ")
    ))
}

fn token(node: &str, write: &Write<'_>, stored: &dyn Stored) -> Result<(), Refusal> {
    let request = write.object.unwrap_or(&Value::Null);
    let bound = request.pointer("/spec/boundObjectRef").unwrap_or(&Value::Null);
    let field = |name: &str| text(bound.get(name));
    if field("apiVersion") != "v1" || field("kind") != "Pod" || field("name").is_empty() {
        return refuse("node requested token not bound to a pod");
    }
    if field("uid").is_empty() {
        return refuse("node requested token with a pod binding without a uid");
    }
    let pod = bound_to(write.namespace, field("name"), stored)?;
    if field("uid") != text(pod.pointer("/metadata/uid")) {
        return refuse(format!(
            "the UID in the bound object reference ({}) does not match the UID in record. The object might have been \
             deleted and then recreated",
            field("uid")
        ));
    }
    if !runs_on(&pod, node) {
        return refuse("node requested token bound to a pod scheduled on a different node");
    }
    audience(request, &pod)
}

/// A token is for whom the pod's volumes say (Kubernetes 1.33; there are no CSI drivers that might ask for others).
fn audience(request: &Value, pod: &Value) -> Result<(), Refusal> {
    let wanted = match list(request.get("spec"), "audiences") {
        [] => "",
        [one] => text(Some(one)),
        _ => return refuse("node may only request 0 or 1 audiences"),
    };
    let sources = list(pod.get("spec"), "volumes").iter();
    let mut tokens = sources
        .flat_map(|volume| list(volume.get("projected"), "sources"))
        .filter_map(|part| part.get("serviceAccountToken").filter(|token| token.is_object()));
    if tokens.any(|token| text(token.get("audience")) == wanted) {
        return Ok(());
    }
    refuse(format!("audience {} not found in pod spec volume", quoted(wanted)))
}

fn lease(node: &str, write: &Write<'_>) -> Result<(), Refusal> {
    if write.namespace != LEASES {
        return refuse(format!(
            "can only access leases in the {} system namespace",
            quoted(LEASES)
        ));
    }
    if write.name != node {
        return refuse("can only access node lease with the same name as the requesting node");
    }
    Ok(())
}
