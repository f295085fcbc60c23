//! Evictions that wait for a replacement of their pod. Kubernetes asks nobody for one (kubernetes #140599); here the eviction is answered
//! "later" until the workload has brought one and deleted the pod itself.

use afloat_api::names;
use jiff::{SignedDuration, Timestamp};

/// How long an eviction waits at most: then the pod goes as it would have gone without.
pub const LIMIT: SignedDuration = SignedDuration::from_mins(10);

/// When an evicted pod goes at the latest, by its annotation [`names::EVICTION_WAITS`]; None if that says no time.
pub fn end(since: &str) -> Option<Timestamp> {
    since.parse::<Timestamp>().ok()?.checked_add(LIMIT).ok()
}

/// What the annotation says from now on.
pub fn since(now: Timestamp) -> (&'static str, String) {
    let seconds = Timestamp::from_second(now.as_second()).unwrap_or(now);
    (names::EVICTION_WAITS, seconds.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_eviction_waits_for_so_long() {
        let now: Timestamp = "2026-01-01T00:00:00.5Z".parse().unwrap();
        let (_, text) = since(now);
        assert_eq!(end(&text).unwrap().to_string(), "2026-01-01T00:10:00Z");
        assert_eq!(end("x"), None);
    }
}
