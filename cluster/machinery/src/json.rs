//! Reading and editing objects: what is missing, and what has another type than it should, is left alone.

use serde_json::{Map, Value};

/// Replaces the status.
pub(crate) fn set_status(object: &mut Value, status: Value) {
    if let Some(object) = object.as_object_mut() {
        object.insert("status".to_owned(), status);
    }
}

/// Sets a field that is absent or null.
pub(crate) fn set(object: Option<&mut Map<String, Value>>, key: &str, value: impl FnOnce() -> Value) {
    if let Some(object) = object
        && object.get(key).is_none_or(Value::is_null)
    {
        object.insert(key.to_owned(), value());
    }
}

/// Sets a field that is absent, null or the empty string: Go's zero value of a string.
pub(crate) fn set_text(object: &mut Map<String, Value>, key: &str, value: &str) {
    if text(object.get(key)).is_empty() && object.get(key).is_none_or(|v| v.is_null() || v.is_string()) {
        object.insert(key.to_owned(), value.into());
    }
}

/// Sets a field that is absent, null or 0: Go's zero value of a number.
pub(crate) fn set_number(object: &mut Map<String, Value>, key: &str, value: i64) {
    if object.get(key).is_none_or(|v| v.is_null() || v.as_i64() == Some(0)) {
        object.insert(key.to_owned(), value.into());
    }
}

/// Runs `change` on the object at `key`, or on every object of the list there.
pub(crate) fn each_in(parent: Option<&mut Value>, key: &str, mut change: impl FnMut(&mut Map<String, Value>)) {
    match parent.and_then(|p| p.get_mut(key)) {
        Some(Value::Object(object)) => change(object),
        Some(Value::Array(items)) => items.iter_mut().filter_map(Value::as_object_mut).for_each(change),
        _ => {}
    }
}

/// The same for an object's field.
pub(crate) fn each(parent: &mut Map<String, Value>, key: &str, mut change: impl FnMut(&mut Map<String, Value>)) {
    match parent.get_mut(key) {
        Some(Value::Object(object)) => change(object),
        Some(Value::Array(items)) => items.iter_mut().filter_map(Value::as_object_mut).for_each(change),
        _ => {}
    }
}

/// A list, empty where there is none.
pub(crate) fn list<'a>(parent: Option<&'a Value>, key: &str) -> &'a [Value] {
    parent
        .and_then(|p| p.get(key))
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// A string, empty where there is none.
pub(crate) fn text(value: Option<&Value>) -> &str {
    value.and_then(Value::as_str).unwrap_or_default()
}
