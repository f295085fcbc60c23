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
/// Memory that an object may take while it is worked on: many small values take much more of it than their text is long.
pub const MEMORY_LIMIT: usize = 24 << 20;

/// Bytes that a value takes besides its text, and a field's name besides its own.
const VALUE: usize = 40;
/// Bytes that an object with fields takes besides them: there is room for eleven.
const OBJECT: usize = 640;

/// How many times as much memory reading YAML takes.
const YAML: usize = 8;

/// Size of a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Size {
    /// Levels of objects and lists.
    pub(crate) depth: usize,
    /// Bytes of keys and strings, and some for everything else: about the length of its JSON.
    pub(crate) bytes: usize,
    /// Itself and all values within it.
    pub(crate) values: usize,
    /// Bytes of memory, about.
    pub(crate) memory: usize,
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
                size.memory += if fields.is_empty() { 0 } else { OBJECT };
                for (key, value) in fields {
                    size.bytes += key.len();
                    size.memory += VALUE;
                    waiting.push((value, depth + 1));
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    size.memory += size.bytes + size.values * VALUE;
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
    let Size {
        depth, bytes, memory, ..
    } = size(object);
    if depth > DEPTH_LIMIT {
        let detail = format!("must not be nested deeper than {DEPTH_LIMIT} levels");
        return Some(invalid("<root>", Value::Null, &detail));
    }
    if memory > MEMORY_LIMIT {
        let detail = format!("must not have so many values that they take more than {MEMORY_LIMIT} bytes of memory");
        return Some(invalid("<root>", Value::Null, &detail));
    }
    (bytes > BYTES_LIMIT).then(|| too_long("<root>", BYTES_LIMIT))
}

/// What reading a document will take, from its bytes alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// Bytes of memory, about, never much too few.
    pub memory: usize,
    /// What reading it takes meanwhile: about the same, but for YAML, whose reader keeps more of each value.
    pub reading: usize,
}

impl Estimate {
    /// Of JSON, and of YAML that looks like it. Of other YAML and of protobuf it is a guess: that there are at most so many values.
    pub fn of(content_type: &str, bytes: &[u8]) -> Self {
        let memory = match content_type {
            "application/vnd.kubernetes.protobuf" => bytes.len() * 16,
            _ => bytes.len() + text(bytes),
        };
        let factor = if content_type.contains("yaml") { YAML } else { 1 };
        // A few aliases stand for whatever there is room for.
        let aliases = factor > 1 && bytes.contains(&b'&') && bytes.contains(&b'*');
        let reading = if aliases {
            usize::MAX
        } else {
            memory.saturating_mul(factor)
        };
        Self { memory, reading }
    }

    /// Of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            memory: self.memory + other.memory,
            reading: self.reading.saturating_add(other.reading),
        }
    }

    /// Whether it is more than an object may take.
    pub fn is_too_much(self) -> bool {
        self.memory > MEMORY_LIMIT
    }
}

/// What stands between values, outside of strings.
fn text(bytes: &[u8]) -> usize {
    let (mut memory, mut quoted, mut escaped) = (0, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'{' => memory += OBJECT + VALUE,
            b'[' | b',' | b':' => memory += VALUE,
            _ => {}
        }
    }
    memory
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_estimate_is_about_what_reading_takes() {
        for value in [
            json!({"a": {"b": [1, 2, {"c": "d,{[:"}]}}),
            json!(vec![json!({"": 0}); 100]),
            json!(vec![0; 1000]),
            json!({"text": "\"{{{{\\".repeat(50)}),
        ] {
            let (estimate, size) = (
                Estimate::of("application/json", value.to_string().as_bytes()),
                size(&value),
            );
            let ratio = estimate.memory * 100 / size.memory;
            assert!((80..250).contains(&ratio), "{ratio}: {value}");
        }
    }

    #[test]
    fn many_small_objects_are_too_much() {
        let many = json!(vec![json!({"": 0}); 50_000]).to_string();
        assert!(many.len() < 500_000 && Estimate::of("application/json", many.as_bytes()).is_too_much());
        let text = json!("{".repeat(2 << 20)).to_string();
        assert!(!Estimate::of("application/json", text.as_bytes()).is_too_much());
    }
}
