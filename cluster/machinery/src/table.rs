//! `kubectl get` tables (`meta.k8s.io/v1` Table).

mod age;
mod cells;
mod jsonpath;
mod pod;
mod workload;

use serde_json::{Value, json};

use crate::kinds::Resource;

/// How one built-in kind is printed: its columns behind NAME, and what fills them. AGE is a column like any other here.
struct Layout {
    group: &'static str,
    kind: &'static str,
    /// Name, type (empty: string), priority (1: `-o wide` only).
    columns: &'static [(&'static str, &'static str, u8)],
    cells: fn(&Value, &str) -> Vec<Value>,
}

/// Column definitions of a kind: `[{"name","type","format","description","priority"}]`.
pub fn columns(resource: &Resource) -> Vec<Value> {
    if let Some(custom) = resource.columns.as_array() {
        let mut columns = vec![column(
            "Name",
            "string",
            "name",
            0,
            "Name must be unique within a namespace.",
        )];
        columns.extend(custom.iter().map(custom_column));
        return columns;
    }
    let mut columns = vec![column(
        "Name",
        "string",
        "name",
        0,
        "Name must be unique within a namespace.",
    )];
    match layout(resource) {
        Some(layout) => columns.extend(layout.columns.iter().map(|(name, kind, priority)| {
            let kind = if kind.is_empty() { "string" } else { kind };
            column(name, kind, "", *priority, name)
        })),
        None if resource.is_custom() => columns.push(column("Age", "date", "", 0, "Time since creation.")),
        None => columns.push(column("Age", "string", "", 0, "Time since creation.")),
    }
    columns
}

/// The cells of one object, in the order of [`columns`]. `now` is RFC 3339, for ages.
pub fn cells(resource: &Resource, object: &Value, now: &str) -> Vec<Value> {
    let name = crate::get(object, &["metadata", "name"])
        .cloned()
        .unwrap_or_else(|| json!(""));
    let mut cells = vec![name];
    if let Some(custom) = resource.columns.as_array() {
        cells.extend(custom.iter().map(|column| custom_cell(column, object, now)));
    } else if let Some(layout) = layout(resource) {
        cells.extend((layout.cells)(object, now));
    } else {
        cells.push(age::since_creation(object, now).into());
    }
    cells
}

fn layout(resource: &Resource) -> Option<&'static Layout> {
    let mut layouts = pod::LAYOUTS.iter().chain(workload::LAYOUTS).chain(cells::LAYOUTS);
    layouts.find(|layout| resource.is(layout.group, layout.kind))
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
