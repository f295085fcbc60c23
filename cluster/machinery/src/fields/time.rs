//! Times as Kubernetes reads them: RFC 3339, to the second or with six digits of a fraction.

/// What Go's layout has, piece by piece, in its own words; a number has its least and its largest value.
const PIECES: [(&str, Option<(u32, u32)>); 11] = [
    ("2006", Some((0, 9999))),
    ("-", None),
    ("01", Some((1, 12))),
    ("-", None),
    ("02", Some((1, 31))),
    ("T", None),
    ("15", Some((0, 23))),
    (":", None),
    ("04", Some((0, 59))),
    (":", None),
    ("05", Some((0, 59))),
];
/// What Go calls those numbers.
const NAMES: [&str; 11] = ["year", "", "month", "", "day", "", "hour", "", "minute", "", "second"];

/// Reads a time, with six digits of a fraction if `micros`.
///
/// Differs from Go where that takes more than RFC 3339 does: an hour of one digit, a comma before the fraction.
///
/// # Errors
/// What is wrong with it, as Go says it.
pub(super) fn check(text: &str, micros: bool) -> Result<(), String> {
    let layout = if micros {
        "2006-01-02T15:04:05.000000Z07:00"
    } else {
        "2006-01-02T15:04:05Z07:00"
    };
    let wrong = |rest: &str, wanted: &str| {
        Err(format!(
            "parsing time {text:?} as {layout:?}: cannot parse {rest:?} as {wanted:?}"
        ))
    };
    let mut rest = text;
    for ((piece, range), name) in PIECES.into_iter().zip(NAMES) {
        let Some((head, tail)) = rest.split_at_checked(piece.len()) else {
            return wrong(rest, piece);
        };
        match range {
            None if head != piece => return wrong(rest, piece),
            Some((least, largest)) => match number(head) {
                None => return wrong(rest, piece),
                Some(n) if n < least || n > largest => {
                    return Err(format!("parsing time {text:?}: {name} out of range"));
                }
                Some(_) => {}
            },
            None => {}
        }
        rest = tail;
    }
    let digits = rest
        .strip_prefix('.')
        .map_or(0, |more| more.bytes().take_while(u8::is_ascii_digit).count());
    if micros && digits != 6 {
        return wrong(rest, ".000000");
    }
    if digits > 0 {
        rest = &rest[1 + digits..];
    }
    if !is_zone(rest) {
        return wrong(rest, "Z07:00");
    }
    match text.parse::<jiff::Timestamp>() {
        Ok(_) => Ok(()),
        Err(_) => Err(format!("parsing time {text:?}: day out of range")),
    }
}

/// A number of digits alone.
fn number(digits: &str) -> Option<u32> {
    digits
        .bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| digits.parse().ok())?
}

/// `Z`, or hours and minutes east or west of it.
fn is_zone(text: &str) -> bool {
    let offset = || {
        let (hours, minutes) = text.strip_prefix(['+', '-'])?.split_once(':')?;
        let two = |digits: &str, largest| digits.len() == 2 && number(digits).is_some_and(|n| n <= largest);
        Some(two(hours, 23) && two(minutes, 59))
    };
    text == "Z" || offset().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339() {
        for good in [
            "2020-02-29T23:59:59Z",
            "2020-01-01T00:00:00.5+05:30",
            "0001-01-01T00:00:00Z",
        ] {
            assert_eq!(check(good, false), Ok(()), "{good}");
        }
        assert_eq!(check("2020-01-01T00:00:00.000000Z", true), Ok(()));
        let said = |text, micros| check(text, micros).unwrap_err();
        assert_eq!(
            said("x", false),
            r#"parsing time "x" as "2006-01-02T15:04:05Z07:00": cannot parse "x" as "2006""#
        );
        assert_eq!(
            said("2020-13-01T00:00:00Z", false),
            r#"parsing time "2020-13-01T00:00:00Z": month out of range"#
        );
        assert_eq!(
            said("2021-02-29T00:00:00Z", false),
            r#"parsing time "2021-02-29T00:00:00Z": day out of range"#
        );
        assert!(said("2020-01-01T00:00:00Z", true).ends_with(r#"cannot parse "Z" as ".000000""#));
        for bad in [
            "",
            "2020-01-01",
            "2020-01-01 00:00:00Z",
            "2020-01-01T00:00:00",
            "2020-01-01T00:00:60Z",
            "2020-01-01T00:00:00+25:00",
            "2020-01-01T00:00:00ä",
            "2020é01-01T00:00:00Z",
        ] {
            assert!(check(bad, false).is_err(), "{bad}");
        }
    }
}
