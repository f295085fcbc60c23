//! Structural schemas of custom resources: prune, default, validate, CEL rules. Same order as Kubernetes has it.
//!
//! Limits: CEL rules are not type-checked when a CRD is registered and their cost is not estimated then (it is limited when they are
//! evaluated), and a single underscore in a field's name written twice (`self.my__field`).

mod default;
mod format;
mod node;
mod prune;
mod rules;
mod validate;

pub(crate) use default::default_by;
use kube_cel::RootContext;
pub(crate) use prune::prune_by;
pub use rules::Rules;
use serde_json::Value;

use crate::FieldError;
use crate::resource::Resource;

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
        let root = RootContext {
            api_version: resource.api_version(),
            api_group: resource.group.clone(),
            kind: resource.kind.clone(),
        };
        errors = rules.check(&root, old, object);
    }
    errors
}

#[cfg(test)]
mod tests;
