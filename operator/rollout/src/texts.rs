//! Texts of thousands of pods, which mostly say the same: names, images, conditions, labels, annotations. Each is kept once.

use std::collections::BTreeMap;
use std::sync::Arc;

use afloat_api::Texts;
use afloat_words::texts::Pool;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

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

    /// Takes the texts that the pool has.
    pub fn share(&mut self, pool: &mut Pool) {
        for (key, value) in &mut self.0 {
            *key = pool.share(key);
            *value = pool.share(value);
        }
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

impl Texts for Entries {
    fn text(&self, key: &str) -> Option<&str> {
        self.get(key)
    }
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

    /// Takes the pool's copy.
    pub fn share(&mut self, pool: &mut Pool) {
        self.0 = pool.share(&self.0);
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
        Ok(Self(String::deserialize(deserializer)?.into()))
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
        pods.iter_mut().for_each(|pod| pod.share(&mut pool));
        assert!(Arc::ptr_eq(&pods[0].0[0].1, &pods[2999].0[0].1));
        assert_eq!(pods[0].get("app"), Some("web"));
    }
}
