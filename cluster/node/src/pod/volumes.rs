//! When a pod's volumes are to be looked at again. Pure.

use std::time::Duration;

use jiff::Timestamp;

use crate::clock::{later, since};

/// emptyDirs with a limit are measured this often (the kubelet's `housekeeping` of its eviction manager).
pub(crate) const MEASURE: Duration = Duration::from_secs(10);
/// No token is kept for longer, however long it is good for (the kubelet's rule).
const TOKEN_KEPT: Duration = Duration::from_secs(24 * 3600);
/// Before files that could not be brought up to date are tried again; a change of what they come from comes first.
const RETRY_FIRST: Duration = Duration::from_secs(2);
const RETRY_LAST: Duration = Duration::from_secs(120);

/// What is known of a pod's volumes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Volumes {
    /// Something that files show has changed.
    pub(crate) stale: bool,
    /// The first of the pod's tokens is to be renewed then.
    pub(crate) renew_at: Option<Timestamp>,
    /// Bringing them up to date failed; try again then.
    pub(crate) retry_at: Option<Timestamp>,
    pub(crate) failures: u32,
    /// Measure emptyDirs then; None: none has a limit.
    pub(crate) measure_at: Option<Timestamp>,
    /// One was too large: the sentence about it.
    pub(crate) excess: Option<String>,
}

impl Volumes {
    /// What files show has changed: a failure of before does not count any more.
    pub(crate) fn changed(&mut self) {
        self.stale = true;
        self.retry_at = None;
    }

    /// They were brought up to date, or not.
    pub(crate) fn refreshed(&mut self, good: bool, now: Timestamp) {
        if good {
            (self.failures, self.retry_at) = (0, None);
            return;
        }
        let wait = RETRY_FIRST.saturating_mul(1 << self.failures.min(10)).min(RETRY_LAST);
        self.failures = self.failures.saturating_add(1);
        (self.stale, self.retry_at) = (true, Some(later(now, wait)));
    }
}

/// When a token that was given at `now` and ends at `end` is to be renewed: after 80 % of its life, or a day.
pub(crate) fn renewal(now: Timestamp, end: Timestamp) -> Timestamp {
    later(now, (since(end, now) * 4 / 5).min(TOKEN_KEPT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    #[test]
    fn tokens_are_renewed_in_time() {
        assert_eq!(renewal(at(0), at(3600)), at(2880));
        assert_eq!(renewal(at(0), at(30 * 86_400)), at(86_400));
        assert_eq!(renewal(at(0), at(-5)), at(0));
    }

    #[test]
    fn failures_are_retried_later_and_later_but_a_change_comes_at_once() {
        let mut volumes = Volumes::default();
        volumes.refreshed(false, at(0));
        assert_eq!((volumes.stale, volumes.retry_at), (true, Some(at(2))));
        volumes.refreshed(false, at(2));
        assert_eq!(volumes.retry_at, Some(at(6)));
        for _ in 0..20 {
            volumes.refreshed(false, at(6));
        }
        assert_eq!(volumes.retry_at, Some(at(126)));
        volumes.changed();
        assert_eq!(volumes.retry_at, None);
        volumes.refreshed(true, at(7));
        assert_eq!(volumes.failures, 0);
    }
}
