//! One object of a watch before anybody has looked into it: its text. All kinds are followed as items, and read one by one:
//! so kube-runtime's watcher is compiled once instead of once for each kind and crate, what its adapters are made of too, and
//! an object that cannot be read concerns nobody but itself.

use std::borrow::Cow;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::DynamicResourceScope;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Reads an object's text.
pub(crate) type Read<K> = fn(&str) -> serde_json::Result<K>;

/// The text of an object, with what a watch asks of it: name, namespace, UID and version. `METADATA`: the API server is asked
/// for objects' metadata alone. It can be read where its kind of event is known before it, as every API server writes it.
#[derive(Clone)]
pub(crate) struct Item<const METADATA: bool> {
    metadata: ObjectMeta,
    text: Box<RawValue>,
}

impl<const METADATA: bool> Item<METADATA> {
    /// The object, as `read` reads it.
    ///
    /// # Errors
    /// It is no `K`. What it holds is not in the error's text: it may be a Secret.
    pub(crate) fn read<K>(&self, read: Read<K>) -> Result<K, Unreadable> {
        read(self.text.get()).map_err(|error| Unreadable {
            namespace: self.metadata.namespace.clone(),
            name: self.metadata.name.clone().unwrap_or_default(),
            revision: self.metadata.resource_version.clone().unwrap_or_default(),
            line: error.line(),
            column: error.column(),
        })
    }
}

/// An object that is none of its kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Unreadable {
    pub(crate) namespace: Option<String>,
    pub(crate) name: String,
    pub(crate) revision: String,
    /// Where reading ended. The parser's own words may hold a value.
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// The text stays out of logs.
impl<const METADATA: bool> fmt::Debug for Item<METADATA> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Item")
            .field("namespace", &self.metadata.namespace)
            .field("name", &self.metadata.name)
            .finish_non_exhaustive()
    }
}

/// The path of its collection stands for the kind: what else a kind has, no watch asks for.
impl<const METADATA: bool> Resource for Item<METADATA> {
    type DynamicType = String;
    type Scope = DynamicResourceScope;

    fn kind(_path: &String) -> Cow<'_, str> {
        Cow::Borrowed("")
    }
    fn group(_path: &String) -> Cow<'_, str> {
        Cow::Borrowed("")
    }
    fn version(_path: &String) -> Cow<'_, str> {
        Cow::Borrowed("")
    }
    fn plural(_path: &String) -> Cow<'_, str> {
        Cow::Borrowed("")
    }
    fn url_path(path: &String, _namespace: Option<&str>) -> String {
        path.clone()
    }
    fn metadata_api() -> bool {
        METADATA
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl<'de, const METADATA: bool> serde::Deserialize<'de> for Item<METADATA> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(from)?;
        let metadata = metadata(text.get());
        Ok(Self { metadata, text })
    }
}

/// What a watch asks of an object's metadata; what is not there or no text stays empty. It reads no further than it must:
/// most of an object stands after its metadata.
fn metadata(text: &str) -> ObjectMeta {
    let mut found = ObjectMeta::default();
    // An error says that all is found, or that this is no object: then nothing is.
    let _ = Top(&mut found).deserialize(&mut serde_json::Deserializer::from_str(text));
    found
}

/// An object, of which the metadata counts.
struct Top<'a>(&'a mut ObjectMeta);

impl<'de> DeserializeSeed<'de> for Top<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Top<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Cow<'_, str>>()? {
            if key == "metadata" {
                map.next_value_seed(Metadata(&mut *self.0))?;
                return Err(A::Error::custom("all is found"));
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

/// The metadata.
struct Metadata<'a>(&'a mut ObjectMeta);

impl<'de> DeserializeSeed<'de> for Metadata<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Metadata<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("metadata")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Cow<'_, str>>()? {
            let field = match &*key {
                "name" => &mut self.0.name,
                "namespace" => &mut self.0.namespace,
                "uid" => &mut self.0.uid,
                "resourceVersion" => &mut self.0.resource_version,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            *field = map.next_value()?;
            // Who set which field stands last, and is half of all, where Go has written it.
            let ObjectMeta {
                name: Some(_),
                namespace: Some(_),
                uid: Some(_),
                resource_version: Some(_),
                ..
            } = &self.0
            else {
                continue;
            };
            return Err(A::Error::custom("all is found"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> (Option<String>, Option<String>) {
        let found = metadata(text);
        (found.name, found.resource_version)
    }

    #[test]
    fn metadata_is_found_wherever_it_stands() {
        let whole = (Some("a".to_owned()), Some("7".to_owned()));
        assert_eq!(
            found(r#"{"metadata":{"name":"a","resourceVersion":"7"},"spec":{}}"#),
            whole
        );
        assert_eq!(
            found(r#"{"spec":{"metadata":{"name":"b"}},"metadata":{"resourceVersion":"7","x":[{}],"name":"a"}}"#),
            whole
        );
        assert_eq!(
            found(r#"{"met\u0061data":{"n\u0061me":"a","resourceVersion":"7"}}"#),
            whole
        );
    }

    #[test]
    fn what_is_no_object_has_no_name() {
        for text in [
            "null",
            "[]",
            "7",
            r#"{"metadata":7}"#,
            r#"{"metadata":{"name":7}}"#,
            "{}",
        ] {
            assert_eq!(found(text), (None, None), "{text}");
        }
    }

    #[test]
    fn an_error_and_debug_show_nothing_of_the_object() {
        use k8s_openapi::api::core::v1::Secret;
        let text = r#"{"metadata":{"name":"s","namespace":"n","resourceVersion":"7"},"data":"swordfish"}"#;
        let item: Item<false> = serde_json::from_str(text).unwrap();
        let error = item.read::<Secret>(|text| serde_json::from_str(text)).unwrap_err();
        assert_eq!((error.namespace.as_deref(), &*error.name), (Some("n"), "s"));
        assert!(!format!("{item:?}{error:?}").contains("swordfish"));
    }
}
