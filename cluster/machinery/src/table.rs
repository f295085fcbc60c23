//! `kubectl get` tables (`meta.k8s.io/v1` Table).

mod age;
mod cells;
mod jsonpath;
mod node;
mod pod;
mod read;
mod storage;
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

impl Layout {
    /// Events have their name in a wide column.
    fn names_itself(&self) -> bool {
        self.columns.iter().any(|(name, ..)| *name == "Name")
    }
}

/// Column definitions of a kind: `[{"name","type","format","description","priority"}]`.
pub fn columns(resource: &Resource) -> Vec<Value> {
    let name = || column("Name", "string", "name", 0, "Name must be unique within a namespace.");
    if let Some(custom) = resource.columns.as_array() {
        return std::iter::once(name())
            .chain(custom.iter().map(custom_column))
            .collect();
    }
    let Some(layout) = layout(resource) else {
        let kind = if resource.is_custom() { "date" } else { "string" };
        return vec![name(), column("Age", kind, "", 0, "Time since creation.")];
    };
    let own = layout.columns.iter().map(|(name, kind, priority)| {
        let kind = if kind.is_empty() { "string" } else { kind };
        column(name, kind, "", *priority, name)
    });
    (!layout.names_itself()).then(name).into_iter().chain(own).collect()
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
    match layout(resource) {
        Some(layout) if layout.names_itself() => (layout.cells)(object, now),
        Some(layout) => std::iter::once(name).chain((layout.cells)(object, now)).collect(),
        None => vec![name, age::since_creation(object, now).into()],
    }
}

fn layout(resource: &Resource) -> Option<&'static Layout> {
    let mut layouts = pod::LAYOUTS
        .iter()
        .chain(workload::LAYOUTS)
        .chain(node::LAYOUTS)
        .chain(storage::LAYOUTS)
        .chain(cells::LAYOUTS);
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
