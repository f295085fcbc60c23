//! What the server does of its own accord: it takes old events away, and empties definitions that are being deleted.

mod emptying;

use std::sync::{Arc, Weak};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::write::stamp;
use crate::{ApiServer, Inner, view};

/// How often what may have been left over is looked for.
const HOUSEKEEPING: Duration = Duration::from_secs(30);

fn ticks() -> Interval {
    let mut ticks = interval(HOUSEKEEPING);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// The server, as long as somebody else has a handle of it.
fn upgrade(server: &Weak<Inner>) -> Option<ApiServer> {
    server.upgrade().map(|inner| ApiServer { inner })
}

impl ApiServer {
    /// Begins all of it. Ends by itself when the last handle of the server is gone.
    pub(crate) fn begin_background(&self) {
        tokio::spawn(expire_events(Arc::downgrade(&self.inner)));
        tokio::spawn(emptying::run(Arc::downgrade(&self.inner)));
    }

    /// Takes old events away, and the oldest of too many.
    async fn expire_events(&self) {
        let registry = self.registry();
        let Some(resource) = registry.resolve("", "v1", "events") else {
            return;
        };
        let options = &self.inner.options;
        let ttl = SignedDuration::try_from(options.event_ttl).unwrap_or(SignedDuration::MAX);
        let horizon = Timestamp::now().checked_sub(ttl).unwrap_or(Timestamp::MIN);
        let mut found: Vec<(Timestamp, String, u64, Value)> = Vec::new();
        for entry in self.inner.store.list(&view::prefix(&resource, None), None, 0).entries {
            let Ok(event) = serde_json::from_slice::<Value>(&entry.value) else {
                continue;
            };
            let seen = last_seen(&event).parse().unwrap_or(Timestamp::MIN);
            found.push((seen, entry.key.to_string(), entry.revision, event));
        }
        found.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        let surplus = found.len().saturating_sub(options.event_limit);
        for (n, (seen, key, revision, event)) in found.into_iter().enumerate() {
            if n >= surplus && seen >= horizon {
                break;
            }
            // Somebody may have counted it up meanwhile: then it stays.
            let _ = self.inner.store.delete(&key, Some(revision), stamp(event)).await;
        }
    }
}

async fn expire_events(server: Weak<Inner>) {
    let mut ticks = ticks();
    loop {
        ticks.tick().await;
        let Some(server) = upgrade(&server) else { return };
        server.expire_events().await;
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
