//! An object of a list or a watch, readable or not.
//!
//! What one client may store another need not be able to read: an older server checked less, another kind of server has other
//! types. One such object must not spoil the list that it is in.

use std::borrow::Cow;

use kube::core::{DynamicResourceScope, ObjectMeta};
use kube::runtime::watcher;
use serde::de::{DeserializeOwned, Deserializer};
use serde_json::Value;

/// An object that can be read as a `K`, or one that cannot. Lists and watches of this never fail for want of reading.
#[derive(Clone, Debug)]
pub enum Item<K> {
    /// The object.
    Readable(K),
    /// Its name, namespace, uid, version and deletion, as far as they can be read, and why the rest cannot, without any of its
    /// values: it may be a Secret.
    Unreadable(ObjectMeta, String),
}

impl<'de, K: DeserializeOwned> serde::Deserialize<'de> for Item<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Ok(match K::deserialize(&value) {
            Ok(object) => Self::Readable(object),
            Err(error) => Self::Unreadable(salvaged(&value), without_values(&error)),
        })
    }
}

impl<K: kube::Resource> kube::Resource for Item<K> {
    type DynamicType = K::DynamicType;
    // Which it is the URL says, for those who make an `Api` of it.
    type Scope = DynamicResourceScope;

    fn kind(kind: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(kind)
    }

    fn group(kind: &Self::DynamicType) -> Cow<'_, str> {
        K::group(kind)
    }

    fn version(kind: &Self::DynamicType) -> Cow<'_, str> {
        K::version(kind)
    }

    fn plural(kind: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(kind)
    }

    fn metadata_api() -> bool {
        K::metadata_api()
    }

    fn meta(&self) -> &ObjectMeta {
        match self {
            Self::Readable(object) => object.meta(),
            Self::Unreadable(metadata, _) => metadata,
        }
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        match self {
            Self::Readable(object) => object.meta_mut(),
            Self::Unreadable(metadata, _) => metadata,
        }
    }
}

fn salvaged(object: &Value) -> ObjectMeta {
    let text = |field: &str| object["metadata"][field].as_str().map(str::to_owned);
    ObjectMeta {
        name: text("name"),
        namespace: text("namespace"),
        uid: text("uid"),
        resource_version: text("resourceVersion"),
        deletion_timestamp: serde_json::from_value(object["metadata"]["deletionTimestamp"].clone()).ok(),
        ..ObjectMeta::default()
    }
}

/// Whether a watch broke because something could not be read.
pub(crate) fn is_unreadable(error: &watcher::Error) -> bool {
    use kube::Error::SerdeError;
    use watcher::Error::{InitialListFailed, WatchFailed, WatchStartFailed};
    matches!(
        error,
        InitialListFailed(SerdeError(_)) | WatchStartFailed(SerdeError(_)) | WatchFailed(SerdeError(_))
    )
}

/// What a reader says of something that it cannot read, without the value: `invalid type: string, expected a map`.
pub fn without_values(error: &serde_json::Error) -> String {
    let said = error.to_string();
    let Some((what, rest)) = said.split_once(['"', '`']) else {
        return said;
    };
    match (what.starts_with("invalid "), rest.rsplit_once(", expected ")) {
        (true, Some((_, expected))) => format!("{}, expected {expected}", what.trim_end()),
        // Names of fields and variants are no values.
        _ if ["missing ", "duplicate "].iter().any(|start| what.starts_with(start)) => said,
        _ => what.trim_end().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Secret, Service};
    use serde_json::json;

    use super::*;

    #[test]
    fn what_cannot_be_read_is_told_without_its_values() {
        let cases = [
            (json!({"data": "hunter2"}), "invalid type: string, expected a map"),
            (
                json!({"data": "a\", expected b"}),
                "invalid type: string, expected a map",
            ),
            (json!({"data": 123_456}), "invalid type: integer, expected a map"),
            (
                json!({"stringData": {"pin": 4711}}),
                "invalid type: integer, expected a string",
            ),
            (
                json!({"metadata": {"ownerReferences": "hunter2"}}),
                "invalid type: string, expected a sequence",
            ),
        ];
        for (mut object, expected) in cases {
            object["metadata"]["name"] = "s".into();
            let item: Item<Secret> = serde_json::from_value(object).unwrap();
            let Item::Unreadable(metadata, why) = item else {
                panic!("{item:?}")
            };
            assert_eq!((metadata.name.as_deref(), why.as_str()), (Some("s"), expected));
        }
        let good: Item<Service> = serde_json::from_value(json!({"metadata": {"name": "s"}})).unwrap();
        assert!(matches!(good, Item::Readable(_)));
    }
}
