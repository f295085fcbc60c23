//! How often pods have failed in one place lately: who fails at once, again and again, is replaced ever less often.
//!
//! The times are OpenKruise's (`flowcontrol.NewBackOff(1s, 15min)` in its DaemonSet controller): the first one is replaced at once, the
//! next a second after that, and each time the wait is twice as long. What has not failed for half an hour begins anew. Whoever
//! has not seen the earlier failures, as a new leader has not, begins anew, too.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

const FIRST: SignedDuration = SignedDuration::from_secs(1);
const LONGEST: SignedDuration = SignedDuration::from_mins(15);

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Failures {
    generation: i64,
    places: BTreeMap<String, (SignedDuration, Timestamp)>,
}

impl Failures {
    /// For that generation of the workload: another one may not fail.
    pub(crate) fn begin(&mut self, generation: i64) {
        if self.generation != generation {
            *self = Self {
                generation,
                ..Self::default()
            };
        }
    }

    /// When the next failure in a place is to be answered; None: now.
    pub(crate) fn held_until(&self, place: &str, now: Timestamp) -> Option<Timestamp> {
        let (wait, last) = self.places.get(place)?;
        let end = last.checked_add(*wait).ok()?;
        (end > now).then_some(end)
    }

    /// One is answered.
    pub(crate) fn note(&mut self, place: &str, now: Timestamp) {
        self.places
            .retain(|_, (_, last)| now.duration_since(*last) <= LONGEST * 2);
        let wait = self
            .places
            .get(place)
            .map_or(FIRST, |(wait, _)| (*wait * 2).min(LONGEST));
        self.places.insert(place.to_owned(), (wait, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ever_less_often() {
        let mut failures = Failures::default();
        let mut now = Timestamp::UNIX_EPOCH;
        let mut waits = Vec::new();
        for _ in 0..12 {
            assert_eq!(failures.held_until("n", now), None);
            failures.note("n", now);
            let until = failures.held_until("n", now).unwrap();
            waits.push(until.duration_since(now).as_secs());
            now = until;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]);
        assert_eq!(failures.held_until("other", now), None);
        now += LONGEST * 3;
        failures.note("n", now);
        assert_eq!(failures.held_until("n", now).unwrap().duration_since(now), FIRST);
        failures.begin(2);
        assert_eq!(failures.held_until("n", now), None);
    }
}
