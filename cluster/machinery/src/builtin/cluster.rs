//! The small kinds: namespaces, nodes, config maps, secrets, classes, leases, budgets.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{each, each_in, list, set, set_text, text};
use crate::FieldError;
use crate::field::{child, index, invalid, required, too_long};
use crate::kinds::Resource;

/// Kubernetes' limit on the data of a Secret or ConfigMap, in bytes.
const MAX_DATA: usize = 1024 * 1024;

/// Sets the defaults of a Namespace.
pub(super) fn default_namespace(namespace: &mut Value) {
    let leaving = crate::get(namespace, &["metadata", "deletionTimestamp"]).is_some();
    set(namespace.as_object_mut(), "spec", || json!({}));
    if !leaving {
        each_in(Some(namespace), "spec", |spec| {
            set(Some(spec), "finalizers", || json!(["kubernetes"]));
        });
    }
    let name = crate::get(namespace, &["metadata", "name"]).cloned();
    if let (Some(name), Some(meta)) = (name, crate::metadata::of(namespace)) {
        set(Some(meta), "labels", || json!({}));
        each(meta, "labels", |labels| {
            labels.insert("kubernetes.io/metadata.name".into(), name.clone());
        });
    }
}

/// A namespace's own finalizers change only by its `finalize` subresource: without them it would go before its contents.
pub(super) fn keep_finalizers(old: &Value, new: &mut Value) {
    let kept = crate::get(old, &["spec", "finalizers"]);
    each_in(Some(new), "spec", |spec| {
        match kept {
            Some(finalizers) => spec.insert("finalizers".into(), finalizers.clone()),
            None => spec.remove("finalizers"),
        };
    });
}

/// Sets the type of a Secret, and moves `stringData`, which nobody reads back, into `data`.
pub(super) fn default_secret(secret: &mut Value) {
    let Some(secret) = secret.as_object_mut() else { return };
    set(Some(secret), "type", || json!("Opaque"));
    let Some(Value::Object(plain)) = secret.get("stringData").cloned() else {
        return;
    };
    // Something that is no string is left for validation to find.
    let Some(encoded) = plain
        .iter()
        .map(|(key, value)| Some((key.clone(), json!(STANDARD.encode(value.as_str()?)))))
        .collect::<Option<Vec<_>>>()
    else {
        return;
    };
    secret.remove("stringData");
    set(Some(secret), "data", || json!({}));
    each(secret, "data", |data| data.extend(encoded.clone()));
}

/// Sets the defaults of the kinds that have just a few.
pub(super) fn default(resource: &Resource, object: &mut Value) {
    match resource.kind.as_str() {
        "StorageClass" => {
            set(object.as_object_mut(), "reclaimPolicy", || json!("Delete"));
            set(object.as_object_mut(), "volumeBindingMode", || json!("Immediate"));
        }
        "PriorityClass" => set(object.as_object_mut(), "preemptionPolicy", || {
            json!("PreemptLowerPriority")
        }),
        "NetworkPolicy" => each_in(Some(object), "spec", |spec| {
            for direction in ["ingress", "egress"] {
                each(spec, direction, |rule| {
                    each(rule, "ports", |port| set_text(port, "protocol", "TCP"));
                });
            }
            let egress = spec
                .get("egress")
                .and_then(Value::as_array)
                .is_some_and(|e| !e.is_empty());
            set(Some(spec), "policyTypes", || {
                if egress {
                    json!(["Ingress", "Egress"])
                } else {
                    json!(["Ingress"])
                }
            });
        }),
        "CustomResourceDefinition" => super::crd::default(object),
        _ => {}
    }
}

/// Checks the kinds that have just a few rules.
pub(super) fn validate(resource: &Resource, object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    match resource.kind.as_str() {
        "Node" => taints(object, &mut errors),
        "ConfigMap" | "Secret" => data(object, &mut errors),
        "PriorityClass" if object.get("value").and_then(Value::as_i64).is_none() => {
            errors.push(required("value", "must be a number"));
        }
        "Lease" => {
            for key in ["leaseDurationSeconds"] {
                if let Some(n) = crate::get(object, &["spec", key])
                    .and_then(Value::as_i64)
                    .filter(|n| *n <= 0)
                {
                    errors.push(invalid(child("spec", key), n, "must be greater than 0"));
                }
            }
        }
        "PodDisruptionBudget" => {
            let has = |key: &str| crate::get(object, &["spec", key]).is_some_and(|v| !v.is_null());
            if has("minAvailable") && has("maxUnavailable") {
                let detail = "minAvailable and maxUnavailable cannot be both set";
                errors.push(invalid("spec", object["spec"].clone(), detail));
            }
        }
        _ => {}
    }
    errors
}

fn taints(node: &Value, errors: &mut Vec<FieldError>) {
    for (i, taint) in list(node.get("spec"), "taints").iter().enumerate() {
        let path = index("spec.taints", i);
        let key = text(taint.get("key"));
        errors.extend(
            crate::names::qualified_name(key)
                .iter()
                .map(|p| invalid(child(&path, "key"), key, p)),
        );
        let effect = text(taint.get("effect"));
        let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
        if !effects.contains(&effect) {
            errors.push(crate::field::not_supported(child(&path, "effect"), effect, &effects));
        }
    }
}

fn data(object: &Value, errors: &mut Vec<FieldError>) {
    let mut size = 0;
    for part in ["data", "binaryData", "stringData"] {
        let Some(map) = object.get(part).filter(|m| !m.is_null()) else {
            continue;
        };
        let Some(map) = map.as_object() else {
            errors.push(invalid(part, map.clone(), "must be a map of strings"));
            continue;
        };
        for (key, value) in map {
            let word = key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
            if key.is_empty() || !word || key.len() > crate::names::MAX_SUBDOMAIN || key == "." || key == ".." {
                let detail = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
                errors.push(invalid(index(part, key), key.as_str(), detail));
            }
            match value.as_str() {
                Some(text) => size += text.len(),
                None => errors.push(invalid(index(part, key), value.clone(), "must be a string")),
            }
        }
    }
    if size > MAX_DATA {
        errors.push(too_long("", MAX_DATA));
    }
}

/// An immutable ConfigMap or Secret stays as it is.
pub(super) fn validate_update(old: &Value, new: &Value) -> Vec<FieldError> {
    if old.get("immutable") != Some(&json!(true)) {
        return Vec::new();
    }
    let changed = ["immutable", "data", "binaryData"]
        .into_iter()
        .filter(|key| old.get(*key) != new.get(*key));
    changed
        .map(|key| crate::field::forbidden(key, "field is immutable when `immutable` is set"))
        .collect()
}
