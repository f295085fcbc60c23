//! `events.k8s.io/v1` events and core events are the same objects in other words; they are stored as core events.
//!
//! kube-runtime's recorder writes the former, `kubectl describe` and `kubectl get events` read the latter.

use serde_json::{Map, Value};

use crate::kinds::Resource;

/// New name (`events.k8s.io/v1`), core name. Everything else has the same name in both.
const NAMES: &[(&str, &str)] = &[
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];

/// Whether objects of this resource are stored in other words than they are served in.
pub fn is_needed(resource: &Resource) -> bool {
    resource.storage_group != resource.group
}

/// Turns what a client sent into what is stored. Nothing happens for resources that are stored as they are.
pub fn to_storage(resource: &Resource, object: &mut Value) {
    if is_needed(resource)
        && let Some(object) = object.as_object_mut()
    {
        object.insert("apiVersion".into(), "v1".into());
        NAMES.iter().for_each(|(new, core)| rename(object, new, core));
    }
}

/// Turns what is stored into what this resource serves.
pub fn from_storage(resource: &Resource, object: &mut Value) {
    if is_needed(resource)
        && let Some(object) = object.as_object_mut()
    {
        object.insert("apiVersion".into(), resource.api_version().into());
        NAMES.iter().for_each(|(new, core)| rename(object, core, new));
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
