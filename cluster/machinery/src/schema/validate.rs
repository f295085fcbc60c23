//! Validation against a schema, with the texts of Kubernetes' validator (kube-openapi).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::format;
use super::node::{flag, is_resource, property};
use super::rules::{Rules, type_name};
use crate::FieldError;
use crate::field::{
    child, duplicate, error, index, invalid, not_supported, required, too_long, too_many, type_invalid,
};

/// One pass over an object.
pub(super) struct Validation<'a> {
    pub(super) rules: Option<&'a Rules>,
    pub(super) errors: &'a mut Vec<FieldError>,
}

impl Validation<'_> {
    /// Checks a whole object.
    pub(super) fn root(&mut self, object: &Value, old: Option<&Value>, schema: &Value) {
        self.value(object, old, schema, "", true);
    }

    fn value(&mut self, value: &Value, old: Option<&Value>, schema: &Value, path: &str, root: bool) {
        if old == Some(value) {
            return;
        }
        if value.is_null() && flag(schema, "nullable") {
            return;
        }
        if !self.has_type(value, schema, path) {
            return;
        }
        self.enumeration(value, schema, path);
        if let Some(format) = schema.get("format").and_then(Value::as_str)
            && !format::fits(format, value)
        {
            let detail = format!("{path} in body must be of type {format}: {value}");
            self.errors.push(invalid(path, value.clone(), &detail));
        }
        match value {
            Value::String(text) => self.string(text, schema, path),
            Value::Number(number) => self.number(number.as_f64().unwrap_or_default(), value, schema, path),
            Value::Array(items) => self.array(items, old.and_then(Value::as_array), schema, path),
            Value::Object(fields) => self.object(fields, old, schema, path, root),
            Value::Bool(_) | Value::Null => {}
        }
        self.combinations(value, schema, path, root);
    }

    fn has_type(&mut self, value: &Value, schema: &Value, path: &str) -> bool {
        let fits = |wanted: &str| match (wanted, value) {
            ("integer", Value::Number(n)) => n.as_f64().is_some_and(|f| f.fract() == 0.0),
            ("number", Value::Number(_)) => true,
            (wanted, value) => wanted == type_name(value),
        };
        let wanted: Vec<&str> = if flag(schema, "x-kubernetes-int-or-string") {
            vec!["integer", "string"]
        } else {
            schema.get("type").and_then(Value::as_str).into_iter().collect()
        };
        if wanted.is_empty() || wanted.iter().any(|w| fits(w)) {
            return true;
        }
        let actual = type_name(value);
        let detail = format!("{path} in body must be of type {}: {actual:?}", wanted.join(","));
        self.errors.push(type_invalid(path, actual, &detail));
        false
    }

    fn enumeration(&mut self, value: &Value, schema: &Value, path: &str) {
        if let Some(Value::Array(allowed)) = schema.get("enum")
            && !allowed.contains(value)
        {
            let names: Vec<String> = allowed
                .iter()
                .map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned))
                .collect();
            self.errors.push(not_supported(path, value.clone(), &names));
        }
    }

    fn string(&mut self, text: &str, schema: &Value, path: &str) {
        let length = text.chars().count();
        if limit(schema, "maxLength").is_some_and(|max| length > max) {
            self.errors
                .push(too_long(path, limit(schema, "maxLength").unwrap_or_default()));
        }
        if let Some(min) = limit(schema, "minLength").filter(|min| length < *min) {
            self.errors.push(invalid(
                path,
                text,
                &format!("{path} in body should be at least {min} chars long"),
            ));
        }
        if let Some(pattern) = schema.get("pattern").and_then(Value::as_str)
            && self.rules.is_some()
            && !Rules::matches(pattern, text)
        {
            self.errors
                .push(invalid(path, text, &format!("{path} in body should match '{pattern}'")));
        }
    }

    fn number(&mut self, number: f64, value: &Value, schema: &Value, path: &str) {
        let bound = |key: &str| schema.get(key).and_then(|b| Some((b.as_f64()?, b)));
        let mut complain = |detail: String| {
            self.errors.push(invalid(
                path,
                value.clone(),
                &format!("{path} in body should be {detail}"),
            ));
        };
        if let Some((min, shown)) = bound("minimum") {
            match flag(schema, "exclusiveMinimum") {
                true if number <= min => complain(format!("greater than {shown}")),
                false if number < min => complain(format!("greater than or equal to {shown}")),
                _ => {}
            }
        }
        if let Some((max, shown)) = bound("maximum") {
            match flag(schema, "exclusiveMaximum") {
                true if number >= max => complain(format!("less than {shown}")),
                false if number > max => complain(format!("less than or equal to {shown}")),
                _ => {}
            }
        }
        if let Some((factor, shown)) = bound("multipleOf")
            && factor > 0.0
            && (number / factor).fract() != 0.0
        {
            complain(format!("a multiple of {shown}"));
        }
    }

    fn array(&mut self, items: &[Value], old: Option<&Vec<Value>>, schema: &Value, path: &str) {
        if let Some(max) = limit(schema, "maxItems").filter(|max| items.len() > *max) {
            self.errors.push(too_many(path, items.len(), max));
        }
        if let Some(min) = limit(schema, "minItems").filter(|min| items.len() < *min) {
            let detail = format!("{path} in body should have at least {min} items");
            self.errors.push(invalid(path, Value::Array(items.to_vec()), &detail));
        }
        let keys = self.unique(items, schema, path);
        let Some(schema) = schema.get("items") else { return };
        // Only elements of a list that is a map can be told from another and so compared with what they were.
        let mut known: BTreeMap<String, &Value> = BTreeMap::new();
        if let Some(keys) = &keys {
            for other in old.into_iter().flatten() {
                known.entry(identity(other, keys).to_string()).or_insert(other);
            }
        }
        for (i, item) in items.iter().enumerate() {
            let before = keys.as_ref().filter(|_| !known.is_empty());
            let before = before.and_then(|keys| known.get(&identity(item, keys).to_string()).copied());
            self.value(item, before, schema, &index(path, i), false);
        }
    }

    /// Checks `x-kubernetes-list-type`; gives the keys of a list that is a map.
    fn unique<'s>(&mut self, items: &[Value], schema: &'s Value, path: &str) -> Option<Vec<&'s str>> {
        let kind = schema.get("x-kubernetes-list-type").and_then(Value::as_str);
        let keys: Option<Vec<&str>> = match kind {
            Some("map") => {
                let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
                Some(keys.into_iter().flatten().filter_map(Value::as_str).collect())
            }
            Some("set") => None,
            _ if flag(schema, "uniqueItems") => None,
            _ => return None,
        };
        let mut seen = BTreeSet::new();
        for (i, item) in items.iter().enumerate() {
            let id = keys.as_ref().map_or_else(|| item.clone(), |keys| identity(item, keys));
            if !seen.insert(id.to_string()) {
                self.errors.push(duplicate(index(path, i), id));
            }
        }
        keys
    }

    fn object(&mut self, fields: &Map<String, Value>, old: Option<&Value>, schema: &Value, path: &str, root: bool) {
        if let Some(Value::Array(names)) = schema.get("required") {
            for name in names
                .iter()
                .filter_map(Value::as_str)
                .filter(|name| !fields.contains_key(*name))
            {
                self.errors.push(required(child(path, name), ""));
            }
        }
        if let Some(max) = limit(schema, "maxProperties").filter(|max| fields.len() > *max) {
            self.errors.push(too_many(path, fields.len(), max));
        }
        if let Some(min) = limit(schema, "minProperties").filter(|min| fields.len() < *min) {
            let detail = format!("{path} in body should have at least {min} properties");
            self.errors.push(invalid(path, Value::Object(fields.clone()), &detail));
        }
        let resource = is_resource(schema, root);
        if resource && !root {
            self.embedded(fields, path);
        }
        for (name, value) in fields {
            if resource && name == "metadata" {
                self.names_in_metadata(value, schema, path);
            } else if let Some(schema) = property(schema, name) {
                let before = old.and_then(|old| old.get(name));
                self.value(value, before, schema, &child(path, name), false);
            }
        }
    }

    /// An embedded object has to say what it is.
    fn embedded(&mut self, fields: &Map<String, Value>, path: &str) {
        for name in ["apiVersion", "kind"] {
            match fields.get(name).and_then(Value::as_str) {
                None | Some("") => self.errors.push(required(child(path, name), "must not be empty")),
                Some(_) => {}
            }
        }
    }

    /// A schema may restrict `metadata.name` and `metadata.generateName` only.
    fn names_in_metadata(&mut self, metadata: &Value, schema: &Value, path: &str) {
        let Some(schema) = crate::get(schema, &["properties", "metadata", "properties"]) else {
            return;
        };
        for name in ["name", "generateName"] {
            if let (Some(value), Some(schema)) = (metadata.get(name), schema.get(name)) {
                self.value(value, None, schema, &child(&child(path, "metadata"), name), false);
            }
        }
    }

    fn combinations(&mut self, value: &Value, schema: &Value, path: &str, root: bool) {
        let rules = self.rules;
        let passes = |schema: &Value| {
            let mut errors = Vec::new();
            Validation {
                rules,
                errors: &mut errors,
            }
            .value(value, None, schema, path, root);
            errors.is_empty()
        };
        let list = |key: &str| schema.get(key).and_then(Value::as_array);
        let shown = if path.is_empty() {
            "\"\"".to_owned()
        } else {
            format!("{path:?}")
        };
        let mut complain = |detail: &str| {
            let message = format!("Invalid value: \"\": {shown} must {detail}");
            self.errors.push(error(path, "FieldValueInvalid", message));
        };
        if list("anyOf").is_some_and(|schemas| !schemas.iter().any(passes)) {
            complain("validate at least one schema (anyOf)");
        }
        if list("oneOf").is_some_and(|schemas| schemas.iter().filter(|s| passes(s)).count() != 1) {
            complain("validate one and only one schema (oneOf)");
        }
        if schema.get("not").is_some_and(passes) {
            complain("not validate the schema (not)");
        }
        for schema in list("allOf").into_iter().flatten() {
            self.value(value, None, schema, path, root);
        }
    }
}

fn limit(schema: &Value, key: &str) -> Option<usize> {
    schema
        .get(key)
        .and_then(Value::as_u64)
        .and_then(|n| usize::try_from(n).ok())
}

/// What tells an element of a list that is a map from the others.
fn identity(item: &Value, keys: &[&str]) -> Value {
    keys.iter()
        .filter_map(|key| Some(((*key).to_owned(), item.get(*key)?.clone())))
        .collect::<Map<_, _>>()
        .into()
}
