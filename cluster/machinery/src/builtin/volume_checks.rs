//! Claims, volumes and classes: what is refused.

use afloat_words::quantity::Quantity;
use serde_json::Value;

use crate::FieldError;
use crate::field::{child, forbidden, invalid, not_supported, required};
use crate::json::{list, text};

const ACCESS_MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const VOLUME_MODES: [&str; 2] = ["Block", "Filesystem"];
const RECLAIM_POLICIES: [&str; 3] = ["Delete", "Recycle", "Retain"];
const BINDING_MODES: [&str; 2] = ["Immediate", "WaitForFirstConsumer"];

/// Fields of a volume's spec that do not say where its contents are.
const NOT_A_SOURCE: [&str; 9] = [
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

fn one_of(value: Option<&Value>, path: String, allowed: &[&str], errors: &mut Vec<FieldError>) {
    if let Some(value) = value.filter(|value| !value.is_null())
        && !value.as_str().is_some_and(|value| allowed.contains(&value))
    {
        errors.push(not_supported(path, value.clone(), allowed));
    }
}

fn access_modes(spec: Option<&Value>, path: &str, errors: &mut Vec<FieldError>) {
    let path = child(path, "accessModes");
    let modes = list(spec, "accessModes");
    if modes.is_empty() {
        errors.push(required(path.as_str(), "at least 1 access mode is required"));
    }
    for mode in modes {
        one_of(Some(mode), path.clone(), &ACCESS_MODES, errors);
    }
    let single = modes.iter().any(|mode| mode == "ReadWriteOncePod");
    if single && modes.len() > 1 {
        let detail = "may not use ReadWriteOncePod with other access modes";
        errors.push(forbidden(path, detail));
    }
}

fn storage(quantity: Option<&Value>, path: String, errors: &mut Vec<FieldError>) {
    let Some(written) = quantity.filter(|value| !value.is_null()) else {
        return errors.push(required(path, ""));
    };
    match Quantity::of_json(written) {
        Ok(amount) if amount.nano() > 0 => {}
        Ok(_) => errors.push(invalid(path, written.clone(), "must be greater than zero")),
        Err(_) => errors.push(invalid(path, written.clone(), "must be a quantity, as in 500Mi or 2Gi")),
    }
}

/// Checks a PersistentVolumeClaim.
pub(crate) fn claim(claim: &Value) -> Vec<FieldError> {
    let (spec, path, mut errors) = (claim.get("spec"), "spec", Vec::new());
    access_modes(spec, path, &mut errors);
    let requests = spec.and_then(|spec| spec.pointer("/resources/requests/storage"));
    storage(requests, format!("{path}.resources[storage]"), &mut errors);
    let mode = spec.and_then(|spec| spec.get("volumeMode"));
    one_of(mode, child(path, "volumeMode"), &VOLUME_MODES, &mut errors);
    let class = text(spec.and_then(|spec| spec.get("storageClassName")));
    if !class.is_empty() {
        let problems = crate::names::dns_subdomain(class);
        errors.extend(
            problems
                .iter()
                .map(|p| invalid(child(path, "storageClassName"), class, p)),
        );
    }
    errors
}

fn sources(spec: Option<&Value>) -> Vec<(&String, &Value)> {
    let fields = spec.and_then(Value::as_object).into_iter().flatten();
    fields
        .filter(|(key, value)| !NOT_A_SOURCE.contains(&key.as_str()) && !value.is_null())
        .collect()
}

/// Checks a PersistentVolume.
pub(crate) fn volume(volume: &Value) -> Vec<FieldError> {
    let (spec, mut errors) = (volume.get("spec"), Vec::new());
    access_modes(spec, "spec", &mut errors);
    let capacity = spec.and_then(|spec| spec.pointer("/capacity/storage"));
    storage(capacity, "spec.capacity[storage]".to_owned(), &mut errors);
    let field = |key: &str| spec.and_then(|spec| spec.get(key));
    one_of(
        field("volumeMode"),
        "spec.volumeMode".to_owned(),
        &VOLUME_MODES,
        &mut errors,
    );
    let policy = "persistentVolumeReclaimPolicy";
    one_of(field(policy), child("spec", policy), &RECLAIM_POLICIES, &mut errors);
    match sources(spec).as_slice() {
        [] => errors.push(required("spec", "must specify a volume type")),
        [(kind, source)] => {
            if matches!(kind.as_str(), "local" | "hostPath") && text(source.get("path")).is_empty() {
                errors.push(required(format!("spec.{kind}.path"), ""));
            }
            if kind.as_str() == "local" && spec.and_then(|s| s.pointer("/nodeAffinity/required")).is_none() {
                errors.push(required("spec.nodeAffinity", "Local volume requires node affinity"));
            }
        }
        [_, more @ ..] => {
            let extra = |(kind, _): &(&String, &Value)| {
                forbidden(child("spec", kind), "may not specify more than 1 volume type")
            };
            errors.extend(more.iter().map(extra));
        }
    }
    errors
}

/// Checks a StorageClass.
pub(crate) fn class(class: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if text(class.get("provisioner")).is_empty() {
        errors.push(required("provisioner", ""));
    }
    let mode = "volumeBindingMode";
    one_of(class.get(mode), mode.to_owned(), &BINDING_MODES, &mut errors);
    let policy = "reclaimPolicy";
    one_of(class.get(policy), policy.to_owned(), &RECLAIM_POLICIES, &mut errors);
    errors
}

/// Checks the step from one StorageClass to another: nearly all of it stays.
pub(crate) fn class_update(old: &Value, new: &Value) -> Vec<FieldError> {
    ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"]
        .into_iter()
        .filter(|key| old.get(*key) != new.get(*key))
        .map(|key| forbidden(key, &format!("updates to {key} are forbidden.")))
        .collect()
}

/// Checks the step from one PersistentVolumeClaim to another.
pub(crate) fn claim_update(old: &Value, new: &Value) -> Vec<FieldError> {
    let spec = |object: &Value| object.get("spec").cloned().unwrap_or_default();
    let (old, mut new) = (spec(old), spec(new));
    let mut errors = Vec::new();
    if old.get("resources") != new.get("resources") {
        let detail = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize";
        errors.push(forbidden("spec.resources.requests.storage", detail));
        new["resources"] = old.get("resources").cloned().unwrap_or_default();
    }
    // Filled in once: by the one who binds it, and by a default class that came later (KEP-3333).
    for key in ["volumeName", "storageClassName"] {
        let before = old.get(key).filter(|value| !value.is_null());
        if before.is_none_or(|value| key == "volumeName" && value == "")
            && let Some(fields) = new.as_object_mut()
        {
            fields.remove(key);
            fields.extend(old.get(key).map(|value| (key.to_owned(), value.clone())));
        }
    }
    if old != new {
        let detail =
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        errors.push(forbidden("spec", detail));
    }
    errors
}

/// Checks the step from one PersistentVolume to another.
pub(crate) fn volume_update(old: &Value, new: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if sources(old.get("spec")) != sources(new.get("spec")) {
        let detail = "spec.persistentvolumesource is immutable after creation";
        errors.push(forbidden("spec.persistentvolumesource", detail));
    }
    let affinity = |object: &Value| crate::get(object, &["spec", "nodeAffinity"]).cloned();
    if affinity(old).is_some() && affinity(old) != affinity(new) {
        let detail = "field is immutable";
        errors.push(invalid("spec.nodeAffinity", affinity(new).unwrap_or_default(), detail));
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::Registry;

    fn told(errors: &[FieldError]) -> Vec<String> {
        errors.iter().map(|e| format!("{}: {}", e.field, e.message)).collect()
    }

    fn check(api_version: &str, kind: &str, object: &Value) -> Vec<String> {
        let resource = Registry::builtin().by_kind(api_version, kind).unwrap();
        told(&(resource.builtin.unwrap().validate)(object))
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(
            check(
                "v1",
                "PersistentVolumeClaim",
                &json!({"spec": {"resources": {"requests": {"storage": "0"}}}})
            ),
            [
                "spec.accessModes: Required value: at least 1 access mode is required",
                "spec.resources[storage]: Invalid value: \"0\": must be greater than zero"
            ]
        );
        let local = json!({"spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "local": {"path": "/x"}}});
        assert_eq!(
            check("v1", "PersistentVolume", &local),
            ["spec.nodeAffinity: Required value: Local volume requires node affinity"]
        );
        assert_eq!(
            check(
                "storage.k8s.io/v1",
                "StorageClass",
                &json!({"volumeBindingMode": "Later"})
            )
            .len(),
            2
        );
    }

    #[test]
    fn a_claim_is_filled_in_once_and_then_stays() {
        let object = |spec: Value| json!({ "spec": spec });
        let old = object(json!({"accessModes": ["ReadWriteOnce"], "resources": {}}));
        let bound = object(
            json!({"accessModes": ["ReadWriteOnce"], "resources": {}, "volumeName": "v", "storageClassName": "s"}),
        );
        assert!(claim_update(&old, &bound).is_empty());
        assert!(claim_update(&bound, &bound).is_empty());
        let other = object(
            json!({"accessModes": ["ReadWriteOnce"], "resources": {}, "volumeName": "w", "storageClassName": "s"}),
        );
        assert_eq!(claim_update(&bound, &other).len(), 1);
        let larger = object(json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2"}}}));
        assert!(claim_update(&old, &larger)[0].message.contains("can be resized"));
    }

    #[test]
    fn where_a_volume_is_stays() {
        let old = json!({"spec": {"hostPath": {"path": "/a"}, "capacity": {"storage": "1"}}});
        let more = json!({"spec": {"hostPath": {"path": "/a"}, "capacity": {"storage": "2"}, "claimRef": {}}});
        assert!(volume_update(&old, &more).is_empty());
        let moved = json!({"spec": {"hostPath": {"path": "/b"}, "capacity": {"storage": "1"}}});
        assert_eq!(volume_update(&old, &moved).len(), 1);
    }
}
