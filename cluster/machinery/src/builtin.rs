//! Defaults, validation and update rules of the built-in kinds.
//!
//! Everything works on JSON; a field that has the wrong type is reported by the validators and otherwise left alone, so
//! that nothing a client sent is lost on the way.

mod admission;
mod cluster;
mod container;
mod container_checks;
mod crd;
mod pod;
mod pod_checks;
mod pod_ephemeral;
mod pod_resize;
mod pod_update;
mod probe;
mod resources;
mod security_checks;
mod service;
mod typed;
mod volume;
mod volume_checks;
mod workload;
mod workload_checks;

use serde_json::{Map, Value, json};

use crate::FieldError;
use crate::kinds::Resource;

/// Status, defaults and admission of a new object.
pub(crate) fn prepare_create(resource: &Resource, object: &mut Value) {
    // A node registers itself with the status it has.
    if resource.status && !resource.is("", "Node") {
        set_status(object, json!({}));
    }
    default(resource, object);
    match (resource.group.as_str(), resource.kind.as_str()) {
        ("", "Pod") => pod::admit(object),
        ("", "Namespace") => set_status(object, json!({"phase": "Active"})),
        ("", "PersistentVolume" | "PersistentVolumeClaim") => set_status(object, json!({"phase": "Pending"})),
        ("", "Service") => set_status(object, json!({"loadBalancer": {}})),
        ("batch", "Job") => workload::generate_selector(object),
        _ => {}
    }
}

/// A value of a wrong type, which nothing else here could make sense of.
pub(crate) fn wrong_type(resource: &Resource, object: &Value) -> Option<FieldError> {
    if resource.is_custom() {
        None
    } else {
        typed::wrong_type(resource, object)
    }
}

/// Defaults of a changed object.
pub(crate) fn prepare_update(resource: &Resource, old: &Value, new: &mut Value) {
    default(resource, new);
    if resource.is("", "Service") {
        service::keep_allocated(old, new);
    }
    if resource.is("", "Namespace") {
        cluster::keep_finalizers(old, new);
    }
}

fn default(resource: &Resource, object: &mut Value) {
    match (resource.group.as_str(), resource.kind.as_str()) {
        ("", "Pod") => pod::default_pod(object),
        ("", "PodTemplate") => each_in(object.get_mut("template"), "spec", pod::default_spec),
        ("", "Service") => service::default_service(object),
        ("", "Namespace") => cluster::default_namespace(object),
        ("", "Endpoints") => service::default_endpoints(object),
        ("", "PersistentVolume" | "PersistentVolumeClaim") => volume::default_claim(resource, object),
        ("", "Secret") => cluster::default_secret(object),
        ("discovery.k8s.io", "EndpointSlice") => service::default_slice(object),
        ("apps" | "batch", _) | ("", "ReplicationController") => workload::default(resource, object),
        ("policy" | "storage.k8s.io" | "networking.k8s.io" | "scheduling.k8s.io" | "apiextensions.k8s.io", _) => {
            cluster::default(resource, object);
        }
        ("admissionregistration.k8s.io", _) => admission::default(resource, object),
        _ => {}
    }
}

/// Everything that is wrong with an object, whatever it was before.
pub(crate) fn validate(resource: &Resource, object: &Value) -> Vec<FieldError> {
    match (resource.group.as_str(), resource.kind.as_str()) {
        ("", "Pod") => pod_checks::pod(object),
        ("", "Service") => service::validate(object),
        ("", "Node" | "ConfigMap" | "Secret") | ("scheduling.k8s.io" | "coordination.k8s.io" | "policy", _) => {
            cluster::validate(resource, object)
        }
        ("", "PersistentVolume" | "PersistentVolumeClaim") | ("storage.k8s.io", _) => {
            volume_checks::validate(resource, object)
        }
        ("discovery.k8s.io", "EndpointSlice") => service::validate_slice(object),
        ("apps" | "batch", _) | ("", "ReplicationController" | "PodTemplate") => {
            workload_checks::validate(resource, object)
        }
        ("apiextensions.k8s.io", _) => crd::validate(object),
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy") => admission::validate_policy(object),
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding") => admission::validate_binding(object),
        _ => Vec::new(),
    }
}

/// Everything that is wrong with the step from the old object to the new one.
pub(crate) fn validate_update(resource: &Resource, old: &Value, new: &Value) -> Vec<FieldError> {
    match (resource.group.as_str(), resource.kind.as_str()) {
        ("", "Pod") => pod_update::validate(old, new),
        ("", "Service") => service::validate_update(old, new),
        ("", "ConfigMap" | "Secret" | "Node") => cluster::validate_update(old, new),
        ("", "PersistentVolume" | "PersistentVolumeClaim") | ("storage.k8s.io", _) => {
            volume_checks::validate_update(resource, old, new)
        }
        ("discovery.k8s.io", "EndpointSlice") => service::validate_slice_update(old, new),
        ("apps" | "batch", _) => workload_checks::validate_update(resource, old, new),
        ("apiextensions.k8s.io", _) => crd::validate_update(old, new),
        _ => Vec::new(),
    }
}

/// Takes everything but the resources of containers over from the old pod.
pub(crate) fn keep_all_but_resources(old: &Value, new: &mut Value) {
    pod_resize::keep_all_but_resources(old, new);
}

/// Everything that is wrong with a resize from the old pod to the new one.
pub(crate) fn validate_resize(old: &Value, new: &Value) -> Vec<FieldError> {
    pod_resize::validate(old, new)
}

/// What may not be in a new object, although it may in a changed one.
pub(crate) fn validate_create(resource: &Resource, object: &Value) -> Vec<FieldError> {
    match (resource.group.as_str(), resource.kind.as_str()) {
        ("", "Pod") => pod_ephemeral::validate_create(object),
        _ => Vec::new(),
    }
}

/// Takes everything but ephemeral containers over from the old pod.
pub(crate) fn keep_all_but_ephemeral_containers(old: &Value, new: &mut Value) {
    pod_ephemeral::keep_all_but_ephemeral_containers(old, new);
}

/// Everything that is wrong with the ephemeral containers of a changed pod.
pub(crate) fn validate_ephemeral_containers(old: &Value, new: &Value) -> Vec<FieldError> {
    pod_ephemeral::validate(old, new)
}

/// What a client should know about an object that is accepted.
pub(crate) fn warnings(resource: &Resource, object: &Value) -> Vec<String> {
    match (resource.is_custom(), resource.group.as_str(), resource.kind.as_str()) {
        (false, "", "Pod") => pod_checks::warnings(object.get("spec"), "spec"),
        (false, "apps", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet") => {
            pod_checks::warnings(crate::get(object, &["spec", "template", "spec"]), "spec.template.spec")
        }
        _ => Vec::new(),
    }
}

/// Replaces the status.
fn set_status(object: &mut Value, status: Value) {
    if let Some(object) = object.as_object_mut() {
        object.insert("status".to_owned(), status);
    }
}

/// Sets a field that is absent or null.
fn set(object: Option<&mut Map<String, Value>>, key: &str, value: impl FnOnce() -> Value) {
    if let Some(object) = object
        && object.get(key).is_none_or(Value::is_null)
    {
        object.insert(key.to_owned(), value());
    }
}

/// Sets a field that is absent, null or the empty string: Go's zero value of a string.
fn set_text(object: &mut Map<String, Value>, key: &str, value: &str) {
    if text(object.get(key)).is_empty() && object.get(key).is_none_or(|v| v.is_null() || v.is_string()) {
        object.insert(key.to_owned(), value.into());
    }
}

/// Sets a field that is absent, null or 0: Go's zero value of a number.
fn set_number(object: &mut Map<String, Value>, key: &str, value: i64) {
    if object.get(key).is_none_or(|v| v.is_null() || v.as_i64() == Some(0)) {
        object.insert(key.to_owned(), value.into());
    }
}

/// Runs `change` on the object at `key`, or on every object of the list there.
fn each_in(parent: Option<&mut Value>, key: &str, mut change: impl FnMut(&mut Map<String, Value>)) {
    match parent.and_then(|p| p.get_mut(key)) {
        Some(Value::Object(object)) => change(object),
        Some(Value::Array(items)) => items.iter_mut().filter_map(Value::as_object_mut).for_each(change),
        _ => {}
    }
}

/// The same for an object's field.
fn each(parent: &mut Map<String, Value>, key: &str, mut change: impl FnMut(&mut Map<String, Value>)) {
    match parent.get_mut(key) {
        Some(Value::Object(object)) => change(object),
        Some(Value::Array(items)) => items.iter_mut().filter_map(Value::as_object_mut).for_each(change),
        _ => {}
    }
}

/// A list, empty where there is none.
fn list<'a>(parent: Option<&'a Value>, key: &str) -> &'a [Value] {
    parent
        .and_then(|p| p.get(key))
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// A string, empty where there is none.
fn text(value: Option<&Value>) -> &str {
    value.and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests;
