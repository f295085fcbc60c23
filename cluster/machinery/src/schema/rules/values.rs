//! What rules see of an object: values of CEL, as the schema says.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube_cel::cel::common::ast::{CallExpr, Expr, LiteralValue};
use kube_cel::cel::objects::{Key, Map};
use kube_cel::cel::parser::Expression;
use kube_cel::cel::{Context, Value as Cel};
use serde_json::Value;

/// Words of the language, which are no names of fields. Source: Kubernetes' documentation of CRD validation rules, "field names".
#[rustfmt::skip]
const RESERVED: &[&str] = &[
    "true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if", "import", "let", "loop",
    "package", "namespace", "return", "var", "void", "while",
];

/// How a schema's values are read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Shape {
    pub(super) format: Format,
    /// Its keys are data and not names of fields.
    pub(super) is_map: bool,
    /// An object of the API, which has a kind and metadata.
    pub(super) embedded: bool,
}

/// What a text stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Format {
    Time,
    Duration,
    Bytes,
    #[default]
    Text,
}

impl Format {
    pub(super) fn of(schema: &Value) -> Self {
        if schema.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
            return Self::Text;
        }
        match schema.get("format").and_then(Value::as_str) {
            Some("date-time") => Self::Time,
            Some("duration") => Self::Duration,
            Some("byte") => Self::Bytes,
            _ => Self::Text,
        }
    }

    fn value(self, text: &str, context: &Context<'_>) -> Cel {
        let read = |function: &str| read(function, text, context);
        let value = match self {
            Self::Time => read("timestamp"),
            Self::Duration => read("duration"),
            Self::Bytes => STANDARD.decode(text).ok().map(|bytes| Cel::Bytes(Arc::new(bytes))),
            Self::Text => None,
        };
        // What cannot be read was refused by the schema, or is none of its business.
        value.unwrap_or_else(|| text.into())
    }
}

/// A text as one of CEL's own functions reads it.
fn read(function: &str, text: &str, context: &Context<'_>) -> Option<Cel> {
    let node = |expr: Expr| Expression { id: 0, expr };
    let call = node(Expr::Call(CallExpr {
        func_name: function.to_owned(),
        target: None,
        args: vec![node(Expr::Literal(LiteralValue::String(text.into())))],
    }));
    Cel::resolve(&call, context).ok()
}

/// A place in a schema.
pub(super) trait Described: Sized {
    fn shape(&self) -> Shape;
    /// Of an element of a list.
    fn item(&self) -> Option<&Self>;
    fn field(&self, name: &str) -> Option<&Self>;
}

/// A value that stands at a place.
pub(super) fn value(place: &impl Described, value: &Value, context: &Context<'_>) -> Cel {
    convert(Some(place), value, context)
}

fn convert<P: Described>(node: Option<&P>, value: &Value, context: &Context<'_>) -> Cel {
    let shape = node.map(P::shape).unwrap_or_default();
    match value {
        Value::Null => Cel::Null,
        Value::Bool(value) => Cel::Bool(*value),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(whole), _) => Cel::Int(whole),
            (None, Some(whole)) => Cel::UInt(whole),
            (None, None) => Cel::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => shape.format.value(text, context),
        Value::Array(items) => {
            let item = node.and_then(P::item);
            let items = items.iter().map(|inner| convert(item, inner, context));
            items.collect::<Vec<_>>().into()
        }
        Value::Object(fields) => {
            let mut map: Vec<(Key, Cel)> = Vec::with_capacity(fields.len());
            for (name, inner) in fields {
                let key = if shape.is_map { name.clone() } else { escaped(name) };
                let field = node.and_then(|node| node.field(name));
                map.push((key.into(), convert(field, inner, context)));
            }
            let empty = || Cel::Map(Map { map: Arc::default() });
            let expected = [("apiVersion", "".into()), ("kind", "".into()), ("metadata", empty())];
            let missing = expected
                .into_iter()
                .filter(|(name, _)| shape.embedded && !fields.contains_key(*name));
            map.extend(missing.map(|(name, value)| (name.into(), value)));
            Cel::Map(Map {
                map: Arc::new(map.into_iter().collect()),
            })
        }
    }
}

/// A field's name as expressions write it.
fn escaped(name: &str) -> String {
    if RESERVED.contains(&name) {
        return format!("__{name}__");
    }
    name.replace('_', "__")
        .replace('.', "__dot__")
        .replace('-', "__dash__")
        .replace('/', "__slash__")
}
