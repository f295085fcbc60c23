//! `kubectl get` tables (`meta.k8s.io/v1` Table).

pub(crate) mod access;
mod age;
pub(crate) mod cells;
pub(crate) mod certificates;
mod jsonpath;
pub(crate) mod node;
pub(crate) mod pod;
mod read;
pub(crate) mod storage;
pub(crate) mod workload;

use serde_json::{Value, json};

use crate::resource::{Resource, Table};

/// Events have their name in a wide column.
fn names_itself(table: Table) -> bool {
    table.columns.iter().any(|column| column.name == "Name")
}

/// Column definitions of a kind: `[{"name","type","format","description","priority"}]`.
pub fn columns(resource: &Resource) -> Vec<Value> {
    let name = || column("Name", "string", "name", 0, "Name must be unique within a namespace.");
    if let Some(custom) = resource.columns.as_array() {
        return std::iter::once(name())
            .chain(custom.iter().map(custom_column))
            .collect();
    }
    let Some(table) = own_table(resource) else {
        let kind = if resource.is_custom() { "date" } else { "string" };
        return vec![name(), column("Age", kind, "", 0, "Time since creation.")];
    };
    let own = table.columns.iter().map(|own| {
        let priority = u8::from(own.wide);
        column(own.name, own.kind, "", priority, own.name)
    });
    (!names_itself(table)).then(name).into_iter().chain(own).collect()
}

/// The cells of one object, in the order of [`columns`]. `now` is RFC 3339, for ages.
pub fn cells(resource: &Resource, object: &Value, now: &str) -> Vec<Value> {
    let name = crate::get(object, &["metadata", "name"])
        .cloned()
        .unwrap_or_else(|| json!(""));
    if let Some(custom) = resource.columns.as_array() {
        let cells = custom.iter().map(|column| custom_cell(column, object, now));
        return std::iter::once(name).chain(cells).collect();
    }
    match own_table(resource) {
        Some(table) if names_itself(table) => (table.cells)(object, now),
        Some(table) => std::iter::once(name).chain((table.cells)(object, now)).collect(),
        None => vec![name, age::since_creation(object, now).into()],
    }
}

fn own_table(resource: &Resource) -> Option<Table> {
    resource.builtin.and_then(|row| row.table)
}

fn column(name: &str, kind: &str, format: &str, priority: u8, description: &str) -> Value {
    json!({"name": name, "type": kind, "format": format, "description": description, "priority": priority})
}

fn custom_column(column: &Value) -> Value {
    let text = |key: &str| column.get(key).and_then(Value::as_str).unwrap_or_default();
    let priority = column.get("priority").and_then(Value::as_i64).unwrap_or_default();
    let description = match text("description") {
        "" => format!(
            "Custom resource definition column (in JSONPath format): {}",
            text("jsonPath")
        ),
        given => given.to_owned(),
    };
    json!({"name": text("name"), "type": text("type"), "format": text("format"), "description": description, "priority": priority})
}

fn custom_cell(column: &Value, object: &Value, now: &str) -> Value {
    let text = |key: &str| column.get(key).and_then(Value::as_str).unwrap_or_default();
    let found = jsonpath::find(object, text("jsonPath"));
    match (text("type"), found.as_slice()) {
        (_, []) => Value::Null,
        ("date", [first, ..]) => first
            .as_str()
            .map_or(Value::Null, |then| age::between(then, now).into()),
        ("string", [one]) => one.as_str().map_or_else(|| one.to_string(), str::to_owned).into(),
        ("string", many) => {
            let texts = many
                .iter()
                .map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned));
            texts.collect::<Vec<_>>().join(",").into()
        }
        (_, [first, ..]) => (*first).clone(),
    }
}

#[cfg(test)]
mod tests;
