//! One node of a schema.

use serde_json::Value;

/// Whether a flag such as `x-kubernetes-preserve-unknown-fields` is set.
pub(super) fn flag(schema: &Value, name: &str) -> bool {
    schema.get(name).and_then(Value::as_bool) == Some(true)
}

/// The schema of the values of a map: `additionalProperties` where it is a schema.
pub(super) fn values_schema(schema: &Value) -> Option<&Value> {
    schema.get("additionalProperties").filter(|s| s.is_object())
}

/// The schema of one field: declared, or that of the map's values.
pub(super) fn property<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
    schema
        .get("properties")
        .and_then(|p| p.get(name))
        .or_else(|| values_schema(schema))
}

/// Whether the object at this place is a whole Kubernetes object, whose apiVersion, kind and metadata are not the
/// schema's business.
pub(super) fn is_resource(schema: &Value, root: bool) -> bool {
    root || flag(schema, "x-kubernetes-embedded-resource")
}
