//! What a StatefulSet's pods keep through all changes: their names, and the claims of their volumes.

use serde_json::{Value, json};

use crate::objects::{StatefulSet, controlled_by};
use crate::workload::history::HASH_LABEL;
use crate::workload::template::pod_from_template;

/// The name of the pod with this ordinal.
pub(super) fn pod_name(set: &StatefulSet, ordinal: i32) -> String {
    format!("{}-{ordinal}", set.metadata.name.as_deref().unwrap_or_default())
}

/// The name of that pod's claim of this template.
pub(super) fn claim_name(template: &Value, set: &StatefulSet, ordinal: i32) -> String {
    let name = template
        .pointer("/metadata/name")
        .and_then(Value::as_str)
        .unwrap_or_default();
    format!("{name}-{}-{ordinal}", set.metadata.name.as_deref().unwrap_or_default())
}

/// The pod's volume claims, name first.
pub(super) fn claims(set: &StatefulSet, ordinal: i32) -> Vec<(String, Value)> {
    let claim = |template: &Value| {
        let name = claim_name(template, set, ordinal);
        let mut object = template.clone();
        object["apiVersion"] = json!("v1");
        object["kind"] = json!("PersistentVolumeClaim");
        object["metadata"]["name"] = json!(name);
        object["metadata"]["namespace"] = json!(set.metadata.namespace);
        for (key, value) in set.spec.selector.match_labels.iter().flatten() {
            object["metadata"]["labels"][key] = json!(value);
        }
        (name, object)
    };
    set.spec.volume_claim_templates.iter().map(claim).collect()
}

/// The pod of a template, whose revision has this name.
pub(super) fn pod(set: &StatefulSet, template: &Value, ordinal: i32, revision: &str) -> Value {
    let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
    let name = pod_name(set, ordinal);
    let mut pod = pod_from_template(template, namespace, controlled_by::<StatefulSet>(&set.metadata));
    pod["metadata"]["name"] = json!(name);
    pod["metadata"]["labels"][HASH_LABEL] = json!(revision);
    pod["metadata"]["labels"]["statefulset.kubernetes.io/pod-name"] = json!(name);
    pod["metadata"]["labels"]["apps.kubernetes.io/pod-index"] = json!(ordinal.to_string());
    pod["spec"]["hostname"] = json!(name);
    if let Some(service) = &set.spec.service_name {
        pod["spec"]["subdomain"] = json!(service);
    }
    let claimed: Vec<Value> = set
        .spec
        .volume_claim_templates
        .iter()
        .map(|template| {
            json!({"name": template.pointer("/metadata/name"),
                "persistentVolumeClaim": {"claimName": claim_name(template, set, ordinal)}})
        })
        .collect();
    if !claimed.is_empty() {
        let mut volumes = pod["spec"]["volumes"].as_array().cloned().unwrap_or_default();
        volumes.retain(|volume| !claimed.iter().any(|claim| claim["name"] == volume["name"]));
        volumes.extend(claimed);
        pod["spec"]["volumes"] = json!(volumes);
    }
    pod
}
