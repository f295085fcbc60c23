//! JSON and YAML, read with a note of what they say twice. Of several the last counts, as in Kubernetes.

use std::cell::RefCell;
use std::fmt;

use afloat_machinery::fields::{PATHS_LIMIT, below};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::options::DuplicateKeyPolicy;

/// Values that a document in YAML may have: its reader takes some hundred bytes for each.
const YAML_NODES: usize = 100_000;

/// Something that a document says twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Twice {
    /// A field of JSON, by its path: `spec.containers[0].image`.
    Field(String),
    /// The same of a list of JSON patch operations.
    Operation(String),
    /// A key of YAML.
    Key { line: u64, key: String },
}

impl Twice {
    /// The same, of a list of JSON patch operations.
    pub(crate) fn of_operation(self) -> Self {
        match self {
            Self::Field(path) => Self::Operation(path),
            other => other,
        }
    }

    /// Kubernetes' sentence.
    pub(crate) fn sentence(&self) -> String {
        match self {
            Self::Field(path) => format!("duplicate field \"{path}\""),
            Self::Operation(path) => format!("json patch duplicate field \"{path}\""),
            Self::Key { line, key } => format!("line {line}: key \"{key}\" already set in map"),
        }
    }

    /// The same in the error that refuses a write.
    pub(crate) fn refusal(&self) -> String {
        match self {
            Self::Key { .. } => format!("yaml: unmarshal errors:\n  {}", self.sentence()),
            _ => self.sentence(),
        }
    }
}

/// What a document in YAML may make of its text: aliases may stand for much that is written once.
fn options(duplicate_keys: DuplicateKeyPolicy) -> serde_saphyr::Options {
    serde_saphyr::options! {
        duplicate_keys: duplicate_keys,
        budget: serde_saphyr::budget! {
            max_nodes: YAML_NODES,
            max_recorded_anchor_events: YAML_NODES,
        },
    }
}

/// Reads JSON.
///
/// # Errors
/// It is none.
pub(crate) fn json(bytes: &[u8]) -> Result<(Value, Vec<Twice>), serde_json::Error> {
    let found = RefCell::new(Vec::new());
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Noting(&found).deserialize(&mut reader)?;
    reader.end()?;
    Ok((value, found.into_inner().into_iter().map(Twice::Field).collect()))
}

/// Reads YAML. Tells the first key that is there twice.
///
/// # Errors
/// It is none.
pub(crate) fn yaml(text: &str) -> Result<(Value, Vec<Twice>), serde_saphyr::Error> {
    match serde_saphyr::from_str_with_options(text, options(DuplicateKeyPolicy::Error)) {
        Ok(value) => Ok((value, Vec::new())),
        Err(error) => match error.without_snippet() {
            serde_saphyr::Error::DuplicateMappingKey { key, location } => {
                let options = options(DuplicateKeyPolicy::LastWins);
                let key = key.clone().unwrap_or_default();
                let twice = Twice::Key {
                    line: location.line(),
                    key,
                };
                Ok((serde_saphyr::from_str_with_options(text, options)?, vec![twice]))
            }
            _ => Err(error),
        },
    }
}

/// Reads any value, and notes the paths of what objects have twice.
#[derive(Clone, Copy)]
struct Noting<'a>(&'a RefCell<Vec<String>>);

impl Noting<'_> {
    fn noted(self) -> usize {
        self.0.borrow().len()
    }

    /// What was noted since is below this step.
    fn below(self, before: usize, step: &dyn Fn() -> String) {
        let mut found = self.0.borrow_mut();
        if found.len() > before {
            below(&mut found[before..], &step());
        }
    }

    fn note(self, key: &str) {
        let mut found = self.0.borrow_mut();
        if found.len() < PATHS_LIMIT {
            found.push(key.to_owned());
        }
    }
}

impl<'de> DeserializeSeed<'de> for Noting<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Noting<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any valid JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("a number is out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            let before = self.noted();
            let Some(item) = items.next_element_seed(self)? else {
                return Ok(list.into());
            };
            self.below(before, &|| format!("[{}]", list.len()));
            list.push(item);
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let before = self.noted();
            let value = entries.next_value_seed(self)?;
            self.below(before, &|| key.clone());
            if map.contains_key(&key) {
                self.note(&key);
            }
            map.insert(key, value);
        }
        Ok(map.into())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_json_says_twice_is_told_and_the_last_counts() {
        let text = r#"{"a": 1, "b": [{"c": 1}, {"c": {"d": 1, "d": 2}, "c": {"d": 3}}], "a": {"x": null}, "n": [1, -1, 1.5, "s", true, 10000000000000000000]}"#;
        let (value, twice) = json(text.as_bytes()).unwrap();
        assert_eq!(value, serde_json::from_str::<Value>(text).unwrap());
        let paths = ["b[1].c.d", "b[1].c", "a"];
        assert_eq!(twice, paths.map(|path| Twice::Field(path.to_owned())));
        assert!(json(b"{} {}").is_err() && json(b"{\"a\":1e999}").is_err());
    }

    #[test]
    fn no_body_makes_more_notes_than_a_client_reads() {
        let text = format!("{{{}\"a\": 1}}", "\"a\": 1,".repeat(1000));
        assert_eq!(json(text.as_bytes()).unwrap().1.len(), PATHS_LIMIT);
    }

    #[test]
    fn what_yaml_says_twice_is_told_and_the_last_counts() {
        let (value, twice) = yaml("a: 1\nb:\n  c: 1\n  c: 2\n").unwrap();
        assert_eq!(value, json!({"a": 1, "b": {"c": 2}}));
        let told: Vec<String> = twice.iter().map(Twice::sentence).collect();
        assert_eq!(told, ["line 4: key \"c\" already set in map"]);
        assert_eq!(yaml("a: 1").unwrap(), (json!({"a": 1}), Vec::new()));
        assert!(yaml("a: [").is_err());
    }
}
