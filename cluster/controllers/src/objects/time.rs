//! Times as the API writes them, and how long it is until one.

use std::time::Duration;

/// A time as the API writes it.
pub(crate) use afloat_words::time::whole_seconds as seconds;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// A time as it comes back from the API server, so that statuses can be compared.
pub(crate) fn whole_seconds(now: Timestamp) -> Time {
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

/// Time from `now` to `at`, and a little more, so that it has passed then.
pub(crate) fn until(at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or_default() + Duration::from_millis(5)
}

/// Brings the time to look again forward to `at`, unless it is earlier already.
pub(crate) fn wake(wake_at: &mut Option<Timestamp>, at: Timestamp) {
    *wake_at = Some(wake_at.map_or(at, |earlier| earlier.min(at)));
}
