//! Conversion between the versions of a kind, on JSON: what a conversion does not know it leaves where it is, so that nothing is lost
//! that a schema keeps. Each kind is a row of [`KINDS`]: a function from v1alpha1 to v1beta1 and one back.
//!
//! The rules of a conversion, of which the tests hold each row to the first two:
//! * There and back again is the same object, from either side, but for what has two spellings: absent, and its default written out.
//! * Of `metadata` only labels and annotations may change; anything else the API server refuses (Kubernetes' page "Versions in
//!   CustomResourceDefinitions").
//! * What one version cannot say stands where OpenKruise puts it, and in an annotation of ours where OpenKruise loses it.

mod clone_set;
mod review;

use serde_json::{Map, Value};

use crate::names::GROUP;

pub use review::{REVIEW_VERSION, review};

/// A JSON object.
type Object = Map<String, Value>;

/// How a kind is converted. Both functions may rely on nothing: an object may be of any shape.
struct Kind {
    kind: &'static str,
    /// As in the name of the CRD.
    plural: &'static str,
    to_v1beta1: fn(&mut Object),
    to_v1alpha1: fn(&mut Object),
}

/// Kinds with two versions.
const KINDS: &[Kind] = &[Kind {
    kind: "CloneSet",
    plural: "clonesets",
    to_v1beta1: clone_set::to_v1beta1,
    to_v1alpha1: clone_set::to_v1alpha1,
}];

/// Names of the CRDs whose kinds are converted.
pub fn definitions() -> impl Iterator<Item = String> {
    KINDS.iter().map(|kind| format!("{}.{GROUP}", kind.plural))
}

/// Converts an object to an API version of its kind. Objects that have it already stay as they are.
///
/// # Errors
/// Says what of the object cannot be converted.
pub fn convert(object: &mut Value, wanted: &str) -> Result<(), String> {
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (kind, from) = (text("kind"), text("apiVersion"));
    let Some(object) = object.as_object_mut() else {
        return Err("an object is expected".into());
    };
    if from == wanted {
        return Ok(());
    }
    let row = KINDS.iter().find(|row| row.kind == kind);
    let row = row.ok_or_else(|| format!("kind {kind:?} is not converted here"))?;
    let version = |text: &str| {
        text.strip_prefix(GROUP)
            .and_then(|rest| rest.strip_prefix('/'))
            .map(str::to_owned)
    };
    match (version(&from).as_deref(), version(wanted).as_deref()) {
        (Some("v1alpha1"), Some("v1beta1")) => (row.to_v1beta1)(object),
        (Some("v1beta1"), Some("v1alpha1")) => (row.to_v1alpha1)(object),
        _ => return Err(format!("{kind} is not converted from {from:?} to {wanted:?}")),
    }
    object.insert("apiVersion".into(), wanted.into());
    Ok(())
}

/// An object below a field, if it is one.
fn child<'a>(object: &'a mut Object, field: &str) -> Option<&'a mut Object> {
    object.get_mut(field).and_then(Value::as_object_mut)
}

/// An object below a field; made where there is nothing. None if there is something else.
fn made<'a>(object: &'a mut Object, field: &str) -> Option<&'a mut Object> {
    let value = object.entry(field).or_insert(Value::Null);
    if value.is_null() {
        *value = Value::Object(Object::new());
    }
    value.as_object_mut()
}

/// The value of an annotation or a label.
fn text<'a>(object: &'a Object, map: &str, key: &str) -> Option<&'a str> {
    object.get("metadata")?.get(map)?.get(key)?.as_str()
}

/// Sets an annotation.
fn annotate(object: &mut Object, key: &str, value: String) {
    if let Some(annotations) = made(object, "metadata").and_then(|metadata| made(metadata, "annotations")) {
        annotations.insert(key.into(), value.into());
    }
}

/// Takes an annotation away, and their map if it was the last.
fn take_annotation(object: &mut Object, key: &str) {
    let Some(metadata) = child(object, "metadata") else {
        return;
    };
    let Some(annotations) = child(metadata, "annotations") else {
        return;
    };
    annotations.remove(key);
    if annotations.is_empty() {
        metadata.remove("annotations");
    }
}

#[cfg(test)]
mod tests;
