//! Field errors in Kubernetes' own words (k8s.io/apimachinery `field.Error`), and paths as it writes them.

use serde_json::Value;

use crate::FieldError;

/// `parent.name`, or `name` at the root.
pub(crate) fn child(parent: &str, name: &str) -> String {
    if parent.is_empty() {
        name.to_owned()
    } else {
        format!("{parent}.{name}")
    }
}

/// `parent[index]`; also for keys of maps.
#[allow(clippy::needless_pass_by_value)] // callers have numbers and keys alike
pub(crate) fn index(parent: &str, index: impl std::fmt::Display) -> String {
    format!("{parent}[{index}]")
}

/// The field must be there. `detail` may be empty.
pub(crate) fn required(field: impl Into<String>, detail: &str) -> FieldError {
    error(field, "FieldValueRequired", joined("Required value", detail))
}

/// The value is wrong in the way that `detail` says.
pub(crate) fn invalid(field: impl Into<String>, value: impl Into<Value>, detail: &str) -> FieldError {
    error(
        field,
        "FieldValueInvalid",
        joined(&format!("Invalid value: {}", shown(&value.into())), detail),
    )
}

/// The value has the wrong type.
pub(crate) fn type_invalid(field: impl Into<String>, value: impl Into<Value>, detail: &str) -> FieldError {
    error(
        field,
        "FieldValueTypeInvalid",
        joined(&format!("Invalid value: {}", shown(&value.into())), detail),
    )
}

/// The value is none of those that exist.
pub(crate) fn not_supported<S: AsRef<str>>(
    field: impl Into<String>,
    value: impl Into<Value>,
    supported: &[S],
) -> FieldError {
    let list: Vec<String> = supported.iter().map(|s| format!("{:?}", s.as_ref())).collect();
    let detail = if list.is_empty() {
        String::new()
    } else {
        format!("supported values: {}", list.join(", "))
    };
    error(
        field,
        "FieldValueNotSupported",
        joined(&format!("Unsupported value: {}", shown(&value.into())), &detail),
    )
}

/// The field may not have this value here.
pub(crate) fn forbidden(field: impl Into<String>, detail: &str) -> FieldError {
    error(field, "FieldValueForbidden", joined("Forbidden", detail))
}

/// The value stands there twice.
pub(crate) fn duplicate(field: impl Into<String>, value: impl Into<Value>) -> FieldError {
    error(
        field,
        "FieldValueDuplicate",
        format!("Duplicate value: {}", shown(&value.into())),
    )
}

/// The value names something that does not exist.
pub(crate) fn not_found(field: impl Into<String>, value: impl Into<Value>) -> FieldError {
    error(
        field,
        "FieldValueNotFound",
        format!("Not found: {}", shown(&value.into())),
    )
}

/// The text is longer than `limit` bytes.
pub(crate) fn too_long(field: impl Into<String>, limit: usize) -> FieldError {
    error(
        field,
        "FieldValueTooLong",
        format!("Too long: may not be more than {limit} bytes"),
    )
}

/// The list or map has more than `limit` items.
pub(crate) fn too_many(field: impl Into<String>, actual: usize, limit: usize) -> FieldError {
    error(
        field,
        "FieldValueTooMany",
        format!("Too many: {actual}: must have at most {limit} items"),
    )
}

/// An error with a cause of one's own.
pub(crate) fn error(field: impl Into<String>, cause: &'static str, message: String) -> FieldError {
    FieldError {
        field: field.into(),
        cause,
        message,
    }
}

fn joined(kind: &str, detail: &str) -> String {
    if detail.is_empty() {
        kind.to_owned()
    } else {
        format!("{kind}: {detail}")
    }
}

/// Kubernetes quotes strings, prints numbers bare and everything else as JSON.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "\"null\"".to_owned(),
        other => other.to_string(),
    }
}
