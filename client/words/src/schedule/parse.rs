//! Reading a schedule.

use jiff::SignedDuration;

use super::{Fields, STAR, Schedule, ScheduleError, When, zone};

/// What a field may hold.
struct Bounds {
    min: u64,
    max: u64,
    /// Names of values, from `min` on.
    names: &'static [&'static str],
}

const MINUTES: Bounds = Bounds {
    min: 0,
    max: 59,
    names: &[],
};
const HOURS: Bounds = Bounds {
    min: 0,
    max: 23,
    names: &[],
};
const DAYS: Bounds = Bounds {
    min: 1,
    max: 31,
    names: &[],
};
const MONTHS: Bounds = Bounds {
    min: 1,
    max: 12,
    names: &[
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ],
};
const WEEKDAYS: Bounds = Bounds {
    min: 0,
    max: 6,
    names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
};

fn wrong(text: String) -> ScheduleError {
    ScheduleError(text)
}

impl Schedule {
    /// Reads a schedule: five fields, or one of `@yearly`, `@annually`, `@monthly`, `@weekly`, `@daily`, `@midnight`, `@hourly` and
    /// `@every 1h30m`.
    ///
    /// # Errors
    /// What is wrong, in Kubernetes' words.
    pub fn parse(text: &str) -> Result<Self, ScheduleError> {
        if text.is_empty() {
            return Err(wrong("empty spec string".to_owned()));
        }
        let (mut rest, mut own) = (text, None);
        let named = text.strip_prefix("TZ=").or_else(|| text.strip_prefix("CRON_TZ="));
        if let Some(named) = named {
            let (name, fields) = named.split_once(' ').unwrap_or((named, ""));
            own = zone(name);
            if own.is_none() {
                return Err(wrong(format!("provided bad location {name}: unknown time zone {name}")));
            }
            rest = fields.trim();
        }
        let when = if rest.starts_with('@') {
            described(rest)?
        } else {
            When::Fields(fields(rest)?)
        };
        Ok(Self { when, zone: own })
    }
}

fn described(text: &str) -> Result<When, ScheduleError> {
    let fields_of = match text {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        _ => {
            let period = text.strip_prefix("@every ");
            let period = period.ok_or_else(|| wrong(format!("unrecognized descriptor: {text}")))?;
            let period =
                duration(period).map_err(|error| wrong(format!("failed to parse duration {text}: {error}")))?;
            return Ok(When::Every(SignedDuration::from_secs(period.as_secs().max(1))));
        }
    };
    fields(fields_of).map(When::Fields)
}

fn fields(text: &str) -> Result<Fields, ScheduleError> {
    let parts: Vec<&str> = text.split_whitespace().collect();
    let [minute, hour, day, month, weekday] = parts[..] else {
        let (found, all) = (parts.len(), parts.join(" "));
        return Err(wrong(format!("expected exactly 5 fields, found {found}: [{all}]")));
    };
    Ok(Fields {
        minute: field(minute, &MINUTES)?,
        hour: field(hour, &HOURS)?,
        day: field(day, &DAYS)?,
        month: field(month, &MONTHS)?,
        weekday: field(weekday, &WEEKDAYS)?,
    })
}

/// Ranges with commas between them; empty ones are nothing.
fn field(text: &str, bounds: &Bounds) -> Result<u64, ScheduleError> {
    let ranges = text.split(',').filter(|range| !range.is_empty());
    ranges
        .map(|range| bits_of(range, bounds))
        .try_fold(0, |all, bits| Ok(all | bits?))
}

/// `*`, `?`, a value, or a range; each with a step or without.
fn bits_of(text: &str, bounds: &Bounds) -> Result<u64, ScheduleError> {
    let by_slash: Vec<&str> = text.split('/').collect();
    let by_hyphen: Vec<&str> = by_slash[0].split('-').collect();
    let mut star = 0;
    let (start, mut end) = if matches!(by_hyphen[0], "*" | "?") {
        star = STAR;
        (bounds.min, bounds.max)
    } else {
        let start = value(by_hyphen[0], bounds)?;
        match by_hyphen[..] {
            [_] => (start, start),
            [_, last] => (start, value(last, bounds)?),
            _ => return Err(wrong(format!("too many hyphens: {text}"))),
        }
    };
    let step = match by_slash[..] {
        [_] => 1,
        [_, step] => {
            let step = number(step)?;
            // "5/10" means "from 5 on".
            if by_hyphen.len() == 1 {
                end = bounds.max;
            }
            if step > 1 {
                star = 0;
            }
            step
        }
        _ => return Err(wrong(format!("too many slashes: {text}"))),
    };
    if start < bounds.min {
        let min = bounds.min;
        return Err(wrong(format!(
            "beginning of range ({start}) below minimum ({min}): {text}"
        )));
    }
    if end > bounds.max {
        let max = bounds.max;
        return Err(wrong(format!("end of range ({end}) above maximum ({max}): {text}")));
    }
    if start > end {
        return Err(wrong(format!(
            "beginning of range ({start}) beyond end of range ({end}): {text}"
        )));
    }
    let step = usize::try_from(step).unwrap_or(usize::MAX);
    if step == 0 {
        return Err(wrong(format!("step of range should be a positive number: {text}")));
    }
    Ok((start..=end).step_by(step).fold(star, |bits, value| bits | 1 << value))
}

fn value(text: &str, bounds: &Bounds) -> Result<u64, ScheduleError> {
    let named = bounds.names.iter().zip(bounds.min..);
    let found = named.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
    found.map_or_else(|| number(text), |(_, value)| Ok(value))
}

/// A number as Go's `strconv.Atoi` reads it.
fn number(text: &str) -> Result<u64, ScheduleError> {
    let failed = |why: &str| {
        wrong(format!(
            "failed to parse int from {text}: strconv.Atoi: parsing {text:?}: {why}"
        ))
    };
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(failed("invalid syntax"));
    }
    let number: i64 = text.parse().map_err(|_| failed("value out of range"))?;
    u64::try_from(number).map_err(|_| wrong(format!("negative number ({number}) not allowed: {text}")))
}

/// Nanoseconds of the units of Go's `time.ParseDuration`.
const UNITS: [(&str, i128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// A duration as Go's `time.ParseDuration` reads it: numbers with units, the numbers with a fraction or without.
fn duration(text: &str) -> Result<SignedDuration, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    if rest == "0" {
        return Ok(SignedDuration::ZERO);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut sum: i128 = 0;
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| c != '.' && !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let (amount, after) = rest.split_at(end);
        let (whole, fraction) = amount.split_once('.').unwrap_or((amount, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
            return Err(invalid());
        }
        let end = after
            .find(|c: char| c == '.' || c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {text:?}"));
        }
        let known = UNITS.iter().find(|(name, _)| *name == unit);
        let (_, unit) = known.ok_or_else(|| format!("time: unknown unit {unit:?} in duration {text:?}"))?;
        // More digits of a fraction than these are less than a nanosecond.
        let fraction: String = fraction.chars().chain("000000000000000".chars()).take(15).collect();
        let parse = |digits: &str| {
            if digits.is_empty() {
                Some(0)
            } else {
                digits.parse::<i128>().ok()
            }
        };
        let fits = |part: &i128| *part <= i128::from(i64::MAX);
        let part = parse(whole)
            .and_then(|whole| whole.checked_mul(*unit))
            .filter(fits)
            .ok_or_else(invalid)?;
        sum += part + parse(&fraction).ok_or_else(invalid)? * unit / 1_000_000_000_000_000;
        if sum > i128::from(i64::MAX) {
            return Err(invalid());
        }
        rest = after;
    }
    let sign = if text.starts_with('-') { -1 } else { 1 };
    i64::try_from(sum * sign)
        .map(SignedDuration::from_nanos)
        .map_err(|_| invalid())
}
