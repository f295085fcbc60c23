//! Back-off as the kubelet counts it: the first repetition is free, the second waits `first` after the end of the
//! attempt before, then twice as long each time up to `max`; quiet for `2 × max` and it is forgotten.

use std::time::Duration;

use jiff::Timestamp;

use crate::clock::{later, since};

/// Bounds of a back-off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackOffLimits {
    /// The first wait.
    pub first: Duration,
    /// The longest wait.
    pub max: Duration,
}

impl Default for BackOffLimits {
    /// Kubernetes' 10 s doubling to 300 s.
    fn default() -> Self {
        Self {
            first: Duration::from_secs(10),
            max: Duration::from_secs(300),
        }
    }
}

/// One thing's back-off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BackOff {
    entry: Option<(Duration, Timestamp)>,
}

impl BackOff {
    /// The wait that counts now, if any.
    pub(crate) fn duration(&self) -> Option<Duration> {
        self.entry.map(|(duration, _)| duration)
    }

    /// When the next attempt may be made, the last one having ended at `ended`; None: at once.
    pub(crate) fn until(&self, ended: Timestamp, limits: BackOffLimits) -> Option<Timestamp> {
        let (duration, updated) = self.entry?;
        if since(ended, updated) > limits.max * 2 {
            return None;
        }
        Some(later(ended, duration))
    }

    /// An attempt is made at `now`, after one that ended at `ended`.
    pub(crate) fn next(&mut self, ended: Timestamp, now: Timestamp, limits: BackOffLimits) {
        let duration = match self.entry {
            Some((duration, updated)) if since(ended, updated) <= limits.max * 2 => (duration * 2).min(limits.max),
            _ => limits.first,
        };
        self.entry = Some((duration, now));
    }

    /// Forgets everything: the thing is another one now.
    pub(crate) fn reset(&mut self) {
        self.entry = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_to_its_limit_and_forgets_after_ten_minutes() {
        let limits = BackOffLimits::default();
        let mut back_off = BackOff::default();
        let mut now = Timestamp::UNIX_EPOCH;
        let mut waits = vec![];
        for _ in 0..8 {
            // ends as soon as it is started
            let ready = back_off.until(now, limits).unwrap_or(now);
            waits.push(since(ready, now).as_secs());
            back_off.next(now, ready, limits);
            now = ready;
        }
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
        now = later(now, Duration::from_secs(601));
        assert_eq!(back_off.until(now, limits), None);
        back_off.next(now, now, limits);
        assert_eq!(back_off.duration(), Some(limits.first));
    }
}
