//! Objects that are stored as those of another kind, in other words: which, their row says. Between the versions of custom resources:
//! [`custom`].

pub mod custom;

use serde_json::{Map, Value};

use crate::resource::{Resource, StoredAs};

fn stored_as(resource: &Resource) -> Option<StoredAs> {
    resource.builtin.and_then(|row| row.stored_as)
}

/// Whether objects of this resource are stored in other words than they are served in.
pub fn is_needed(resource: &Resource) -> bool {
    stored_as(resource).is_some()
}

/// Turns what a client sent into what is stored. Nothing happens for resources that are stored as they are.
pub fn to_storage(resource: &Resource, object: &mut Value) {
    if let (Some(other), Some(object)) = (stored_as(resource), object.as_object_mut()) {
        object.insert("apiVersion".into(), resource.storage_api_version().into());
        other.renamed.iter().for_each(|(own, its)| rename(object, own, its));
    }
}

/// Turns what is stored into what this resource serves.
pub fn from_storage(resource: &Resource, object: &mut Value) {
    if let (Some(other), Some(object)) = (stored_as(resource), object.as_object_mut()) {
        object.insert("apiVersion".into(), resource.api_version().into());
        other.renamed.iter().for_each(|(own, its)| rename(object, its, own));
    }
}

fn rename(object: &mut Map<String, Value>, from: &str, to: &str) {
    if let Some(value) = object.remove(from) {
        object.insert(to.to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::Registry;

    #[test]
    fn events_survive_the_way_into_the_store_and_back() {
        let registry = Registry::builtin();
        let new = registry.resolve("events.k8s.io", "v1", "events").unwrap();
        let event = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "regarding": {"name": "web-0"}, "note": "hi",
            "reportingController": "afloat", "reason": "Drained", "eventTime": "2026-11-22T07:00:00.000000Z"});
        let mut stored = event.clone();
        to_storage(&new, &mut stored);
        assert_eq!(stored["involvedObject"]["name"], "web-0");
        assert_eq!(
            (&stored["message"], &stored["apiVersion"]),
            (&json!("hi"), &json!("v1"))
        );
        from_storage(&new, &mut stored);
        assert_eq!(stored, event);
    }
}
