//! Fields of objects of whatever shape.

use serde_json::{Map, Value};

/// A JSON object.
pub(super) type Object = Map<String, Value>;

/// An object below a field, if it is one.
pub(super) fn child<'a>(object: &'a mut Object, field: &str) -> Option<&'a mut Object> {
    object.get_mut(field).and_then(Value::as_object_mut)
}

/// An object below a field; made where there is nothing. None if there is something else.
pub(super) fn made<'a>(object: &'a mut Object, field: &str) -> Option<&'a mut Object> {
    let value = object.entry(field).or_insert(Value::Null);
    if value.is_null() {
        *value = Value::Object(Object::new());
    }
    value.as_object_mut()
}

/// The value of an annotation or a label.
pub(super) fn text<'a>(object: &'a Object, map: &str, key: &str) -> Option<&'a str> {
    object.get("metadata")?.get(map)?.get(key)?.as_str()
}

/// Sets an annotation.
pub(super) fn annotate(object: &mut Object, key: &str, value: String) {
    if let Some(annotations) = made(object, "metadata").and_then(|metadata| made(metadata, "annotations")) {
        annotations.insert(key.into(), value.into());
    }
}

/// Takes an annotation away, and their map if it was the last.
pub(super) fn take_annotation(object: &mut Object, key: &str) {
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
