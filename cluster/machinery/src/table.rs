//! `kubectl get` tables (`meta.k8s.io/v1` Table).

use serde_json::Value;

use crate::kinds::Resource;

/// Column definitions of a kind: `[{"name","type","format","description","priority"}]`.
pub fn columns(_resource: &Resource) -> Vec<Value> {
    Vec::new()
}

/// The cells of one object, in the order of [`columns`]. `now` is RFC 3339, for ages.
pub fn cells(_resource: &Resource, _object: &Value, _now: &str) -> Vec<Value> {
    Vec::new()
}
