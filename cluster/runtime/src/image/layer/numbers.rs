//! Numbers as a tar has them. Pure.

use std::io;

use super::invalid::{invalid, shown};

/// A number of a header: octal, or GNU's binary where the first bit is set. An empty field is 0.
pub(super) fn number(field: &[u8]) -> io::Result<i64> {
    let bad = || invalid(format!("{:?} is no number", shown(field)));
    match field {
        [first, rest @ ..] if first & 0x80 != 0 => {
            let negative = first & 0x40 != 0;
            let start = i128::from(if negative { first | 0x80 } else { first & 0x7f });
            let start = if negative { start - 256 } else { start };
            let add = |sum: i128, byte: &u8| sum.checked_mul(256).map(|sum| sum + i128::from(*byte));
            let sum = rest.iter().try_fold(start, add);
            sum.and_then(|sum| i64::try_from(sum).ok()).ok_or_else(bad)
        }
        _ => {
            let filling = |byte: &u8| matches!(byte, 0 | b' ');
            let mut words = field.split(filling).filter(|word| !word.is_empty());
            let Some(word) = words.next() else { return Ok(0) };
            let text = std::str::from_utf8(word).map_err(|_| bad())?;
            i64::from_str_radix(text, 8).map_err(|_| bad())
        }
    }
}

/// A decimal number as PAX records have them.
pub(super) fn decimal(value: &[u8]) -> io::Result<u64> {
    let text = std::str::from_utf8(value).ok().map(str::trim);
    let number = text.and_then(|text| text.parse::<i64>().ok());
    number
        .and_then(|number| u64::try_from(number).ok())
        .ok_or_else(|| invalid(format!("{:?} is no number", shown(value))))
}

pub(super) fn unsigned(number: i64) -> io::Result<u64> {
    u64::try_from(number).map_err(|_| invalid(format!("{number} is no size")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_binary() {
        for (field, expected) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"\x80\0\0\0\0\x20\0\0", Some(0x20_0000)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
            (b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
            (b"0000648\0", None),
            (b"x", None),
        ] {
            assert_eq!(number(field).ok(), expected, "{field:?}");
        }
    }
}
