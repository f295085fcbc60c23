//! Defaults from the schema, also inside defaults and inside the elements of lists and maps.

use serde_json::{Map, Value};

use super::node::{flag, is_resource, values_schema};

/// Sets the defaults of a schema in an object.
pub(crate) fn default_by(schema: &Value, object: &mut Value) {
    self::object(object, schema, true);
}

/// Sets what is missing in `value` and has a default.
pub(super) fn object(value: &mut Value, schema: &Value, root: bool) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::Object(properties)) = schema.get("properties") {
                let resource = is_resource(schema, root);
                for (name, schema) in properties {
                    if !(resource && matches!(name.as_str(), "apiVersion" | "kind" | "metadata")) {
                        field(fields, name, schema);
                    }
                }
            }
            if let Some(schema) = values_schema(schema) {
                let names: Vec<String> = fields.keys().cloned().collect();
                names.iter().for_each(|name| field(fields, name, schema));
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                items.iter_mut().for_each(|item| object(item, schema, false));
            }
        }
        _ => {}
    }
}

fn field(fields: &mut Map<String, Value>, name: &str, schema: &Value) {
    if fields.get(name).is_some_and(Value::is_null) && !flag(schema, "nullable") {
        fields.remove(name);
    }
    if !fields.contains_key(name)
        && let Some(default) = schema.get("default")
    {
        fields.insert(name.to_owned(), default.clone());
    }
    if let Some(value) = fields.get_mut(name) {
        object(value, schema, false);
    }
}
