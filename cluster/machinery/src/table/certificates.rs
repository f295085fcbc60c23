//! Requests for certificates.

use serde_json::Value;

use super::age::{human, since_creation};
use super::read::list;
use crate::json::text;

pub(crate) fn request(object: &Value, now: &str) -> Vec<Value> {
    let has = |kind: &str| {
        let conditions = list(object.pointer("/status/conditions"));
        conditions.iter().any(|condition| text(condition.get("type")) == kind)
    };
    let mut state = match (has("Denied"), has("Approved")) {
        (true, _) => "Denied",
        (false, true) => "Approved",
        (false, false) => "Pending",
    }
    .to_owned();
    if has("Failed") {
        state.push_str(",Failed");
    }
    if !text(object.pointer("/status/certificate")).is_empty() {
        state.push_str(",Issued");
    }
    let seconds = object.pointer("/spec/expirationSeconds").and_then(Value::as_i64);
    vec![
        since_creation(object, now).into(),
        text(object.pointer("/spec/signerName")).into(),
        text(object.pointer("/spec/username")).into(),
        seconds.map_or_else(|| "<none>".to_owned(), human).into(),
        state.into(),
    ]
}
