//! CPU and memory of containers: what can be resized (KEP-1287).

use std::fmt;

use afloat_words::quantity;
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

/// What a container may use, trimmed to what can be resized.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// At most.
    pub limits: Amounts,
    /// At least.
    pub requests: Amounts,
}

/// Amounts of the resources that can be resized.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Amounts {
    /// Cores.
    pub cpu: Option<Amount>,
    /// Bytes.
    pub memory: Option<Amount>,
}

/// A quantity as Kubernetes writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Amount(Box<str>);

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Amount;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a quantity")
            }
            fn visit_str<E>(self, text: &str) -> Result<Amount, E> {
                Ok(Amount(text.into()))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Amount, E> {
                Ok(Amount(number.to_string().into()))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Amount, E> {
                Ok(Amount(number.to_string().into()))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Amount, E> {
                Ok(Amount(number.to_string().into()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl Resources {
    pub(crate) fn get(&self, kind: &str, name: &str) -> Option<&str> {
        let amounts = match kind {
            "limits" => &self.limits,
            _ => &self.requests,
        };
        let amount = if name == "cpu" { &amounts.cpu } else { &amounts.memory };
        amount.as_ref().map(|amount| &*amount.0)
    }

    /// All amounts as they are written.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &str> {
        PLACES
            .iter()
            .map(|(kind, name)| self.get(kind, name).unwrap_or_default())
    }

    /// Whether none is given.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether both mean the same amounts.
    pub fn same(&self, other: &Self) -> bool {
        PLACES
            .iter()
            .all(|(kind, name)| match (self.get(kind, name), other.get(kind, name)) {
                (None, None) => true,
                (Some(a), Some(b)) => quantity::same(a, b),
                _ => false,
            })
    }

    /// Whether it has all amounts of a change: `{"limits": {"cpu": "1"}, …}`.
    pub fn has(&self, change: &Value) -> bool {
        PLACES.iter().all(
            |(kind, name)| match change.get(kind).and_then(|amounts| amounts.get(name)) {
                None => true,
                Some(wanted) => self
                    .get(kind, name)
                    .is_some_and(|present| quantity::same(present, &text(wanted))),
            },
        )
    }
}

/// What can be resized.
pub(crate) const PLACES: [(&str, &str); 4] = [
    ("limits", "cpu"),
    ("limits", "memory"),
    ("requests", "cpu"),
    ("requests", "memory"),
];

/// A quantity that may stand there as a number.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_has_a_change_or_not() {
        let has: Resources = serde_json::from_value(json!({"limits": {"cpu": "2"}, "requests": {"cpu": 1}})).unwrap();
        assert!(has.has(&json!({"limits": {"cpu": "2000m"}})));
        assert!(!has.has(&json!({"limits": {"cpu": "1"}})));
        assert!(!has.has(&json!({"limits": {"memory": "1"}})));
    }
}
