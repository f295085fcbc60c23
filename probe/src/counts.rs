//! What is counted of a mode. Pure.

use serde::Serialize;

/// The state of a mode's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Requests that were due and could be sent: answered, lost or under way.
    pub sent: u64,
    /// Those that got a good and complete answer.
    pub ok: u64,
    /// Those that did not.
    pub lost: LostByKind,
    /// Requests that were due and not sent, because too many were under way.
    pub skipped: u64,
    /// Requests that found their kept connection closed, or were told to go elsewhere, before they were processed; they were
    /// sent on another one and count once.
    pub reopened: u64,
}

/// Lost requests by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LostByKind {
    /// See [`crate::outcome::Kind::Refused`].
    pub refused: u64,
    /// See [`crate::outcome::Kind::Reset`].
    pub reset: u64,
    /// See [`crate::outcome::Kind::Timeout`].
    pub timeout: u64,
    /// See [`crate::outcome::Kind::ServerError`].
    #[serde(rename = "http-5xx")]
    pub server_error: u64,
    /// See [`crate::outcome::Kind::Other`].
    pub other: u64,
}

impl LostByKind {
    /// All together.
    #[must_use]
    pub fn total(self) -> u64 {
        self.refused + self.reset + self.timeout + self.server_error + self.other
    }
}

/// Milliseconds from when a request was due to its complete answer (of a stream: its first message).
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Latency {
    /// Half of the requests took at most that long.
    pub p50_ms: f64,
    /// 90 % did.
    pub p90_ms: f64,
    /// 99 % did.
    pub p99_ms: f64,
    /// 99.9 % did.
    pub p999_ms: f64,
    /// The slowest.
    pub max_ms: f64,
}
