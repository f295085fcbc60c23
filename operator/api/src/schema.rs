//! Pieces of OpenAPI schema that the CRDs are put together from. Bounds (maxLength, maxProperties, maxItems) are there
//! because Kubernetes refuses validation rules whose cost it cannot bound.

mod template;

use serde_json::{Value, json};

pub(crate) use template::pod_template;

/// A string.
pub(crate) fn string() -> Value {
    json!({"type": "string"})
}

/// A schema whose value, where it is absent, is this one.
pub(crate) fn or(mut schema: Value, default: Value) -> Value {
    schema["default"] = default;
    schema
}

/// A string out of a list; the API server's message names the field and the list.
pub(crate) fn one_of(words: &[&str]) -> Value {
    json!({"type": "string", "enum": words})
}

/// A 32-bit integer with an optional minimum.
pub(crate) fn int32(minimum: Option<i64>) -> Value {
    let mut schema = json!({"type": "integer", "format": "int32"});
    if let Some(least) = minimum {
        schema["minimum"] = json!(least);
    }
    schema
}

/// An integer.
pub(crate) fn integer() -> Value {
    json!({"type": "integer"})
}

/// A 64-bit integer.
pub(crate) fn int64() -> Value {
    json!({"type": "integer", "format": "int64"})
}

/// A flag.
pub(crate) fn boolean() -> Value {
    json!({"type": "boolean"})
}

/// An RFC 3339 time.
pub(crate) fn time() -> Value {
    json!({"type": "string", "format": "date-time"})
}

/// A non-negative integer or a percentage. Plain numbers as text are refused: they are a frequent mistake that would
/// otherwise be read as something else.
pub(crate) fn int_or_percent() -> Value {
    json!({
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        "x-kubernetes-int-or-string": true,
        "minimum": 0,
        "maxLength": 16,
        "pattern": "^[0-9]+%$",
    })
}

/// An object with known properties.
pub(crate) fn object(properties: Value, required: &[&str]) -> Value {
    let mut schema = json!({"type": "object"});
    schema["properties"] = properties;
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

/// A list.
pub(crate) fn list(items: Value) -> Value {
    let mut schema = json!({"type": "array"});
    schema["items"] = items;
    schema
}

/// A map of labels or annotations.
pub(crate) fn labels() -> Value {
    json!({"type": "object", "additionalProperties": {"type": "string"}})
}

/// Anything at all.
pub(crate) fn anything() -> Value {
    json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

/// A label selector.
pub(crate) fn label_selector() -> Value {
    json!({
        "type": "object",
        "x-kubernetes-map-type": "atomic",
        "properties": {
            "matchLabels": {
                "type": "object", "maxProperties": 32,
                "additionalProperties": {"type": "string", "maxLength": 63},
            },
            "matchExpressions": {
                "type": "array", "maxItems": 16, "x-kubernetes-list-type": "atomic",
                "items": {
                    "type": "object", "required": ["key", "operator"],
                    "properties": {
                        "key": {"type": "string", "maxLength": 317},
                        "operator": {"type": "string", "maxLength": 16, "enum": ["In", "NotIn", "Exists", "DoesNotExist"]},
                        "values": {
                            "type": "array", "maxItems": 32, "x-kubernetes-list-type": "atomic",
                            "items": {"type": "string", "maxLength": 63},
                        },
                    },
                },
            },
        },
    })
}
