//! Bodies in Kubernetes' protobuf, which Go clients (kubectl's imperative commands, controllers) send for built-in kinds.
//! Read into the same JSON that the client would have sent otherwise; answers are always JSON, which all of them accept.
//!
//! What a protobuf message cannot say is decided as Go's JSON would have it: a zero in a field that is not optional is absent, unless Go
//! says it all the same; an empty object is there.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use afloat_machinery::fields::{Field, Kind, Message, SCHEMA, SchemaOr, Shape, message as known_message, message_name};

/// What every body begins with.
const MAGIC: &[u8] = b"k8s\0";
/// Below this a float that is whole is a whole number.
const MOST_WHOLE: f64 = 1e15;
/// Deepest nesting of messages. A JSON schema, the deepest thing there is, may nest about as deep as readers of JSON let it.
const DEPTH_LIMIT: usize = 128;

/// Reads a whole body.
///
/// # Errors
/// Says what is wrong with it, or that its kind is not known in this form.
pub(crate) fn decode(body: &[u8]) -> Result<Value, String> {
    let body = body
        .strip_prefix(MAGIC)
        .ok_or("the body does not begin as Kubernetes' protobuf does")?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &b""[..]);
    for field in Fields(body) {
        match field? {
            (1, Wire::Bytes(meta)) => {
                for field in Fields(meta) {
                    match field? {
                        (1, Wire::Bytes(b)) => api_version = text(b)?,
                        (2, Wire::Bytes(b)) => kind = text(b)?,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let name = message_name(&api_version, &kind).or_else(|| message_name("meta/v1", &kind));
    let Some(name) = name else {
        return Err(format!(
            "{kind} in version {api_version} is not accepted as protobuf: send JSON"
        ));
    };
    let mut object = message(name, raw, DEPTH_LIMIT)?;
    if let Some(map) = object.as_object_mut() {
        map.insert("apiVersion".into(), api_version.into());
        map.insert("kind".into(), kind.into());
    }
    Ok(object)
}

/// A value on the wire.
#[derive(Clone, Copy)]
enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Result<u64, String> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first().ok_or("the body ends within a number")?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err("a number is too long".into())
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], String> {
        let length = usize::try_from(length)
            .ok()
            .filter(|n| *n <= self.0.len())
            .ok_or("a field is longer than the body")?;
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        Ok(bytes)
    }

    fn fixed(&mut self, length: u64) -> Result<u64, String> {
        Ok(self.take(length)?.iter().rev().fold(0, |n, b| (n << 8) | u64::from(*b)))
    }

    fn field(&mut self) -> Result<(u64, Wire<'a>), String> {
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Wire::Number(self.varint()?),
            1 => Wire::Number(self.fixed(8)?),
            2 => {
                let length = self.varint()?;
                Wire::Bytes(self.take(length)?)
            }
            5 => Wire::Number(self.fixed(4)?),
            other => return Err(format!("wire type {other} is not used by Kubernetes")),
        };
        Ok((tag >> 3, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Wire<'a>), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

fn text(bytes: &[u8]) -> Result<String, String> {
    std::str::from_utf8(bytes)
        .map(str::to_owned)
        .map_err(|e| format!("a text is not UTF-8: {e}"))
}

fn message(name: &str, bytes: &[u8], depth: usize) -> Result<Value, String> {
    let depth = depth.checked_sub(1).ok_or("the body is nested too deeply")?;
    let known = match known_message(name) {
        Some(Message::Fields(known)) => known,
        Some(Message::List) => {
            let items = Fields(bytes).filter_map(|field| match field {
                Ok((1, Wire::Bytes(b))) => Some(text(b).map(Value::from)),
                Ok(_) => None,
                Err(error) => Some(Err(error)),
            });
            return items.collect::<Result<Vec<_>, _>>().map(Value::from);
        }
        None => return Err(format!("message {name} is not known")),
    };
    let mut object = Map::new();
    for field in Fields(bytes) {
        let (number, wire) = field?;
        // A newer client may know more than we do.
        let Some(field) = known.get(&number) else { continue };
        put(&mut object, *field, wire, depth)?;
    }
    Ok(object.into())
}

/// Adds one field on the wire to the object.
fn put(object: &mut Map<String, Value>, field: Field, wire: Wire<'_>, depth: usize) -> Result<(), String> {
    match field.shape {
        Shape::One => {
            let value = read(field.kind, wire, depth)?;
            match value {
                Value::Object(inner) if field.name.is_empty() => object.extend(inner),
                value if !field.optional && is_nothing(field, &value) => {}
                value => drop(object.insert(field.name.to_owned(), value)),
            }
        }
        Shape::Repeated => {
            let value = read(field.kind, wire, depth)?;
            let list = object.entry(field.name).or_insert_with(|| Value::Array(Vec::new()));
            if let Some(list) = list.as_array_mut() {
                list.push(value);
            }
        }
        Shape::Map => {
            let Wire::Bytes(entry) = wire else {
                return Err(format!("{} is not a map", field.name));
            };
            let (mut key, mut value) = (String::new(), None);
            for part in Fields(entry) {
                match part? {
                    (1, Wire::Bytes(b)) => key = text(b)?,
                    (2, wire) => value = Some(read(field.kind, wire, depth)?),
                    _ => {}
                }
            }
            let value = value.unwrap_or_else(|| Value::String(String::new()));
            let map = object.entry(field.name).or_insert_with(|| Value::Object(Map::new()));
            if let Some(map) = map.as_object_mut() {
                map.insert(key, value);
            }
        }
    }
    Ok(())
}

/// Whether Go's JSON would not have the field. What is a struct there, it always has.
fn is_nothing(field: Field, value: &Value) -> bool {
    match value {
        Value::Null => true,
        _ if field.said || field.kind == Kind::IntOrString => false,
        Value::Bool(truth) => !truth,
        Value::Number(n) => n.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(_) => false,
    }
}

fn read(kind: Kind, wire: Wire<'_>, depth: usize) -> Result<Value, String> {
    Ok(match (kind, wire) {
        (Kind::Text, Wire::Bytes(b)) => text(b)?.into(),
        (Kind::Integer { .. }, Wire::Number(n)) => n.cast_signed().into(),
        (Kind::Truth, Wire::Number(n)) => (n != 0).into(),
        // Go says 5, not 5.0.
        (Kind::Float, Wire::Number(n)) => match f64::from_bits(n) {
            whole if whole.fract() == 0.0 && whole.abs() < MOST_WHOLE => (whole as i64).into(),
            other => other.into(),
        },
        (Kind::Bytes, Wire::Bytes(b)) => STANDARD.encode(b).into(),
        (Kind::Message(name), Wire::Bytes(b)) => message(name, b, depth)?,
        (Kind::Time { micros }, Wire::Bytes(b)) => time(b, micros)?,
        (Kind::Quantity, Wire::Bytes(b)) => texts(b, 1)?.into(),
        (Kind::IntOrString, Wire::Bytes(b)) => match numbers(b, 1)? {
            Some(1) => texts(b, 3)?.into(),
            _ => numbers(b, 2)?.unwrap_or(0).into(),
        },
        (Kind::Raw, Wire::Bytes(b)) => match texts(b, 1)?.as_str() {
            "" => Value::Null,
            text => serde_json::from_str(text).map_err(|e| format!("an embedded object is not JSON: {e}"))?,
        },
        (Kind::Schema(or), Wire::Bytes(b)) => schema(or, b, depth)?,
        _ => return Err("a field has the wrong wire type".into()),
    })
}

/// A schema, or what stands in its place.
fn schema(or: SchemaOr, bytes: &[u8], depth: usize) -> Result<Value, String> {
    // A boolean's message has it first, the others' the schema.
    let own = if or == SchemaOr::Truth { 2 } else { 1 };
    let (mut items, mut allows) = (Vec::new(), false);
    for field in Fields(bytes) {
        match (field?, or) {
            ((number, Wire::Bytes(b)), _) if number == own => return message(SCHEMA, b, depth),
            ((2, Wire::Bytes(b)), SchemaOr::Schemas) => items.push(message(SCHEMA, b, depth)?),
            ((2, Wire::Bytes(b)), SchemaOr::Texts) => items.push(text(b)?.into()),
            ((1, Wire::Number(n)), SchemaOr::Truth) => allows = n != 0,
            _ => {}
        }
    }
    Ok(if or == SchemaOr::Truth {
        allows.into()
    } else {
        items.into()
    })
}

/// The text at a field number.
fn texts(bytes: &[u8], number: u64) -> Result<String, String> {
    let mut found = String::new();
    for field in Fields(bytes) {
        if let (n, Wire::Bytes(b)) = field?
            && n == number
        {
            found = text(b)?;
        }
    }
    Ok(found)
}

/// The integer at a field number.
fn numbers(bytes: &[u8], number: u64) -> Result<Option<i64>, String> {
    let mut found = None;
    for field in Fields(bytes) {
        if let (n, Wire::Number(value)) = field?
            && n == number
        {
            found = Some(value.cast_signed());
        }
    }
    Ok(found)
}

/// RFC 3339; the zero time, which Go writes as an empty message, is null.
fn time(bytes: &[u8], micros: bool) -> Result<Value, String> {
    let Some(seconds) = numbers(bytes, 1)? else {
        return Ok(Value::Null);
    };
    let nanos = i32::try_from(numbers(bytes, 2)?.unwrap_or(0)).map_err(|e| format!("a time is out of range: {e}"))?;
    let time = jiff::Timestamp::new(seconds, nanos).map_err(|e| format!("a time is out of range: {e}"))?;
    let format = if micros {
        "%Y-%m-%dT%H:%M:%S.%6fZ"
    } else {
        "%Y-%m-%dT%H:%M:%SZ"
    };
    Ok(time.strftime(format).to_string().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A field that holds bytes.
    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2, u8::try_from(bytes.len()).unwrap()];
        out.extend_from_slice(bytes);
        out
    }

    fn body(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
        let meta = [field(1, api_version.as_bytes()), field(2, kind.as_bytes())].concat();
        [
            MAGIC.to_vec(),
            field(1, &meta),
            field(2, raw),
            field(3, b""),
            field(4, b""),
        ]
        .concat()
    }

    #[test]
    fn a_config_map_is_read() {
        // Zero times and empty texts are what Go's encoders always write.
        let meta = [field(1, b"a"), field(2, b""), field(3, b""), field(8, b"")].concat();
        let data = [field(1, b"k"), field(2, b"v")].concat();
        let raw = [field(1, &meta), field(2, &data)].concat();
        let expected = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}});
        assert_eq!(decode(&body("v1", "ConfigMap", &raw)), Ok(expected));
    }

    #[test]
    fn optional_zeros_are_values() {
        // Deployment.spec.replicas (1) = 0, minReadySeconds (5) = 0.
        let raw = field(2, &[1 << 3, 0, 5 << 3, 0]);
        let expected = json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": 0}});
        assert_eq!(decode(&body("apps/v1", "Deployment", &raw)), Ok(expected));
    }

    fn without_nulls(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.retain(|_, value| !value.is_null());
                fields.values_mut().for_each(without_nulls);
            }
            Value::Array(items) => items.iter_mut().for_each(without_nulls),
            _ => {}
        }
    }

    /// What Go's types write (`tests/fields/protobuf`), of each kind, and of such with many zeros: the same in both forms.
    #[test]
    fn bodies_of_go_say_what_its_json_says() {
        let lines = include_str!("protobuf/bodies.jsonl").lines();
        let cases: Vec<Value> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(cases.len() > 50, "{}", cases.len());
        for case in cases {
            let bytes = STANDARD.decode(case["protobuf"].as_str().unwrap()).unwrap();
            let mut read = decode(&bytes).unwrap();
            let mut expected = case["object"].clone();
            without_nulls(&mut read);
            without_nulls(&mut expected);
            assert_eq!(read, expected);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(decode(b"{}").is_err());
        assert!(decode(&body("v1", "Nothing", b"")).is_err());
        assert!(decode(&body("v1", "ConfigMap", &[0x0a, 0xff])).is_err());
        assert!(decode(&body("v1", "ConfigMap", &[0x0b])).is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_survived(raw in proptest::collection::vec(0_u8..=255, 0..100)) {
            let _ = decode(&body("v1", "Pod", &raw));
        }
    }

    mod fuzz {
        use proptest::prelude::*;

        use super::*;

        /// A Pod with what nests, and a kind that embeds JSON.
        fn bodies() -> Vec<Vec<u8>> {
            let meta = [
                field(1, b"web"),
                field(11, &[field(1, b"app"), field(2, b"web")].concat()),
                field(8, b"\x08\x80\x94\xeb\xdc\x03"),
            ]
            .concat();
            let container = [field(1, b"c"), field(2, b"web:v1"), field(6, b"\x18\x90\x3f")].concat();
            let pod = [field(1, &meta), field(2, &field(2, &container))].concat();
            let revision = [
                field(1, &meta),
                field(2, &field(1, br#"{"spec":{}}"#)),
                b"\x18\x07".to_vec(),
            ]
            .concat();
            vec![
                body("v1", "Pod", &pod),
                body("v1", "ConfigMap", &field(1, &meta)),
                body("apps/v1", "ControllerRevision", &revision),
                body("meta/v1", "DeleteOptions", b"\x08\x05"),
            ]
        }

        proptest! {
            #[test]
            fn bodies_are_read_or_refused(bytes in afloat_fuzz::damaged(bodies())) {
                match decode(&bytes) {
                    Ok(object) => prop_assert!(object.is_object()),
                    Err(reason) => prop_assert!(!reason.is_empty()),
                }
            }
        }
    }
}
