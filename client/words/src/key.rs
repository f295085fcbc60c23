//! Which object of a kind: namespace and name.

use std::fmt;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Namespace and name of an object. Copies share their texts: a key is kept by caches, indexes and queues at once.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Empty for kinds that have none.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
}

impl Key {
    /// From its parts.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// Of an object.
    pub fn of(meta: &ObjectMeta) -> Self {
        Self::new(
            meta.namespace.as_deref().unwrap_or_default(),
            meta.name.as_deref().unwrap_or_default(),
        )
    }
}

/// `namespace/name`, or the name alone (as client-go's `MetaNamespaceKeyFunc` writes it).
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            return f.write_str(&self.name);
        }
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_named_by_namespace_and_name() {
        let meta = |namespace: Option<&str>| ObjectMeta {
            namespace: namespace.map(str::to_owned),
            name: Some("web".into()),
            ..ObjectMeta::default()
        };
        assert_eq!(Key::of(&meta(Some("shop"))), Key::new("shop", "web"));
        assert_eq!(Key::of(&meta(Some("shop"))).to_string(), "shop/web");
        assert_eq!(Key::of(&meta(None)).to_string(), "web");
        assert!(Key::new("a", "z") < Key::new("b", "a"), "by namespace first");
    }
}
