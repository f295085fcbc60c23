//! What happens to an object between a client and the store: prune, default, validate, keep what may not change.
//!
//! The API server calls these with objects whose apiVersion, kind, namespace and name it has matched with the URL. It
//! sets `resourceVersion` itself; it handles finalizers, deletion, preconditions and conflicts itself.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::builtin::certificates;
use crate::builtin::pod::{ephemeral, resize};
use crate::field::{invalid, type_invalid};
use crate::json::set_status;
use crate::kinds::inert;
use crate::resource::{Kind, Resource, Status, StatusChanges};
use crate::{Checked, FieldError, WriteContext, bounds, metadata, schema};

/// Which part of an object a write is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The object without its status.
    Main,
    /// The `status` subresource: only status (and metadata.labels/annotations/finalizers as Kubernetes allows) changes.
    Status,
    /// `pods/resize`: only the resources of containers change (KEP-1287).
    Resize,
    /// `certificatesigningrequests/approval`: only the conditions of the status change.
    Approval,
    /// `pods/ephemeralcontainers`: only ephemeral containers are added.
    EphemeralContainers,
    /// `pods/binding`, `pods/eviction`, `scale`: written by the API server itself, no update rules.
    Internal,
}

/// Makes a new object ready to be stored: metadata (uid, creationTimestamp, generation, generateName), pruned, defaulted,
/// validated, status removed where it is a subresource (pods get `{"phase":"Pending","qosClass":…}`).
///
/// # Errors
/// Every field that Kubernetes would refuse, as far as this crate knows its kind.
pub fn prepare_create(resource: &Resource, object: &mut Value, context: &WriteContext) -> Checked {
    bounded(object)?;
    let Some(meta) = metadata::of(object) else {
        return Err(vec![no_metadata()]);
    };
    if !resource.is_stored() {
        return Ok(Vec::new());
    }
    metadata::create(meta, resource.counts(), context);
    match resource.builtin {
        None => {
            if resource.status {
                remove(object, "status");
            }
            schema::prune(resource, object);
            schema::default(resource, object);
        }
        Some(row) => {
            well_typed(row, object)?;
            drop_nulls(row, object);
            if row.status == Status::Own {
                set_status(object, json!({}));
            }
            (row.default)(object);
            (row.begin)(object);
        }
    }
    let mut errors = metadata::validate(resource, object);
    errors.extend(validate(resource, None, object));
    if let Some(row) = resource.builtin {
        errors.extend((row.validate_create)(object));
    }
    outcome(resource, object, errors)
}

/// Makes a changed object ready to be stored: keeps immutable metadata (uid, creationTimestamp, deletionTimestamp) of the
/// old one, prunes, defaults, validates, applies the update rules of its kind (pods: only the documented fields), and
/// counts `generation` up when the spec changed.
///
/// # Errors
/// Every field that Kubernetes would refuse, as far as this crate knows its kind.
pub fn prepare_update(
    resource: &Resource,
    part: Part,
    old: &Value,
    new: &mut Value,
    context: &WriteContext,
) -> Checked {
    bounded(new)?;
    let Some(meta) = metadata::of(new) else {
        return Err(vec![no_metadata()]);
    };
    let mut errors = Vec::new();
    if part != Part::Internal {
        let empty = Map::new();
        let before = old.get("metadata").and_then(Value::as_object).unwrap_or(&empty);
        errors.extend(metadata::update(before, meta));
    }
    match part {
        Part::Main if resource.status => keep(old, new, "status"),
        Part::Status => {
            keep_all_but_status(resource, old, new);
            if let Some(row) = resource.builtin {
                (row.keep_status)(old, new, &context.now);
            }
        }
        Part::Approval => certificates::keep_all_but_conditions(old, new, &context.now),
        Part::Resize => resize::keep_all_but_resources(old, new),
        Part::EphemeralContainers => ephemeral::keep_all_but_ephemeral_containers(old, new),
        Part::Main | Part::Internal => {}
    }
    match resource.builtin {
        None => {
            schema::prune(resource, new);
            schema::default(resource, new);
        }
        Some(row) => {
            well_typed(row, new)?;
            drop_nulls(row, new);
            (row.default)(new);
            (row.keep)(old, new);
        }
    }
    errors.extend(metadata::validate(resource, new));
    errors.extend(validate(resource, Some(old), new));
    match (part, resource.builtin) {
        (Part::Main, Some(row)) => errors.extend((row.validate_update)(old, new)),
        (Part::Status, Some(row)) => errors.extend((row.validate_status)(old, new)),
        (Part::Approval, _) => errors.extend(certificates::validate_approval(old, new)),
        (Part::Resize, _) => errors.extend(resize::validate(old, new)),
        (Part::EphemeralContainers, _) => errors.extend(ephemeral::validate(old, new)),
        _ => {}
    }
    if !matches!(part, Part::Status | Part::Approval) {
        count_generation(resource, old, new);
    }
    let warnings = outcome(resource, new, errors)?;
    // Who writes a part of it has been told, or was somebody else.
    Ok(if part == Part::Main { warnings } else { Vec::new() })
}

/// Fields of a custom resource that its schema does not know: for `fieldValidation=Strict` and `Warn`. Those of built-in
/// kinds the API server knows, from the table that it reads protobuf by.
pub fn unknown_fields(resource: &Resource, object: &Value) -> Vec<String> {
    if resource.is_custom() {
        schema::prune(resource, &mut object.clone())
    } else {
        Vec::new()
    }
}

fn validate(resource: &Resource, old: Option<&Value>, object: &Value) -> Vec<FieldError> {
    match resource.builtin {
        None => schema::validate(resource, old, object),
        Some(row) => (row.validate)(object),
    }
}

/// Errors that are told: an answer is not many times as large as what was sent.
const ERRORS_LIMIT: usize = 1_000;

/// Kubernetes reports an error once, however many checks find it.
fn outcome(resource: &Resource, object: &Value, errors: Vec<FieldError>) -> Checked {
    let told = |error: &FieldError| (error.field.clone(), error.cause, error.message.clone());
    let mut seen = BTreeSet::new();
    let unique: Vec<FieldError> = errors
        .into_iter()
        .filter(|error| seen.insert(told(error)))
        .take(ERRORS_LIMIT)
        .collect();
    if unique.is_empty() {
        let told = |row: &Kind| [(row.warnings)(object), inert::warnings(row, object)].concat();
        Ok(resource.builtin.map(told).unwrap_or_default())
    } else {
        Err(unique)
    }
}

/// The parts every built-in kind shares must have their types, or nothing below can look at them.
fn well_typed(row: &Kind, object: &Value) -> Result<(), Vec<FieldError>> {
    let wrong = ["spec", "status"].into_iter().find(|key| {
        let value = object.get(*key);
        value.is_some_and(|v| !v.is_object() && !v.is_null())
    });
    match wrong {
        Some(key) => Err(vec![type_invalid(
            key,
            object[key].clone(),
            &format!("{key} of a {} must be an object", row.kind),
        )]),
        None => Ok(()),
    }
}

fn bounded(object: &Value) -> Result<(), Vec<FieldError>> {
    bounds::check(object).map_or(Ok(()), |error| Err(vec![error]))
}

fn no_metadata() -> FieldError {
    invalid("metadata", Value::Null, "must be an object")
}

/// A null is a field that is not there: Kubernetes' types drop it on reading, and clients with types of their own rely on
/// that. Of definitions it stays, where it may be somebody's default.
fn drop_nulls(row: &Kind, object: &mut Value) {
    if row.keeps_nulls {
        return;
    }
    for key in ["metadata", "spec", "status"] {
        if let Some(part) = object.get_mut(key) {
            without_nulls(part);
        }
    }
}

fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(without_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

fn remove(object: &mut Value, key: &str) {
    if let Some(object) = object.as_object_mut() {
        object.remove(key);
    }
}

/// Takes one top-level field over from the old object, also its absence.
fn keep(old: &Value, new: &mut Value, key: &str) {
    let Some(new) = new.as_object_mut() else { return };
    match old.get(key) {
        Some(value) => {
            new.insert(key.to_owned(), value.clone());
        }
        None => {
            new.remove(key);
        }
    }
}

/// A status write: everything but status stays. Of metadata, built-in kinds let through what their row says; custom resources nothing.
fn keep_all_but_status(resource: &Resource, old: &Value, new: &mut Value) {
    let mut result = old.clone();
    let (Some(object), Some(written)) = (result.as_object_mut(), new.as_object()) else {
        return;
    };
    match written.get("status") {
        Some(status) => {
            object.insert("status".to_owned(), status.clone());
        }
        None => {
            object.remove("status");
        }
    }
    if let Some(api_version) = written.get("apiVersion") {
        object.insert("apiVersion".to_owned(), api_version.clone());
    }
    let resource_version = crate::get(new, &["metadata", "resourceVersion"]).cloned();
    if let (Some(Value::Object(meta)), Some(written)) = (object.get_mut("metadata"), new.get("metadata")) {
        let keys: &[&str] = match resource.builtin.map(|row| row.status_changes) {
            Some(StatusChanges::Metadata) => &["annotations", "finalizers", "labels", "ownerReferences"],
            Some(StatusChanges::NoOwners) => &["annotations", "finalizers", "labels"],
            Some(StatusChanges::NoLabels) => &["annotations", "finalizers", "ownerReferences"],
            Some(StatusChanges::Nothing) | None => &[],
        };
        for key in keys.iter().copied() {
            match written.get(key) {
                Some(value) => meta.insert(key.to_owned(), value.clone()),
                None => meta.remove(key),
            };
        }
        // What the write was decided on is the API server's to check.
        match resource_version {
            Some(version) => meta.insert("resourceVersion".to_owned(), version),
            None => meta.remove("resourceVersion"),
        };
    }
    *new = result;
}

fn count_generation(resource: &Resource, old: &Value, new: &mut Value) {
    if !resource.counts() {
        return;
    }
    let counts = |key: &str| match key {
        "metadata" | "apiVersion" | "kind" => false,
        "status" => resource.is_custom() && !resource.status,
        _ => true,
    };
    let changed = {
        let fields = |object: &'_ Value| {
            object
                .as_object()
                .map(|o| o.keys().cloned().collect::<Vec<_>>())
                .unwrap_or_default()
        };
        let mut keys = fields(old).into_iter().chain(fields(new));
        keys.any(|key| counts(&key) && old.get(&key) != new.get(&key))
    };
    let leaving = |object: &Value| crate::get(object, &["metadata", "deletionTimestamp"]).is_some();
    let begins_to_leave = !leaving(old) && leaving(new);
    let Some(generation) = crate::get(old, &["metadata", "generation"]).and_then(Value::as_i64) else {
        return;
    };
    if let Some(meta) = metadata::of(new) {
        let next = generation + i64::from(changed || begins_to_leave);
        meta.insert("generation".into(), next.into());
    }
}

#[cfg(test)]
mod tests;
