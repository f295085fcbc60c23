//! The small kinds: namespaces, nodes, config maps, secrets, classes, leases, budgets.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::FieldError;
use crate::field::{child, index, invalid, too_long};
use crate::json::{each, each_in, list, set, set_number, set_status, set_text, text};

/// Kubernetes' limit on the data of a Secret or ConfigMap, in bytes.
const MAX_DATA: usize = 1024 * 1024;

/// Sets the defaults of a Namespace.
pub(crate) fn default_namespace(namespace: &mut Value) {
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

/// The first status of a Namespace.
pub(crate) fn activate(namespace: &mut Value) {
    set_status(namespace, json!({"phase": "Active"}));
}

/// A namespace's own finalizers change only by its `finalize` subresource: without them it would go before its contents.
pub(crate) fn keep_finalizers(old: &Value, new: &mut Value) {
    let kept = crate::get(old, &["spec", "finalizers"]);
    each_in(Some(new), "spec", |spec| {
        match kept {
            Some(finalizers) => spec.insert("finalizers".into(), finalizers.clone()),
            None => spec.remove("finalizers"),
        };
    });
}

/// Sets the type of a Secret, and moves `stringData`, which nobody reads back, into `data`.
pub(crate) fn default_secret(secret: &mut Value) {
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

/// Sets the defaults of a StorageClass.
pub(crate) fn default_storage_class(class: &mut Value) {
    set(class.as_object_mut(), "reclaimPolicy", || json!("Delete"));
    set(class.as_object_mut(), "volumeBindingMode", || json!("Immediate"));
}

/// Sets the defaults of a CSIDriver.
pub(crate) fn default_csi_driver(driver: &mut Value) {
    each_in(Some(driver), "spec", |spec| {
        set(Some(spec), "attachRequired", || json!(true));
        for no in ["podInfoOnMount", "requiresRepublish", "seLinuxMount", "storageCapacity"] {
            set(Some(spec), no, || json!(false));
        }
        set_text(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
        set(Some(spec), "volumeLifecycleModes", || json!(["Persistent"]));
    });
}

/// Sets the defaults of an IngressClass.
pub(crate) fn default_ingress_class(class: &mut Value) {
    each_in(Some(class), "spec", |spec| {
        each(spec, "parameters", |parameters| {
            set_text(parameters, "scope", "Cluster");
        });
    });
}

/// Sets the defaults of an APIService.
pub(crate) fn default_api_service(service: &mut Value) {
    each_in(Some(service), "spec", |spec| {
        each(spec, "service", |service| set_number(service, "port", 443));
    });
}

/// Sets the defaults of a NetworkPolicy.
pub(crate) fn default_network_policy(policy: &mut Value) {
    each_in(Some(policy), "spec", |spec| {
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
    });
}

/// Checks a Lease.
pub(crate) fn lease(lease: &Value) -> Vec<FieldError> {
    let seconds = crate::get(lease, &["spec", "leaseDurationSeconds"]).and_then(Value::as_i64);
    let wrong = seconds.filter(|n| *n <= 0);
    wrong
        .map(|n| invalid("spec.leaseDurationSeconds", n, "must be greater than 0"))
        .into_iter()
        .collect()
}

/// Checks a PodDisruptionBudget.
pub(crate) fn budget(budget: &Value) -> Vec<FieldError> {
    let has = |key: &str| crate::get(budget, &["spec", key]).is_some_and(|v| !v.is_null());
    if !(has("minAvailable") && has("maxUnavailable")) {
        return Vec::new();
    }
    let detail = "minAvailable and maxUnavailable cannot be both set";
    vec![invalid("spec", budget["spec"].clone(), detail)]
}

/// Checks a Node.
pub(crate) fn node(node: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
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
    errors
}

/// Checks a ConfigMap or a Secret.
pub(crate) fn data(object: &Value) -> Vec<FieldError> {
    let (mut errors, mut size) = (Vec::new(), 0);
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
    errors
}

/// An immutable ConfigMap or Secret stays as it is.
pub(crate) fn immutable(old: &Value, new: &Value) -> Vec<FieldError> {
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
