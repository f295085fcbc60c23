//! What all kinds have in common: how an object is named, found and trimmed.

pub(crate) use afloat_words::owner::controller_of;
use afloat_words::owner::controller_reference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Annotation in which `kubectl apply` keeps what it applied last.
pub(crate) const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Namespace (empty for cluster-scoped kinds) and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Key {
    pub(crate) fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    pub(crate) fn of(meta: &ObjectMeta) -> Self {
        Self {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
        }
    }
}

/// A secondary key under which the cache finds objects without walking all of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Index {
    /// Controlled by the owner with this uid.
    Owner(String),
    /// In this namespace and controlled by nobody.
    Orphan(String),
    /// Bound to this node.
    Node(String),
    /// In this namespace.
    Namespace(String),
}

/// An object that a cache of the loops holds.
pub(crate) trait Kind:
    Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + Sync + 'static
{
    /// Drops what no loop reads, before the object enters the cache.
    fn trim(&mut self) {
        trim_metadata(self.meta_mut());
    }

    /// Where the cache finds this object again.
    fn indexes(&self) -> Vec<Index> {
        default_indexes(self.meta())
    }
}

/// Drops what no loop reads of any kind: who set which field, and kubectl's copy of the whole object.
pub(crate) fn trim_metadata(meta: &mut ObjectMeta) {
    meta.managed_fields = None;
    meta.self_link = None;
    if let Some(annotations) = &mut meta.annotations {
        annotations.remove(LAST_APPLIED);
    }
}

pub(crate) fn default_indexes(meta: &ObjectMeta) -> Vec<Index> {
    let namespace = meta.namespace.clone().unwrap_or_default();
    let by_owner = match controller_of(meta) {
        Some(owner) => Index::Owner(owner.uid.clone()),
        None => Index::Orphan(namespace.clone()),
    };
    vec![Index::Namespace(namespace), by_owner]
}

/// An owner reference that makes `meta` the controller.
pub(crate) fn controlled_by<K: Resource<DynamicType = ()>>(meta: &ObjectMeta) -> Value {
    json!(controller_reference(&K::api_version(&()), &K::kind(&()), meta))
}

/// Implements `kube::Resource` for a partial type with a `metadata` field.
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
    };
}
pub(crate) use partial_kind;

/// The value of an annotation.
pub(crate) fn annotation<'a>(meta: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(name).map(String::as_str)
}
