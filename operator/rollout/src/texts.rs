//! Texts of thousands of pods, which mostly say the same: names, images, conditions, labels, annotations. Each is kept once.

use std::collections::BTreeMap;
use std::sync::Arc;

use afloat_api::Texts;
use afloat_words::texts::Pool;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Labels or annotations, in order of their keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries(Box<[(Arc<str>, Arc<str>)]>);

impl Entries {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        let found = self.0.binary_search_by(|(known, _)| (**known).cmp(key));
        found
            .ok()
            .and_then(|index| self.0.get(index))
            .map(|(_, value)| &**value)
    }

    /// Whether the key is there.
    pub fn contains_key(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// All keys, in their order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(key, _)| &**key)
    }

    /// Takes the texts that were in the same place before, or those that the pool has.
    pub fn share(&mut self, before: &Self, pool: &mut Pool) {
        for (index, (key, value)) in self.0.iter_mut().enumerate() {
            let old = before.0.get(index);
            share(key, old.map(|(key, _)| key), pool);
            share(value, old.map(|(_, value)| value), pool);
        }
    }

    /// The same without that key.
    pub(crate) fn without(self, key: &str) -> Self {
        if !self.contains_key(key) {
            return self;
        }
        let mut all = self.0.into_vec();
        all.retain(|(known, _)| **known != *key);
        Self(all.into())
    }

    #[cfg(test)]
    pub(crate) fn set(&mut self, key: &str, value: Option<&str>) {
        let mut all: BTreeMap<String, String> = self.0.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        match value {
            Some(value) => drop(all.insert(key.to_owned(), value.to_owned())),
            None => drop(all.remove(key)),
        }
        *self = all.into();
    }
}

impl From<BTreeMap<String, String>> for Entries {
    fn from(map: BTreeMap<String, String>) -> Self {
        Self(map.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Entries;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("texts by key")
            }
            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut all = Vec::with_capacity(16);
                while let Some((Text(key), Text(value))) = map.next_entry()? {
                    all.push((key, value));
                }
                // An API server sends them in order.
                if !all.is_sorted_by(|(a, _): &(Arc<str>, _), (b, _)| a < b) {
                    let all: BTreeMap<_, _> = all.into_iter().collect();
                    return Ok(Entries(all.into_iter().collect()));
                }
                Ok(Entries(all.into()))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

impl Texts for Entries {
    fn text(&self, key: &str) -> Option<&str> {
        self.get(key)
    }
}

fn share(text: &mut Arc<str>, before: Option<&Arc<str>>, pool: &mut Pool) {
    *text = match before {
        Some(before) if before == text => before.clone(),
        _ => pool.share(text),
    };
}

/// A text that many objects have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text(Arc<str>);

impl Text {
    /// The text.
    pub fn as_str(&self) -> &str {
        self
    }

    /// The same text for somebody else to hold.
    pub fn shared(&self) -> Arc<str> {
        self.0.clone()
    }

    /// Takes the copy that was in its place before, or the pool's.
    pub fn share(&mut self, before: Option<&Self>, pool: &mut Pool) {
        share(&mut self.0, before.map(|before| &before.0), pool);
    }

    /// Takes the copy that was in its place before. For texts that no other object has.
    pub fn keep(&mut self, before: &Self) {
        if *self == *before {
            self.0 = before.0.clone();
        }
    }
}

impl Default for Text {
    fn default() -> Self {
        Self("".into())
    }
}

impl std::ops::Deref for Text {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self)
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        **self == *other
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        **self == **other
    }
}

impl PartialEq<String> for Text {
    fn eq(&self, other: &String) -> bool {
        **self == **other
    }
}

impl PartialEq<Text> for String {
    fn eq(&self, other: &Text) -> bool {
        **self == **other
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Text;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a text")
            }
            fn visit_str<E>(self, text: &str) -> Result<Text, E> {
                Ok(text.into())
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(list: &[(&str, &str)]) -> Entries {
        let map: BTreeMap<String, String> = list.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        map.into()
    }

    #[test]
    fn keys_are_found() {
        let some = entries(&[("b", "2"), ("a", "1"), ("c", "")]);
        assert_eq!(
            [some.get("a"), some.get("b"), some.get("c"), some.get("d")],
            [Some("1"), Some("2"), Some(""), None]
        );
    }

    #[test]
    fn equal_texts_are_one() {
        let mut pool = Pool::default();
        let mut pods: Vec<Entries> = (0..3000)
            .map(|n| entries(&[("app", "web"), ("id", &n.to_string())]))
            .collect();
        pods.iter_mut()
            .for_each(|pod| pod.share(&Entries::default(), &mut pool));
        assert!(Arc::ptr_eq(&pods[0].0[0].1, &pods[2999].0[0].1));
        assert_eq!(pods[0].get("app"), Some("web"));
    }
}
