//! Which fields the built-in kinds have: one table, from which protobuf bodies are read, unknown fields are found and the
//! OpenAPI schemas of built-in kinds are made.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Map, Value, json};

static MESSAGES: LazyLock<BTreeMap<&'static str, Message>> = LazyLock::new(|| parse_table(include_str!("fields.txt")));

/// What is known of a message.
pub(crate) enum Message {
    /// Its fields by number.
    Fields(BTreeMap<u64, Field>),
    /// It stands for its one repeated field of texts.
    List,
}

/// A field of a message.
#[derive(Clone, Copy)]
pub(crate) struct Field {
    /// Empty: its fields belong to the message around it.
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) shape: Shape,
    /// Whether a zero is a value.
    pub(crate) optional: bool,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Shape {
    One,
    Repeated,
    /// By text.
    Map,
}

#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Text,
    Integer,
    Truth,
    Bytes,
    Float,
    Time {
        micros: bool,
    },
    Duration,
    Quantity,
    IntOrString,
    /// Any JSON.
    Raw,
    Message(&'static str),
}

fn parse_table(text: &'static str) -> BTreeMap<&'static str, Message> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| {
            let (name, fields) = line.split_once(' ')?;
            let message = match fields.trim() {
                "=" => Message::List,
                fields => Message::Fields(fields.split_whitespace().filter_map(parse_field).collect()),
            };
            Some((name, message))
        })
        .collect()
}

fn parse_field(text: &'static str) -> Option<(u64, Field)> {
    let (number, rest) = text.split_once(':')?;
    let (name, kind) = rest.split_once(':')?;
    let (kind, optional) = kind.strip_suffix('?').map_or((kind, false), |kind| (kind, true));
    let (kind, shape) = match (kind.strip_prefix('*'), kind.strip_prefix('%')) {
        (Some(kind), _) => (kind, Shape::Repeated),
        (_, Some(kind)) => (kind, Shape::Map),
        _ => (kind, Shape::One),
    };
    let kind = match kind {
        "s" => Kind::Text,
        "i" => Kind::Integer,
        "b" => Kind::Truth,
        "y" => Kind::Bytes,
        "d" => Kind::Float,
        "@time" => Kind::Time { micros: false },
        "@micro" => Kind::Time { micros: true },
        "@duration" => Kind::Duration,
        "@quantity" => Kind::Quantity,
        "@intstr" => Kind::IntOrString,
        "@raw" => Kind::Raw,
        message => Kind::Message(message),
    };
    Some((
        number.parse().ok()?,
        Field {
            name,
            kind,
            shape,
            optional,
        },
    ))
}

/// A message by its name in the table.
pub(crate) fn message(name: &str) -> Option<&'static Message> {
    MESSAGES.get(name)
}

/// The name in the table of a kind as objects name it: `apps/v1`, `Deployment` is `apps.v1.Deployment`.
pub(crate) fn message_name(api_version: &str, kind: &str) -> Option<&'static str> {
    let (group, version) = api_version.split_once('/').unwrap_or(("core", api_version));
    let group = group.split('.').next().unwrap_or_default();
    MESSAGES
        .get_key_value(format!("{group}.{version}.{kind}").as_str())
        .map(|(name, _)| *name)
}

/// Fields by the names that JSON has for them, those of inlined messages included.
fn by_name(message: &'static Message) -> BTreeMap<&'static str, &'static Field> {
    let Message::Fields(fields) = message else {
        return BTreeMap::new();
    };
    let mut named = BTreeMap::new();
    for field in fields.values() {
        match field.kind {
            Kind::Message(inner) if field.name.is_empty() => {
                named.extend(MESSAGES.get(inner).map(by_name).unwrap_or_default());
            }
            _ => drop(named.insert(field.name, field)),
        }
    }
    named
}

/// Paths of the fields in an object of a built-in kind that the kind does not have. A kind that is not in the table has
/// none.
pub(crate) fn unknown(api_version: &str, kind: &str, object: &Value) -> Vec<String> {
    let mut found = Vec::new();
    if let (Some(name), Some(map)) = (message_name(api_version, kind), object.as_object()) {
        let own = map
            .iter()
            .filter(|(key, _)| !matches!(key.as_str(), "apiVersion" | "kind"));
        look(name, own, "", &mut found);
    }
    found
}

fn look<'a>(name: &str, entries: impl Iterator<Item = (&'a String, &'a Value)>, path: &str, found: &mut Vec<String>) {
    let Some(message) = MESSAGES.get(name) else { return };
    let known = by_name(message);
    for (key, value) in entries {
        let path = if path.is_empty() {
            key.clone()
        } else {
            format!("{path}.{key}")
        };
        let Some(field) = known.get(key.as_str()) else {
            // Ours drops it unread, like the original, which however does not call it unknown. A claim's template is an
            // object of a kind of its own, which protobuf does not show.
            let names_kind = name == "core.v1.PersistentVolumeClaim" && matches!(key.as_str(), "apiVersion" | "kind");
            if path != "metadata.managedFields" && !names_kind {
                found.push(path);
            }
            continue;
        };
        let Kind::Message(inner) = field.kind else { continue };
        match (field.shape, value) {
            (Shape::One, Value::Object(map)) => look(inner, map.iter(), &path, found),
            (Shape::Map, Value::Object(map)) => {
                for (key, value) in map.iter().filter_map(|(k, v)| Some((k, v.as_object()?))) {
                    look(inner, value.iter(), &format!("{path}.{key}"), found);
                }
            }
            (Shape::Repeated, Value::Array(list)) => {
                for (n, value) in list.iter().enumerate().filter_map(|(n, v)| Some((n, v.as_object()?))) {
                    look(inner, value.iter(), &format!("{path}[{n}]"), found);
                }
            }
            _ => {}
        }
    }
}

/// Name of a message's schema in OpenAPI documents.
pub(crate) fn schema_name(message: &str) -> String {
    if message.starts_with("meta.") {
        format!("io.k8s.apimachinery.pkg.apis.{message}")
    } else {
        format!("io.k8s.api.{message}")
    }
}

/// Adds the schemas of a message and of all that it contains.
pub(crate) fn add_schemas(name: &'static str, schemas: &mut Map<String, Value>) {
    let own = schema_name(name);
    let Some(message) = MESSAGES.get(name).filter(|_| !schemas.contains_key(&own)) else {
        return;
    };
    if matches!(message, Message::List) {
        schemas.insert(own, json!({"type": "array", "items": {"type": "string"}}));
        return;
    }
    let named = by_name(message);
    let properties: Map<String, Value> = named
        .iter()
        .map(|(name, field)| ((*name).to_owned(), property(field)))
        .collect();
    schemas.insert(own, json!({"type": "object", "properties": properties}));
    for field in named.values() {
        if let Kind::Message(inner) = field.kind {
            add_schemas(inner, schemas);
        }
    }
}

fn property(field: &Field) -> Value {
    let one = match field.kind {
        Kind::Text | Kind::Duration | Kind::Quantity => json!({"type": "string"}),
        Kind::Integer => json!({"type": "integer"}),
        Kind::Truth => json!({"type": "boolean"}),
        Kind::Bytes => json!({"type": "string", "format": "byte"}),
        Kind::Float => json!({"type": "number"}),
        Kind::Time { .. } => json!({"type": "string", "format": "date-time"}),
        Kind::IntOrString => json!({"type": "string", "format": "int-or-string"}),
        Kind::Raw => json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}),
        Kind::Message(inner) => {
            let reference = json!({"$ref": format!("#/components/schemas/{}", schema_name(inner))});
            json!({"allOf": [reference]})
        }
    };
    match field.shape {
        Shape::One => one,
        Shape::Repeated => json!({"type": "array", "items": one}),
        Shape::Map => json!({"type": "object", "additionalProperties": one}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole() {
        for (name, known) in MESSAGES.iter() {
            let Message::Fields(fields) = known else { continue };
            for field in fields.values() {
                if let Kind::Message(inner) = field.kind {
                    assert!(MESSAGES.contains_key(inner), "{name}.{}: {inner}", field.name);
                }
            }
        }
    }

    #[test]
    fn typing_mistakes_are_found_wherever_they_are() {
        let container = json!({"name": "c", "imag": "x", "readinessProbe": {"httpGet": {"pth": "/"}}, "resources": {"limits": {"cpu": 1}}});
        let volume = json!({"name": "v", "configMap": {"name": "m", "itens": []}});
        let object = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "lables": {}, "managedFields": []},
            "spec": {"replica": 1, "template": {"spec": {"containers": [container], "volumes": [volume]}}},
        });
        let expected = [
            "metadata.lables",
            "spec.replica",
            "spec.template.spec.containers[0].imag",
            "spec.template.spec.containers[0].readinessProbe.httpGet.pth",
            "spec.template.spec.volumes[0].configMap.itens",
        ];
        assert_eq!(unknown("apps/v1", "Deployment", &object), expected);
        let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "spek": {}});
        let set = json!({"spec": {"volumeClaimTemplates": [claim]}});
        assert_eq!(
            unknown("apps/v1", "StatefulSet", &set),
            ["spec.volumeClaimTemplates[0].spek"]
        );
        assert!(unknown("example.com/v1", "Widget", &object).is_empty());
    }
}
