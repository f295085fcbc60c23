//! Events have two faces, `v1` and `events.k8s.io/v1`, over one stored form (the former), so that what a controller
//! reports through the one is seen by `kubectl describe` through the other. Field for field the original's conversion.

use afloat_machinery::kinds::Resource;
use serde_json::Value;

/// New name (`events.k8s.io/v1`), stored name (`v1`).
const RENAMED: [(&str, &str); 7] = [
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];

pub(crate) fn is_new_events(resource: &Resource) -> bool {
    resource.group == "events.k8s.io" && resource.plural == "events"
}

pub(crate) fn to_core(object: &mut Value) {
    rename(object, RENAMED.map(|(new, core)| (new, core)));
}

pub(crate) fn to_new(object: &mut Value) {
    rename(object, RENAMED.map(|(new, core)| (core, new)));
}

fn rename(object: &mut Value, pairs: [(&str, &str); 7]) {
    let Some(map) = object.as_object_mut() else { return };
    for (from, to) in pairs {
        if let Some(value) = map.remove(from) {
            map.insert(to.to_owned(), value);
        }
    }
}

/// When an event last happened, RFC 3339; falls back to its creation.
pub(crate) fn last_seen(event: &Value) -> &str {
    let candidates = [
        &event["series"]["lastObservedTime"],
        &event["lastTimestamp"],
        &event["eventTime"],
    ];
    let last = candidates.into_iter().filter_map(Value::as_str).find(|t| !t.is_empty());
    last.unwrap_or_else(|| crate::view::meta(event, "creationTimestamp"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_faces_show_the_same_event() {
        let new = json!({"regarding": {"name": "p"}, "note": "hi", "reason": "R", "reportingController": "c"});
        let mut event = new.clone();
        to_core(&mut event);
        assert_eq!(
            event,
            json!({"involvedObject": {"name": "p"}, "message": "hi", "reason": "R", "reportingComponent": "c"})
        );
        to_new(&mut event);
        assert_eq!(event, new);
    }
}
