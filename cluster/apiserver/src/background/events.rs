//! Events are kept for a time, and not too many.

use std::sync::Weak;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::ticks::ticks;
use crate::view;
use crate::write::Writer;

/// Ends when the last handle of the server is gone.
pub(super) async fn run(writer: Weak<Writer>, ttl: Duration, limit: usize) {
    let mut ticks = ticks();
    loop {
        ticks.tick().await;
        let Some(writer) = writer.upgrade() else { return };
        expire(&writer, ttl, limit).await;
    }
}

/// Takes old events away, and the oldest of too many.
async fn expire(writer: &Writer, ttl: Duration, limit: usize) {
    let registry = writer.reader().registry();
    let Some(resource) = registry.resolve("", "v1", "events") else {
        return;
    };
    let ttl = SignedDuration::try_from(ttl).unwrap_or(SignedDuration::MAX);
    let horizon = Timestamp::now().checked_sub(ttl).unwrap_or(Timestamp::MIN);
    let mut found: Vec<(Timestamp, String, u64, Value)> = Vec::new();
    for entry in writer.reader().all(&resource, None).entries {
        let Ok(event) = serde_json::from_slice::<Value>(&entry.value) else {
            continue;
        };
        let seen = last_seen(&event).parse().unwrap_or(Timestamp::MIN);
        found.push((seen, entry.key.to_string(), entry.revision, event));
    }
    found.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    let surplus = found.len().saturating_sub(limit);
    for (n, (seen, key, revision, event)) in found.into_iter().enumerate() {
        if n >= surplus && seen >= horizon {
            break;
        }
        // Somebody may have counted it up meanwhile: then it stays.
        let _ = writer.discard(&key, revision, event).await;
    }
}

/// When an event last happened, RFC 3339; falls back to its creation.
fn last_seen(event: &Value) -> &str {
    let candidates = [
        &event["series"]["lastObservedTime"],
        &event["lastTimestamp"],
        &event["eventTime"],
    ];
    let last = candidates.into_iter().filter_map(Value::as_str).find(|t| !t.is_empty());
    last.unwrap_or_else(|| view::meta(event, "creationTimestamp"))
}
