//! Amounts of bytes as people write them: `200MB`, `50MB/s`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Units, as powers of 1000 and of 1024.
const UNITS: [(&str, u64); 8] = [
    ("B", 1),
    ("kB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KB", 1000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];
/// The largest layer: it is on the disk once for the registry and once for each node.
const LAYER_MAX: u64 = 10_000_000_000;
/// With less, a test of a byte would take minutes.
const BANDWIDTH_MIN: u64 = 1000;

/// An amount of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Bytes(pub(super) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS[..4].iter().rev().find(|(_, size)| self.0 >= *size);
        let (name, size) = unit.unwrap_or(&UNITS[0]);
        #[allow(clippy::cast_precision_loss)] // shown with one digit
        let number = self.0 as f64 / *size as f64;
        write!(to, "{}{name}", (number * 10.0).round() / 10.0)
    }
}

/// `200MB`, `1.5GiB`; never nothing.
pub(super) fn parse_layer(text: &str) -> Result<Bytes, String> {
    let bytes = bytes(text)?;
    if bytes.0 > LAYER_MAX {
        return Err(format!(
            "{bytes} is more than the {} that a layer may have",
            Bytes(LAYER_MAX)
        ));
    }
    Ok(bytes)
}

/// `50MB/s`.
pub(super) fn parse_bandwidth(text: &str) -> Result<Bytes, String> {
    let amount = text
        .strip_suffix("/s")
        .ok_or("needs an amount a second such as 50MB/s (bytes, not bits)")?;
    let bytes = bytes(amount)?;
    if bytes.0 < BANDWIDTH_MIN {
        return Err(format!("less than {}/s would never end", Bytes(BANDWIDTH_MIN)));
    }
    Ok(bytes)
}

fn bytes(text: &str) -> Result<Bytes, String> {
    let units = || UNITS.map(|(name, _)| name).join(", ");
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: f64 = number
        .parse()
        .map_err(|_| format!("needs a number with a unit ({}) such as 200MB", units()))?;
    let size = UNITS.iter().find(|(name, _)| *name == unit.trim_start());
    let Some((_, size)) = size else {
        return Err(match unit.trim_start() {
            "" => format!("needs a unit: {}", units()),
            other => format!("{other:?} is no unit; there are {}", units()),
        });
    };
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss
    )] // digits have no sign, and a cast ends at the largest number
    let bytes = (number * *size as f64).round() as u64;
    if bytes == 0 {
        return Err("needs at least one byte".to_owned());
    }
    Ok(Bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_units() {
        for (text, bytes) in [
            ("200MB", 200_000_000),
            ("1.5GiB", 3 << 29),
            ("64 KiB", 1 << 16),
            ("10kB", 10_000),
            ("7B", 7),
        ] {
            assert_eq!(parse_layer(text), Ok(Bytes(bytes)), "{text}");
        }
        assert_eq!(parse_bandwidth("50MB/s"), Ok(Bytes(50_000_000)));
        for (text, says) in [
            ("200", "needs a unit"),
            ("200Mb", "is no unit"),
            ("MB", "needs a number"),
            ("-1MB", "needs a number"),
            ("1.2.3MB", "needs a number"),
            ("0MB", "at least one byte"),
            ("11GB", "more than the 10GB"),
            ("", "needs a number"),
        ] {
            let error = parse_layer(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
        for (text, says) in [
            ("50MB", "a second"),
            ("400Mbit/s", "is no unit"),
            ("10B/s", "never end"),
        ] {
            let error = parse_bandwidth(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn amounts_are_shown_as_they_are_written() {
        for text in ["200MB", "1.5GB", "10kB", "7B"] {
            assert_eq!(parse_layer(text).unwrap().to_string(), text);
        }
    }
}
