//! Which fields the built-in kinds have: one table, by which every object that a client writes is read ([`mod@decode`]), protobuf
//! bodies are read, unknown fields are found, strategic merge patches are merged and the OpenAPI schemas of built-in kinds are made.
//! `tests/fields` makes it of the types of the Kubernetes version that the API server says it is.

mod decode;
mod time;
mod unknown;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use crate::resource::Resource;

pub use decode::{decode, decode_as, mend, unrecognized};
pub use unknown::{PATHS_LIMIT, below, drop_unknown};

static MESSAGES: LazyLock<BTreeMap<&'static str, Message>> = LazyLock::new(|| parse_table(include_str!("fields.txt")));

/// What is known of a message.
pub enum Message {
    /// Its fields by number.
    Fields(BTreeMap<u64, Field>),
    /// It stands for its one repeated field of texts.
    List,
}

/// A field of a message.
#[derive(Clone, Copy)]
pub struct Field {
    /// Empty: its fields belong to the message around it.
    pub name: &'static str,
    /// What it holds, or what each of its items is.
    pub kind: Kind,
    /// How many of it there are.
    pub shape: Shape,
    /// What Go calls its type (a map, a list of messages) or that of its items (a text, a number), where that
    /// has a name.
    called: Option<&'static str>,
    /// Whether a zero is a value.
    pub optional: bool,
    /// Whether types of Go say also a zero of it in JSON, although it is not optional.
    pub said: bool,
    /// How a strategic merge patch treats it.
    pub merge: Merge,
}

/// How a strategic merge patch treats a field: Kubernetes' `patchStrategy` and `patchMergeKey`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// By its form alone: an object field by field, of a list that of the patch.
    Plain,
    /// Elements of a list are objects; those with the same value of this key are merged.
    ByKey(&'static str),
    /// Elements of a list are plain values; the union is taken.
    Set,
    /// An object of the patch takes the place of the old one.
    Replace,
}

/// How many values a field has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One.
    One,
    /// A list.
    Repeated,
    /// A map by text.
    Map,
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A string.
    Text,
    /// A whole number.
    Integer {
        /// Whether it has 64 bits; 32 if not.
        long: bool,
    },
    /// A boolean.
    Truth,
    /// Bytes, in JSON as base64.
    Bytes,
    /// A floating-point number.
    Float,
    /// A time, RFC 3339.
    Time {
        /// Whether it is written with six digits of a fraction.
        micros: bool,
    },
    /// A quantity.
    Quantity,
    /// A whole number of 32 bits or a text.
    IntOrString,
    /// Any JSON.
    Raw,
    /// A schema, or something else in its place.
    Schema(SchemaOr),
    /// A message, by its name.
    Message(&'static str),
}

/// What may stand in a schema where a schema may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaOr {
    /// A list of schemas.
    Schemas,
    /// A boolean.
    Truth,
    /// A list of strings.
    Texts,
}

/// The message that a schema is.
pub const SCHEMA: &str = "apiextensions.v1.JSONSchemaProps";

fn parse_table(text: &'static str) -> BTreeMap<&'static str, Message> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, fields) = line.split_once(' ').unwrap_or((line, ""));
            let message = match fields.trim() {
                "=" => Message::List,
                fields => Message::Fields(fields.split_whitespace().filter_map(parse_field).collect()),
            };
            (name, message)
        })
        .collect()
}

fn parse_field(text: &'static str) -> Option<(u64, Field)> {
    let (number, rest) = text.split_once(':')?;
    let (name, kind) = rest.split_once(':')?;
    let (kind, called) = kind
        .split_once('/')
        .map_or((kind, None), |(kind, called)| (kind, Some(called)));
    let (kind, merge) = match (kind.split_once('~'), kind.strip_suffix('!')) {
        (Some((kind, "")), _) => (kind, Merge::Set),
        (Some((kind, key)), _) => (kind, Merge::ByKey(key)),
        (None, Some(kind)) => (kind, Merge::Replace),
        (None, None) => (kind, Merge::Plain),
    };
    let (kind, optional) = kind.strip_suffix('?').map_or((kind, false), |kind| (kind, true));
    let (kind, said) = kind.strip_suffix('+').map_or((kind, false), |kind| (kind, true));
    let (kind, shape) = match (kind.strip_prefix('*'), kind.strip_prefix('%')) {
        (Some(kind), _) => (kind, Shape::Repeated),
        (_, Some(kind)) => (kind, Shape::Map),
        _ => (kind, Shape::One),
    };
    let kind = match kind {
        "s" => Kind::Text,
        "i" => Kind::Integer { long: false },
        "l" => Kind::Integer { long: true },
        "b" => Kind::Truth,
        "y" => Kind::Bytes,
        "d" => Kind::Float,
        "@time" => Kind::Time { micros: false },
        "@micro" => Kind::Time { micros: true },
        "@quantity" => Kind::Quantity,
        "@intstr" => Kind::IntOrString,
        "@raw" => Kind::Raw,
        "@schemas" => Kind::Schema(SchemaOr::Schemas),
        "@schemabool" => Kind::Schema(SchemaOr::Truth),
        "@schematexts" => Kind::Schema(SchemaOr::Texts),
        message => Kind::Message(message),
    };
    Some((
        number.parse().ok()?,
        Field {
            name,
            kind,
            shape,
            called,
            optional,
            said,
            merge,
        },
    ))
}

/// A message by its name in the table.
pub fn message(name: &str) -> Option<&'static Message> {
    MESSAGES.get(name)
}

/// The name in the table of a kind as objects name it: `apps/v1`, `Deployment` is `apps.v1.Deployment`.
pub fn message_name(api_version: &str, kind: &str) -> Option<&'static str> {
    let (group, version) = api_version.split_once('/').unwrap_or(("core", api_version));
    let group = group.split('.').next().unwrap_or_default();
    MESSAGES
        .get_key_value(format!("{group}.{version}.{kind}").as_str())
        .map(|(name, _)| *name)
}

/// The name in the table of the kind of a resource. None: a custom one, or one that is not in the table.
pub fn message_of(resource: &Resource) -> Option<&'static str> {
    resource.builtin?;
    message_name(&resource.api_version(), &resource.kind)
}

/// The fields of all messages by the names that JSON has for them, those of inlined messages included.
static NAMED: LazyLock<BTreeMap<&'static str, Named>> = LazyLock::new(|| {
    MESSAGES
        .iter()
        .map(|(name, message)| (*name, by_name(message)))
        .collect()
});

type Named = BTreeMap<&'static str, &'static Field>;

fn by_name(message: &'static Message) -> Named {
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

/// A field of a message by the name that JSON has for it, those of inlined messages included.
pub(crate) fn field_of(message: &str, name: &str) -> Option<&'static Field> {
    NAMED.get(message)?.get(name).copied()
}

/// Messages inside of others that are objects of a kind of their own, which protobuf does not show.
const NAMES_KIND: [&str; 2] = ["core.v1.PersistentVolumeClaim", "meta.v1.DeleteOptions"];

/// Name of a message's schema in OpenAPI documents.
pub fn schema_name(message: &str) -> String {
    if message.starts_with("meta.") {
        format!("io.k8s.apimachinery.pkg.apis.{message}")
    } else {
        format!("io.k8s.api.{message}")
    }
}

/// Adds the schemas of a message and of all that it contains.
pub fn add_schemas(name: &'static str, schemas: &mut Map<String, Value>) {
    let own = schema_name(name);
    let Some(message) = MESSAGES.get(name).filter(|_| !schemas.contains_key(&own)) else {
        return;
    };
    if matches!(message, Message::List) {
        schemas.insert(own, json!({"type": "array", "items": {"type": "string"}}));
        return;
    }
    let Some(named) = NAMED.get(name) else { return };
    let properties: Map<String, Value> = named
        .iter()
        .map(|(name, field)| ((*name).to_owned(), property(field)))
        .collect();
    schemas.insert(own, json!({"type": "object", "properties": properties}));
    for field in named.values() {
        match field.kind {
            Kind::Message(inner) => add_schemas(inner, schemas),
            Kind::Schema(_) => add_schemas(SCHEMA, schemas),
            _ => {}
        }
    }
}

fn property(field: &Field) -> Value {
    let one = match field.kind {
        Kind::Text | Kind::Quantity => json!({"type": "string"}),
        Kind::Integer { long } => json!({"type": "integer", "format": if long { "int64" } else { "int32" }}),
        Kind::Truth => json!({"type": "boolean"}),
        Kind::Bytes => json!({"type": "string", "format": "byte"}),
        Kind::Float => json!({"type": "number"}),
        Kind::Time { .. } => json!({"type": "string", "format": "date-time"}),
        Kind::IntOrString => json!({"type": "string", "format": "int-or-string"}),
        Kind::Raw => json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}),
        // OpenAPI cannot say what else it may be.
        Kind::Schema(_) => json!({"x-kubernetes-preserve-unknown-fields": true}),
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
}
