//! Structural schemas of custom resources: prune, default, validate, CEL rules. Same order as Kubernetes has it.
//!
//! Limits: CEL rules are not type-checked when a CRD is registered and have no cost budget, and kube-cel 0.8 wants a
//! single underscore in a field's name written twice (`self.my__field`).

mod default;
mod format;
mod prune;
mod rules;
mod validate;

use serde_json::Value;

pub use rules::Rules;

use crate::FieldError;
use crate::kinds::Resource;

/// Drops fields that the schema does not know; their paths come back in the order of the object's keys.
pub(crate) fn prune(resource: &Resource, object: &mut Value) -> Vec<String> {
    let mut dropped = Vec::new();
    if let Some(schema) = &resource.schema {
        prune::object(object, schema, "", true, &mut dropped);
    }
    dropped
}

/// Sets defaults, and takes away nulls that the schema does not allow.
pub(crate) fn default(resource: &Resource, object: &mut Value) {
    if let Some(schema) = &resource.schema {
        default::object(object, schema, true);
    }
}

/// Everything that the schema and its rules find wrong. What has not changed since `old` is not judged again
/// (Kubernetes calls that ratcheting), except by CEL rules.
pub(crate) fn validate(resource: &Resource, old: Option<&Value>, object: &Value) -> Vec<FieldError> {
    let Some(schema) = &resource.schema else {
        return Vec::new();
    };
    let mut errors = Vec::new();
    validate::Validation {
        rules: resource.rules.as_ref(),
        errors: &mut errors,
    }
    .root(object, old, schema);
    if errors.is_empty()
        && let Some(rules) = &resource.rules
    {
        errors = rules.check(resource, old, object);
    }
    errors
}

/// Whether a flag such as `x-kubernetes-preserve-unknown-fields` is set.
fn flag(schema: &Value, name: &str) -> bool {
    schema.get(name).and_then(Value::as_bool) == Some(true)
}

/// The schema of the values of a map: `additionalProperties` where it is a schema.
fn values_schema(schema: &Value) -> Option<&Value> {
    schema.get("additionalProperties").filter(|s| s.is_object())
}

/// The schema of one field: declared, or that of the map's values.
fn property<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
    schema
        .get("properties")
        .and_then(|p| p.get(name))
        .or_else(|| values_schema(schema))
}

/// Whether the object at this place is a whole Kubernetes object, whose apiVersion, kind and metadata are not the
/// schema's business.
fn is_resource(schema: &Value, root: bool) -> bool {
    root || flag(schema, "x-kubernetes-embedded-resource")
}

#[cfg(test)]
mod tests;
