//! `metadata`: what every object's has to look like, and what of it a client may not change.

use serde_json::{Map, Value, json};

use crate::field::{child, forbidden, invalid, required, too_long};
use crate::resource::{Kind, Resource};
use crate::{FieldError, WriteContext, names};

/// Kubernetes' limit on keys and values of all annotations together, in bytes.
const MAX_ANNOTATIONS: usize = 256 * 1024;

/// The metadata of an object, made if it is missing.
pub(crate) fn of(object: &mut Value) -> Option<&mut Map<String, Value>> {
    let object = object.as_object_mut()?;
    let metadata = object.entry("metadata").or_insert_with(|| json!({}));
    if metadata.is_null() {
        *metadata = json!({});
    }
    metadata.as_object_mut()
}

/// Fills what the server gives a new object, and drops what a client may not give it.
pub(crate) fn create(meta: &mut Map<String, Value>, has_generation: bool, context: &WriteContext) {
    for key in [
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
        "managedFields",
        "resourceVersion",
        "generation",
    ] {
        meta.remove(key);
    }
    let base = meta
        .get("generateName")
        .and_then(Value::as_str)
        .filter(|base| !base.is_empty());
    if let (Some(base), true) = (base, is_empty(meta.get("name"))) {
        let name = format!("{}{}", names::fits_generate_name(base), context.suffix);
        meta.insert("name".into(), name.into());
    }
    meta.insert("uid".into(), context.uid.clone().into());
    meta.insert("creationTimestamp".into(), context.now.clone().into());
    if has_generation {
        meta.insert("generation".into(), 1.into());
    }
    tidy(meta);
}

/// Keeps of the old metadata what a client may not change, and reports what it tried to.
pub(crate) fn update(old: &Map<String, Value>, new: &mut Map<String, Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for key in ["selfLink", "managedFields", "generation"] {
        new.remove(key);
    }
    if let Some(generation) = old.get("generation") {
        new.insert("generation".into(), generation.clone());
    }
    for key in ["name", "namespace", "uid"] {
        match (old.get(key), new.get(key)) {
            (Some(was), None | Some(Value::Null)) => {
                new.insert(key.into(), was.clone());
            }
            (Some(was), Some(is)) if is.as_str() == Some("") => {
                new.insert(key.into(), was.clone());
            }
            (Some(was), Some(is)) if was != is => {
                errors.push(invalid(format!("metadata.{key}"), is.clone(), "field is immutable"));
            }
            _ => {}
        }
    }
    // Kubernetes ignores what a client says about the time of creation, and lets nobody take a deletion back.
    for key in ["creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        match (old.get(key), new.get(key)) {
            (Some(was), _) => {
                new.insert(key.into(), was.clone());
            }
            (None, Some(Value::Null)) => {
                new.remove(key);
            }
            (None, Some(is)) if key != "creationTimestamp" => {
                let detail = "field is immutable; may only be changed via deletion";
                errors.push(invalid(format!("metadata.{key}"), is.clone(), detail));
            }
            _ => {}
        }
    }
    errors.extend(new_finalizers(old, new));
    tidy(new);
    errors
}

fn new_finalizers(old: &Map<String, Value>, new: &Map<String, Value>) -> Option<FieldError> {
    old.get("deletionTimestamp")?;
    let list = |meta: &Map<String, Value>| {
        meta.get("finalizers")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    };
    let before = list(old);
    let added: Vec<Value> = list(new).into_iter().filter(|f| !before.contains(f)).collect();
    let detail = format!(
        "no new finalizers can be added if the object is being deleted, found new finalizers {}",
        Value::Array(added.clone())
    );
    (!added.is_empty()).then(|| forbidden("metadata.finalizers", &detail))
}

/// Typed metadata has no empty maps and lists: they are left out.
fn tidy(meta: &mut Map<String, Value>) {
    for key in [
        "labels",
        "annotations",
        "finalizers",
        "ownerReferences",
        "generateName",
        "namespace",
    ] {
        let empty = match meta.get(key) {
            Some(Value::Object(map)) => map.is_empty(),
            Some(Value::Array(list)) => list.is_empty(),
            other => is_empty(other),
        };
        if empty {
            meta.remove(key);
        }
    }
}

/// Everything that is wrong with the metadata of an object that is about to be stored.
pub(crate) fn validate(resource: &Resource, object: &Value) -> Vec<FieldError> {
    let Some(meta) = object.get("metadata").and_then(Value::as_object) else {
        return vec![required("metadata", "")];
    };
    let mut errors = Vec::new();
    match meta.get("name").and_then(Value::as_str) {
        None | Some("") => errors.push(required("metadata.name", "name or generateName is required")),
        Some(name) => errors.extend(
            name_problems(resource, name)
                .iter()
                .map(|p| invalid("metadata.name", name, p)),
        ),
    }
    if let Some(namespace) = meta.get("namespace").and_then(Value::as_str) {
        if resource.namespaced {
            errors.extend(
                names::dns_label(namespace)
                    .iter()
                    .map(|p| invalid("metadata.namespace", namespace, p)),
            );
        } else {
            errors.push(forbidden("metadata.namespace", "not allowed on this type"));
        }
    } else if resource.namespaced {
        errors.push(required("metadata.namespace", ""));
    }
    validate_labels("metadata.labels", meta.get("labels"), &mut errors);
    annotations(meta.get("annotations"), &mut errors);
    owners(meta.get("ownerReferences"), &mut errors);
    finalizers(meta.get("finalizers"), &mut errors);
    errors
}

fn name_problems(resource: &Resource, name: &str) -> Vec<String> {
    let check = resource.builtin.map_or(Kind::PLAIN.name, |row| row.name);
    check(name)
}

/// Checks a map of labels at `path`.
pub(crate) fn validate_labels(path: &str, labels: Option<&Value>, errors: &mut Vec<FieldError>) {
    let Some(labels) = labels.filter(|l| !l.is_null()) else {
        return;
    };
    let Some(labels) = labels.as_object() else {
        errors.push(invalid(path, labels.clone(), "must be a map of strings"));
        return;
    };
    for (key, value) in labels {
        errors.extend(
            names::qualified_name(key)
                .iter()
                .map(|p| invalid(path, key.as_str(), p)),
        );
        match value.as_str() {
            Some(text) => errors.extend(names::label_value(text).iter().map(|p| invalid(path, text, p))),
            None => errors.push(invalid(
                crate::field::index(path, key),
                value.clone(),
                "must be a string",
            )),
        }
    }
}

fn annotations(annotations: Option<&Value>, errors: &mut Vec<FieldError>) {
    let Some(annotations) = annotations.filter(|a| !a.is_null()) else {
        return;
    };
    let path = "metadata.annotations";
    let Some(annotations) = annotations.as_object() else {
        errors.push(invalid(path, annotations.clone(), "must be a map of strings"));
        return;
    };
    let mut size = 0;
    for (key, value) in annotations {
        // Kubernetes judges annotation keys in lower case.
        errors.extend(
            names::qualified_name(&key.to_lowercase())
                .iter()
                .map(|p| invalid(path, key.as_str(), p)),
        );
        match value.as_str() {
            Some(text) => size += key.len() + text.len(),
            None => errors.push(invalid(
                crate::field::index(path, key),
                value.clone(),
                "must be a string",
            )),
        }
    }
    if size > MAX_ANNOTATIONS {
        errors.push(too_long(path, MAX_ANNOTATIONS));
    }
}

fn owners(owners: Option<&Value>, errors: &mut Vec<FieldError>) {
    let Some(owners) = owners.and_then(Value::as_array) else {
        return;
    };
    let mut controllers = 0;
    for (i, owner) in owners.iter().enumerate() {
        let path = crate::field::index("metadata.ownerReferences", i);
        for (key, detail) in [
            ("apiVersion", "version must not be empty"),
            ("kind", "must not be empty"),
            ("name", "must not be empty"),
            ("uid", "must not be empty"),
        ] {
            if is_empty(owner.get(key)) {
                errors.push(invalid(child(&path, key), "", detail));
            }
        }
        controllers += usize::from(owner.get("controller").and_then(Value::as_bool) == Some(true));
    }
    if controllers > 1 {
        let detail = "Only one reference can have Controller set to true";
        errors.push(invalid(
            "metadata.ownerReferences",
            Value::Array(owners.clone()),
            detail,
        ));
    }
}

fn finalizers(finalizers: Option<&Value>, errors: &mut Vec<FieldError>) {
    let Some(finalizers) = finalizers.and_then(Value::as_array) else {
        return;
    };
    for finalizer in finalizers {
        match finalizer.as_str() {
            Some(name) => errors.extend(
                names::qualified_name(name)
                    .iter()
                    .map(|p| invalid("metadata.finalizers", name, p)),
            ),
            None => errors.push(invalid("metadata.finalizers", finalizer.clone(), "must be a string")),
        }
    }
    let has = |name: &str| finalizers.iter().any(|f| f.as_str() == Some(name));
    if has("orphan") && has("foregroundDeletion") {
        let detail = "finalizer orphan and foregroundDeletion cannot be both set";
        errors.push(invalid("metadata.finalizers", Value::Array(finalizers.clone()), detail));
    }
}

fn is_empty(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(_) => false,
    }
}
