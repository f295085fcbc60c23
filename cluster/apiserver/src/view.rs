//! Between the stored form of an object and the version that a client speaks: keys in the store, and `apiVersion`.

use std::borrow::Cow;

use afloat_machinery::convert;
use afloat_machinery::kinds::Resource;
use afloat_store::Stamp;
use afloat_words::quoted::json_escaped;
use bytes::Bytes;
use serde_json::Value;

use crate::wire::status::Status;

/// Name of a group's part in store keys.
fn group_key(resource: &Resource) -> &str {
    if resource.storage_group.is_empty() {
        "core"
    } else {
        &resource.storage_group
    }
}

/// Prefix of all keys of the kinds of a group.
pub(crate) fn group_prefix(resource: &Resource) -> String {
    format!("/{}/", group_key(resource))
}

/// Prefix of all keys of a kind, or of those in one namespace.
pub(crate) fn prefix(resource: &Resource, namespace: Option<&str>) -> String {
    let (group, plural) = (group_prefix(resource), &resource.plural);
    match namespace {
        Some(namespace) if resource.namespaced => format!("{group}{plural}/{namespace}/"),
        _ => format!("{group}{plural}/"),
    }
}

/// Key of one object. The same at all versions.
pub(crate) fn key(resource: &Resource, namespace: Option<&str>, name: &str) -> String {
    format!("{}{name}", prefix(resource, namespace))
}

/// Key of a namespace.
pub(crate) fn namespace_key(name: &str) -> String {
    format!("/core/namespaces/{name}")
}

/// Whether bytes are served in another form. Those of custom resources with several versions are converted before
/// ([`Reader::converted`](crate::read::Reader::converted)).
pub(crate) fn differs(resource: &Resource) -> bool {
    convert::is_needed(resource)
}

/// Whether bytes of the store are in the version in which objects are stored now.
pub(crate) fn is_current(resource: &Resource, bytes: &[u8]) -> bool {
    let version =
        || Some(serde_json::from_slice::<Value>(bytes).ok()?["apiVersion"] == *resource.storage_api_version());
    resource.conversion.is_none() || version().unwrap_or(true)
}

/// Reads bytes as the served version.
pub(crate) fn parse(resource: &Resource, bytes: &[u8]) -> Result<Value, Status> {
    let mut object: Value = serde_json::from_slice(bytes).map_err(Status::internal)?;
    if differs(resource) {
        convert::from_storage(resource, &mut object);
    }
    Ok(object)
}

/// Stored bytes in the served version.
pub(crate) fn served(resource: &Resource, bytes: &Bytes) -> Result<Bytes, Status> {
    if differs(resource) {
        Ok(parse(resource, bytes)?.to_string().into())
    } else {
        Ok(bytes.clone())
    }
}

/// The stored form of an object.
pub(crate) fn to_stored(resource: &Resource, object: &mut Value) {
    convert::to_storage(resource, object);
}

/// A string in `metadata`, empty if absent.
pub(crate) fn meta<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

/// The object that `metadata` is; made if it is missing or not an object.
pub(crate) fn metadata(object: &mut Value) -> &mut serde_json::Map<String, Value> {
    child(object, "metadata")
}

/// A field that is an object; made if it is missing or something else.
pub(crate) fn child<'a>(object: &'a mut Value, field: &str) -> &'a mut serde_json::Map<String, Value> {
    if !object.is_object() {
        *object = Value::Object(serde_json::Map::new());
    }
    let slot = &mut object[field];
    if !slot.is_object() {
        *slot = Value::Object(serde_json::Map::new());
    }
    match slot {
        Value::Object(map) => map,
        _ => unreachable!("made an object just above"),
    }
}

/// `metadata.finalizers` as strings.
pub(crate) fn finalizers(object: &Value) -> Vec<Cow<'_, str>> {
    let list = object["metadata"]["finalizers"].as_array();
    list.into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(Cow::Borrowed)
        .collect()
}

/// Writes the revision into an object and serialises it.
pub(crate) fn stamp(mut object: Value) -> Stamp {
    Box::new(move |revision| {
        metadata(&mut object).insert("resourceVersion".into(), revision.to_string().into());
        // Who compares what it has written with what is stored by bytes, as controllers do with a ControllerRevision's data, finds it the same.
        Bytes::from(json_escaped(object.to_string()))
    })
}
