//! How big and how deep an object may be: what is stored must be readable again, by everybody, whatever a client sends.

use serde_json::Value;

use crate::FieldError;
use crate::field::{invalid, too_long};

/// Deepest nesting of an object. Readers of JSON give up at 128 levels, and lists and events put an object some deeper.
pub(crate) const DEPTH_LIMIT: usize = 100;
/// Levels at which readers of JSON give up.
const READABLE_DEPTH: usize = 128;
/// Largest object, about: as much as a request may hold.
pub(crate) const BYTES_LIMIT: usize = 3 << 20;

/// Size of a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Size {
    /// Levels of objects and lists.
    pub(crate) depth: usize,
    /// Bytes of keys and strings, and some for everything else: about the length of its JSON.
    pub(crate) bytes: usize,
    /// Itself and all values within it.
    pub(crate) values: usize,
}

/// Measures a value, without recursion.
pub(crate) fn size(value: &Value) -> Size {
    let mut size = Size::default();
    let mut waiting = vec![(value, 1)];
    while let Some((value, depth)) = waiting.pop() {
        size.bytes += 4;
        size.values += 1;
        match value {
            Value::String(text) => size.bytes += text.len(),
            Value::Array(items) => {
                size.depth = size.depth.max(depth);
                waiting.extend(items.iter().map(|item| (item, depth + 1)));
            }
            Value::Object(fields) => {
                size.depth = size.depth.max(depth);
                for (key, value) in fields {
                    size.bytes += key.len();
                    waiting.push((value, depth + 1));
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    size
}

/// Whether a value that was just read nests deeper than readers of JSON allow. They count for themselves, but not through a text
/// inside an object that serde_json reads as JSON because of its key (`RawValue`, its feature `raw_value`): whoever reads a value
/// that others wrote asks this first, before anything walks over it by recursion.
pub fn too_deep(value: &Value) -> bool {
    size(value).depth > READABLE_DEPTH
}

/// What is wrong with the size of an object that shall be stored.
pub(crate) fn check(object: &Value) -> Option<FieldError> {
    let Size { depth, bytes, .. } = size(object);
    if depth > DEPTH_LIMIT {
        let detail = format!("must not be nested deeper than {DEPTH_LIMIT} levels");
        return Some(invalid("<root>", Value::Null, &detail));
    }
    (bytes > BYTES_LIMIT).then(|| too_long("<root>", BYTES_LIMIT))
}
