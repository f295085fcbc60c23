//! What a client is told of a rule that does not hold.

use serde_json::Value;

use crate::FieldError;
use crate::field::error;

/// What a rule says of the value at a path.
pub(super) fn failure(object: &Value, path: &str, reason: Option<&str>, message: &str) -> FieldError {
    let field = if path.is_empty() { "<nil>" } else { path }.to_owned();
    let kind = type_name(at(object, &field));
    match reason {
        Some("FieldValueRequired") => error(field, "FieldValueRequired", format!("Required value: {message}")),
        Some("FieldValueForbidden") => error(field, "FieldValueForbidden", format!("Forbidden: {message}")),
        Some("FieldValueDuplicate") => error(field, "FieldValueDuplicate", format!("Duplicate value: {kind:?}")),
        _ => error(
            field,
            "FieldValueInvalid",
            format!("Invalid value: {kind:?}: {message}"),
        ),
    }
}

/// The value at a path such as `spec.items[0].name`; the root for `<nil>`.
fn at<'a>(object: &'a Value, path: &str) -> &'a Value {
    let mut steps = path.split(['.', '[', ']']).filter(|s| !s.is_empty() && *s != "<nil>");
    steps
        .try_fold(object, |value, step| match value {
            Value::Array(items) => items.get(step.parse::<usize>().ok()?),
            other => other.get(step),
        })
        .unwrap_or(&Value::Null)
}

/// The schema's word for the type of a value.
pub(in crate::schema) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
