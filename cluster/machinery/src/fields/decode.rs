//! Reading an object by the table, as Kubernetes' own types read theirs (Go's `encoding/json`, as sigs.k8s.io/json has it).
//!
//! What a field cannot hold is refused in Go's words. What Go reads as something else becomes that: a null is a field that is
//! not there, a null in a list or a map is a zero, a number where a quantity stands is one, base64 may have line breaks. Then
//! every client that has types of its own can read what is stored. Fields that a kind does not have are left alone.

use afloat_words::quantity::Quantity;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::{Field, Kind, MESSAGES, Message, NAMED, NAMES_KIND, SCHEMA, SchemaOr, Shape, message_of, time};
use crate::resource::Resource;

/// Why a body is no object: it says what it is in another way than by text. Go's words.
pub fn unrecognized(object: &Value) -> Option<String> {
    let Some(fields) = object.as_object() else {
        return Some(format!(
            "json: cannot unmarshal {} into Go value of type struct",
            said(object, false)
        ));
    };
    ["apiVersion", "kind"]
        .into_iter()
        .find_map(|key| match fields.get(key) {
            None | Some(Value::Null | Value::String(_)) => None,
            Some(other) => {
                let said = said(other, false);
                Some(format!(
                    "json: cannot unmarshal {said} into Go struct field .{key} of type string"
                ))
            }
        })
}

/// Reads an object as one of a kind: as the message that the table has for it, or of a custom one its metadata.
///
/// # Errors
/// As [`decode`].
pub fn decode_as(resource: &Resource, object: &mut Value) -> Result<(), String> {
    match (message_of(resource), object.get_mut("metadata")) {
        (Some(message), _) => decode(message, object),
        (None, None | Some(Value::Null)) => Ok(()),
        (None, Some(metadata)) => {
            // Go reads it by itself.
            decode("meta.v1.ObjectMeta", metadata)
        }
    }
}

/// Reads an object as a message of the table.
///
/// # Errors
/// What is wrong with it, as Go's decoder says it: `json: cannot unmarshal string into Go struct field …`.
pub fn decode(message: &'static str, object: &mut Value) -> Result<(), String> {
    Place::default().message(message, object)
}

/// Takes out of an object whatever keeps it from being read as one of its kind: each innermost field that holds what it cannot
/// hold. Tells what was wrong with them, without their values.
pub fn mend(resource: &Resource, object: &mut Value) -> Vec<String> {
    let mut place = Place {
        mended: Some(Vec::new()),
        ..Place::default()
    };
    let read = match (message_of(resource), object.get_mut("metadata")) {
        (Some(message), _) => place.message(message, object),
        (None, Some(metadata)) => place.message("meta.v1.ObjectMeta", metadata),
        (None, None) => Ok(()),
    };
    place.mended.into_iter().flatten().chain(read.err()).collect()
}

/// Where in an object something is read.
#[derive(Default)]
struct Place {
    /// The type that has the field.
    owner: &'static str,
    path: Vec<&'static str>,
    /// Whether that is all that is told: Go reads some types by functions of their own, whose places it does not know.
    blurred: bool,
    /// What was taken out. None: nothing is, the first mistake ends the reading.
    mended: Option<Vec<String>>,
}

impl Place {
    fn message(&mut self, name: &'static str, value: &mut Value) -> Result<(), String> {
        let own = name.rsplit('.').next().unwrap_or_default();
        if matches!(MESSAGES.get(name), Some(Message::List)) {
            return self.texts(value, &go_name(name));
        }
        let Value::Object(fields) = value else {
            return Err(self.wrong(value, &go_name(name)));
        };
        let Some(known) = NAMED.get(name) else { return Ok(()) };
        let before = self.owner;
        if !self.blurred {
            self.owner = own;
        }
        let mut result = Ok(());
        fields.retain(|key, value| {
            if result.is_err() {
                return true;
            }
            match known.get(key.as_str()) {
                Some(field) => {
                    result = self.below(field.name, |place| place.field(field, value));
                }
                None if NAMES_KIND.contains(&name) && !value.is_string() && !value.is_null() => {
                    if let Some(key) = ["apiVersion", "kind"].into_iter().find(|known| known == key) {
                        result = self.below(key, |place| Err(place.wrong(value, "string")));
                    }
                }
                None => {}
            }
            if let (Err(why), Some(mended)) = (&result, &mut self.mended) {
                mended.push(why.clone());
                result = Ok(());
                return false;
            }
            // A definition's schema may have a null as a default, which means something.
            known.get(key.as_str()).is_none_or(|field| field.kind == Kind::Raw) || !value.is_null()
        });
        self.owner = before;
        result
    }

    fn below(&mut self, name: &'static str, read: impl FnOnce(&mut Self) -> Result<(), String>) -> Result<(), String> {
        if self.blurred {
            return read(self);
        }
        self.path.push(name);
        let result = read(self);
        self.path.pop();
        result
    }

    fn field(&mut self, field: &'static Field, value: &mut Value) -> Result<(), String> {
        if value.is_null() {
            return Ok(());
        }
        match (field.shape, &mut *value) {
            (Shape::One, value) => self.one(field, value),
            (Shape::Repeated, Value::Array(items)) => {
                for item in items {
                    self.item(field, item)?;
                }
                Ok(())
            }
            (Shape::Map, Value::Object(map)) => self.map(field, map),
            (Shape::Repeated, value) => Err(self.wrong(value, &list_type(field))),
            (Shape::Map, value) => Err(self.wrong(value, &map_type(field))),
        }
    }

    fn map(&mut self, field: &'static Field, map: &mut Map<String, Value>) -> Result<(), String> {
        if matches!(field.kind, Kind::Time { .. }) {
            // Go's zero of it is a null once more, which others cannot read.
            map.retain(|_, value| !value.is_null());
        }
        for value in map.values_mut() {
            self.item(field, value)?;
        }
        Ok(())
    }

    fn item(&mut self, field: &'static Field, value: &mut Value) -> Result<(), String> {
        match (value.is_null(), zero(field.kind)) {
            (true, Some(zero)) => *value = zero,
            (true, None) => {}
            (false, _) => self.one(field, value)?,
        }
        Ok(())
    }

    fn one(&mut self, field: &'static Field, value: &mut Value) -> Result<(), String> {
        match (field.kind, &mut *value) {
            (Kind::Message(name), value) => self.message(name, value),
            (Kind::Schema(or), value) => self.schema(or, value),
            (Kind::Raw, _) | (Kind::Text | Kind::IntOrString, Value::String(_)) | (Kind::Truth, Value::Bool(_)) => {
                Ok(())
            }
            (Kind::Float, Value::Number(_)) => Ok(()),
            (Kind::Integer { long }, Value::Number(_)) => self.integer(value, long, field),
            (Kind::IntOrString, value) => self.integer(value, false, field),
            (Kind::Time { micros }, Value::String(text)) => time::check(text, micros),
            (Kind::Bytes, Value::String(text)) => bytes(text),
            (Kind::Bytes, Value::Array(_)) => self.octets(value),
            (Kind::Quantity, value) => quantity(value),
            (_, value) => Err(self.wrong(value, &item_type(field))),
        }
    }

    /// A whole number; one that was read as another kind of number although it is whole (`-0`) becomes it.
    fn integer(&self, value: &mut Value, long: bool, field: &Field) -> Result<(), String> {
        if value.as_f64().is_some_and(|n| n.to_bits() == (-0.0_f64).to_bits()) {
            *value = 0.into();
        }
        let fits = value.as_i64().is_some_and(|n| long || i32::try_from(n).is_ok());
        if fits {
            Ok(())
        } else {
            Err(self.wrong_number(value, &item_type(field)))
        }
    }

    /// Bytes as a list of numbers, which Go takes for them as well.
    fn octets(&self, value: &mut Value) -> Result<(), String> {
        let Value::Array(items) = value else { return Ok(()) };
        let mut octets = Vec::with_capacity(items.len());
        for item in items {
            match item.as_u64().and_then(|n| u8::try_from(n).ok()) {
                Some(octet) => octets.push(octet),
                None if item.is_null() => octets.push(0),
                None => return Err(self.wrong_number(item, "uint8")),
            }
        }
        *value = STANDARD.encode(octets).into();
        Ok(())
    }

    fn texts(&self, value: &mut Value, whole: &str) -> Result<(), String> {
        let Value::Array(items) = value else {
            return Err(self.wrong(value, whole));
        };
        for item in items {
            match item {
                Value::String(_) => {}
                Value::Null => *item = "".into(),
                other => return Err(self.wrong(other, "string")),
            }
        }
        Ok(())
    }

    /// A schema, or what may stand in its place; what is neither is nothing to Go, but for a boolean's place.
    fn schema(&mut self, or: SchemaOr, value: &mut Value) -> Result<(), String> {
        let before = std::mem::replace(&mut self.blurred, true);
        let result = match (or, &mut *value) {
            (_, Value::Object(_)) => self.message(SCHEMA, value),
            (SchemaOr::Schemas, Value::Array(items)) => items.iter_mut().try_for_each(|item| match item {
                Value::Null => {
                    *item = json!({});
                    Ok(())
                }
                item => self.message(SCHEMA, item),
            }),
            (SchemaOr::Texts, Value::Array(_)) => self.texts(value, "[]string"),
            (SchemaOr::Truth, Value::Bool(_)) => Ok(()),
            (SchemaOr::Truth, _) => Err("boolean or JSON schema expected".to_owned()),
            (SchemaOr::Schemas | SchemaOr::Texts, other) => {
                *other = Value::Null;
                Ok(())
            }
        };
        self.blurred = before;
        result
    }

    fn wrong(&self, value: &Value, wanted: &str) -> String {
        self.sentence(&said(value, false), wanted)
    }

    fn wrong_number(&self, value: &Value, wanted: &str) -> String {
        self.sentence(&said(value, true), wanted)
    }

    fn sentence(&self, said: &str, wanted: &str) -> String {
        let (owner, path) = (self.owner, self.path.join("."));
        if path.is_empty() {
            return format!("json: cannot unmarshal {said} into Go value of type {wanted}");
        }
        format!("json: cannot unmarshal {said} into Go struct field {owner}.{path} of type {wanted}")
    }
}

/// What Go calls a value. A number is told where one was wanted, but another.
fn said(value: &Value, number: bool) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        Value::Number(n) if number => format!("number {n}"),
        Value::Number(_) => "number".to_owned(),
        Value::String(_) => "string".to_owned(),
        Value::Array(_) => "array".to_owned(),
        Value::Object(_) => "object".to_owned(),
    }
}

/// `v1.Container`, of `core.v1.Container`.
fn go_name(message: &str) -> String {
    message.split_once('.').map_or(message, |(_, name)| name).to_owned()
}

/// What Go calls the type of an item of a field.
fn item_type(field: &Field) -> String {
    let own = match field.kind {
        Kind::Message(name) => return go_name(name),
        Kind::Text | Kind::Time { .. } => "string",
        Kind::Integer { long: false } | Kind::IntOrString => "int32",
        Kind::Integer { long: true } => "int64",
        Kind::Truth => "bool",
        Kind::Bytes => "[]uint8",
        Kind::Float => "float64",
        Kind::Quantity => "resource.Quantity",
        Kind::Raw => "runtime.RawExtension",
        Kind::Schema(_) => "v1.JSONSchemaProps",
    };
    field.called.unwrap_or(own).to_owned()
}

fn list_type(field: &Field) -> String {
    match (field.kind, field.called) {
        (Kind::Message(_), Some(called)) => called.to_owned(),
        _ => format!("[]{}", item_type(field)),
    }
}

fn map_type(field: &Field) -> String {
    match (field.kind, field.called) {
        (Kind::Quantity | Kind::Schema(_) | Kind::Message(_), Some(called)) => called.to_owned(),
        (Kind::Time { .. }, _) => "map[string]v1.Time".to_owned(),
        _ => format!("map[string]{}", item_type(field)),
    }
}

/// What a null is in a list or a map. None: it stays one.
fn zero(kind: Kind) -> Option<Value> {
    Some(match kind {
        Kind::Text | Kind::Bytes => "".into(),
        Kind::Integer { .. } | Kind::IntOrString => 0.into(),
        Kind::Float => 0.0.into(),
        Kind::Truth => false.into(),
        Kind::Quantity => "0".into(),
        Kind::Message(name) if matches!(MESSAGES.get(name), Some(Message::List)) => json!([]),
        Kind::Message(_) => json!({}),
        Kind::Time { .. } | Kind::Raw | Kind::Schema(_) => return None,
    })
}

fn bytes(text: &mut String) -> Result<(), String> {
    if text.contains(['\r', '\n']) {
        text.retain(|c| !matches!(c, '\r' | '\n'));
    }
    match STANDARD.decode(text.as_bytes()) {
        Ok(_) => Ok(()),
        Err(error) => {
            let at = match error {
                base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => at,
                // Go tells where the four characters begin that lack some.
                base64::DecodeError::InvalidLength(_) | base64::DecodeError::InvalidPadding => text.len() / 4 * 4,
            };
            Err(format!("illegal base64 data at input byte {at}"))
        }
    }
}

fn quantity(value: &mut Value) -> Result<(), String> {
    if let Value::String(text) = value
        && text.trim().len() != text.len()
    {
        *text = text.trim().to_owned();
    }
    Quantity::of_json(value).map_err(|error| error.to_string())?;
    if value.is_number() {
        *value = value.to_string().into();
    }
    Ok(())
}

#[cfg(test)]
#[path = "decode/tests.rs"]
mod tests;
