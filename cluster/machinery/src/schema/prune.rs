//! Structural pruning: what a schema does not name is not stored.

use serde_json::Value;

use super::node::{flag, is_resource, property};
use crate::field::{child, index};

/// Drops fields of an object that a schema does not know.
pub(crate) fn prune_by(schema: &Value, object: &mut Value) {
    self::object(object, schema, "", true, &mut Vec::new());
}

/// Drops unknown fields of `value` and notes their paths in `dropped`.
pub(super) fn object(value: &mut Value, schema: &Value, path: &str, root: bool, dropped: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            let keep_all = flag(schema, "x-kubernetes-preserve-unknown-fields")
                || schema.get("additionalProperties").and_then(Value::as_bool) == Some(true);
            let resource = is_resource(schema, root);
            fields.retain(|name, value| {
                if resource && matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
                    return true;
                }
                match property(schema, name) {
                    Some(schema) => object(value, schema, &child(path, name), false, dropped),
                    None if keep_all => {}
                    None => {
                        dropped.push(child(path, name));
                        return false;
                    }
                }
                true
            });
        }
        Value::Array(items) => {
            let Some(schema) = schema.get("items") else { return };
            for (i, item) in items.iter_mut().enumerate() {
                object(item, schema, &index(path, i), false, dropped);
            }
        }
        _ => {}
    }
}
