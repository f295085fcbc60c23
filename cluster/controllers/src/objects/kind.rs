//! What all kinds have in common: how an object is named, found and trimmed.

use std::sync::Arc;

pub(crate) use afloat_words::owner::controller_of;
use afloat_words::owner::controller_reference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

pub(crate) use afloat_words::annotation::LAST_APPLIED;
pub(crate) use afloat_words::key::Key;

/// A secondary key under which the cache finds objects without walking all of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Index {
    /// Controlled by the owner with this uid.
    Owner(Arc<str>),
    /// In this namespace and controlled by nobody.
    Orphan(Arc<str>),
    /// Bound to this node.
    Node(Arc<str>),
    /// In this namespace.
    Namespace(Arc<str>),
}

/// An object that a cache of the loops holds.
pub(crate) trait Kind:
    afloat_watching::kind::Kind<Wire = Self, Kept = Self, Index = Index>
    + Resource<DynamicType = ()>
    + Clone
    + DeserializeOwned
    + std::fmt::Debug
{
    /// Drops what no loop reads, before the object enters the cache.
    fn trim(&mut self) {}

    /// Where the cache finds this object again.
    fn found_under(&self) -> Vec<Index> {
        default_indexes(self.meta())
    }
}

pub(crate) fn default_indexes(meta: &ObjectMeta) -> Vec<Index> {
    let namespace: Arc<str> = meta.namespace.as_deref().unwrap_or_default().into();
    let by_owner = match controller_of(meta) {
        Some(owner) => Index::Owner(owner.uid.as_str().into()),
        None => Index::Orphan(namespace.clone()),
    };
    vec![Index::Namespace(namespace), by_owner]
}

/// An owner reference that makes `meta` the controller.
pub(crate) fn controlled_by<K: Resource<DynamicType = ()>>(meta: &ObjectMeta) -> Value {
    json!(controller_reference(&K::api_version(&()), &K::kind(&()), meta))
}

/// Implements `kube::Resource`, and what a cache asks, for a partial type with a `metadata` field.
macro_rules! partial_kind {
    ($type:ty, $group:literal, $kind:literal, $plural:literal, $scope:ty) => {
        partial_kind!($type, $group, "v1", $kind, $plural, $scope);
    };
    ($type:ty, $group:literal, $version:literal, $kind:literal, $plural:literal, $scope:ty) => {
        impl kube::Resource for $type {
            type DynamicType = ();
            type Scope = $scope;
            fn kind((): &()) -> std::borrow::Cow<'_, str> {
                std::borrow::Cow::Borrowed($kind)
            }
            fn group((): &()) -> std::borrow::Cow<'_, str> {
                std::borrow::Cow::Borrowed($group)
            }
            fn version((): &()) -> std::borrow::Cow<'_, str> {
                std::borrow::Cow::Borrowed($version)
            }
            fn plural((): &()) -> std::borrow::Cow<'_, str> {
                std::borrow::Cow::Borrowed($plural)
            }
            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }
            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
        impl afloat_watching::kind::Kind for $type {
            type Wire = Self;
            type Kept = Self;
            type Index = super::kind::Index;
            fn keep(mut wire: Self) -> Self {
                Kind::trim(&mut wire);
                wire
            }
            fn key(object: &Self) -> afloat_words::key::Key {
                afloat_words::key::Key::of(&object.metadata)
            }
            fn uid(object: &Self) -> &str {
                super::kind::uid_of(&object.metadata)
            }
            fn deleting(object: &Self) -> bool {
                object.metadata.deletion_timestamp.is_some()
            }
            fn indexes(object: &Self) -> Vec<Self::Index> {
                Kind::found_under(object)
            }
        }
    };
}
pub(crate) use partial_kind;

/// The value of an annotation.
pub(crate) fn annotation<'a>(meta: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(name).map(String::as_str)
}

/// The UID; empty for an object that has none yet.
pub(crate) fn uid_of(meta: &ObjectMeta) -> &str {
    meta.uid.as_deref().unwrap_or_default()
}
