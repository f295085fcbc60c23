//! When requests are due. Pure.

use std::time::Duration;

const NANOS: u128 = 1_000_000_000;

/// An even rate, from request 0 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Requests a second, at least one.
    rate: u32,
    /// How many there are; None: no end.
    count: Option<u64>,
}

impl Schedule {
    /// Requests at `rate` a second for a time, up to a number, or (with both) until the first of the two is reached.
    #[must_use]
    pub fn new(rate: u32, duration: Option<Duration>, requests: Option<u64>) -> Self {
        let rate = rate.max(1);
        let in_time = duration.map(|duration| {
            // Request i is due at i/rate, so these are the i below duration * rate.
            let due = (duration.as_nanos() * u128::from(rate)).div_ceil(NANOS);
            u64::try_from(due).unwrap_or(u64::MAX)
        });
        let count = match (in_time, requests) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Self { rate, count }
    }

    /// When request `number` is due, counted from the start; None: there is no such request.
    #[must_use]
    pub fn due(&self, number: u64) -> Option<Duration> {
        if self.count.is_some_and(|count| number >= count) {
            return None;
        }
        let nanos = u128::from(number) * NANOS / u128::from(self.rate);
        let seconds = u64::try_from(nanos / NANOS).unwrap_or(u64::MAX);
        let rest = u32::try_from(nanos % NANOS).unwrap_or(0);
        Some(Duration::new(seconds, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_due_at_even_times_that_do_not_drift() {
        let schedule = Schedule::new(3, None, None);
        assert_eq!(schedule.due(0), Some(Duration::ZERO));
        assert_eq!(schedule.due(1), Some(Duration::from_nanos(333_333_333)));
        assert_eq!(schedule.due(3), Some(Duration::from_secs(1)));
        assert_eq!(schedule.due(3_000_000_000), Some(Duration::from_secs(1_000_000_000)));
    }

    #[test]
    fn a_duration_is_an_exact_number_of_requests() {
        for (rate, ms, requests, expected) in [
            (100, 10_000, None, 1000),
            (3, 1000, None, 3),
            (3, 1001, None, 4),
            (10, 50, None, 1),
            (100, 10_000, Some(7), 7),
            (100, 10, Some(7), 1),
        ] {
            let schedule = Schedule::new(rate, Some(Duration::from_millis(ms)), requests);
            assert!(schedule.due(expected - 1).is_some(), "{rate} {ms}");
            assert_eq!(schedule.due(expected), None, "{rate} {ms}");
        }
        assert_eq!(Schedule::new(1, Some(Duration::ZERO), None).due(0), None);
        assert_eq!(Schedule::new(1, None, Some(2)).due(2), None);
    }
}
