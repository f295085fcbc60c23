//! Which time of its schedule a CronJob has not served yet, and when the next one comes: Kubernetes' reckoning, which asks the
//! schedule for few times only, however long ago the last one was.

use afloat_words::schedule::Schedule;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// So many missed times are told to the user.
const MANY: i64 = 100;
/// A turn comes so much after its time, for clocks that are a little apart.
const DELTA: SignedDuration = SignedDuration::from_millis(100);

/// Times of a schedule.
pub(super) struct Times<'a> {
    pub(super) schedule: &'a Schedule,
    pub(super) zone: &'a TimeZone,
    /// The last time that was served, or when it all began.
    pub(super) since: Timestamp,
}

/// What has come due.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Missed {
    /// The last time that is due.
    pub(super) time: Option<Timestamp>,
    /// Whether anything came due.
    pub(super) any: bool,
    /// Whether so much did that something may be wrong with a clock.
    pub(super) many: bool,
}

/// The schedule has no times, as on 30 February.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Never;

impl Times<'_> {
    fn next(&self, after: Timestamp) -> Option<Timestamp> {
        self.schedule.next(after, self.zone)
    }

    /// What came due after `since`, by `now`.
    pub(super) fn missed(&self, since: Timestamp, now: Timestamp) -> Result<Missed, Never> {
        let none = Missed {
            time: None,
            any: false,
            many: false,
        };
        let first = self.next(since).ok_or(Never)?;
        if now < first {
            return Ok(none);
        }
        let second = self.next(first).ok_or(Never)?;
        if now < second {
            return Ok(Missed {
                time: Some(first),
                ..none
            });
        }
        let between = second.as_second() - first.as_second();
        if between < 1 {
            return Err(Never);
        }
        // About as many as fit in, were all as far apart as the first two.
        let number = (now.as_second() - first.as_second()) / between + 1;
        let near = SignedDuration::from_secs(number.saturating_sub(2).saturating_mul(between));
        let mut time = None;
        let mut at = first.checked_add(near).ok().and_then(|near| self.next(near));
        while let Some(due) = at.filter(|due| *due <= now) {
            time = Some(due);
            at = self.next(due);
        }
        Ok(Missed {
            time,
            any: true,
            many: number > MANY,
        })
    }

    /// When to look again.
    pub(super) fn wake_at(&self, now: Timestamp) -> Option<Timestamp> {
        let from = match self.missed(self.since, now) {
            Ok(Missed { time: Some(time), .. }) => time,
            Ok(Missed { any: false, .. }) => self.since,
            Ok(_) | Err(Never) => now,
        };
        self.next(from)?.checked_add(DELTA).ok()
    }
}
