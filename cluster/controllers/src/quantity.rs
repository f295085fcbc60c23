//! Kubernetes quantities ("250m", "1Gi") as whole numbers, for the scheduler's sums.

/// Thousandths of the unit, rounded up: `1` → 1000, `250m` → 250, `1Ki` → 1 024 000.
///
/// `None` if the text is not a quantity. Values beyond `i64` saturate: such a request fits nowhere, which is what it means.
pub(crate) fn milli(text: &str) -> Option<i64> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '+' || c == '-'))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let value = decimal(number)?;
    let (factor, divisor): (i128, i128) = match suffix {
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1000),
        "" => (1, 1),
        "k" => (1000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        other => exponent(other)?,
    };
    // `value` is in billionths, the result in thousandths.
    let scaled = value.saturating_mul(factor);
    let unit = divisor.saturating_mul(1_000_000);
    let rounded_up = scaled.div_euclid(unit) + i128::from(scaled.rem_euclid(unit) != 0);
    Some(i64::try_from(rounded_up).unwrap_or(if rounded_up < 0 { i64::MIN } else { i64::MAX }))
}

/// Whole units, rounded up.
pub(crate) fn units(text: &str) -> Option<i64> {
    milli(text).map(|value| value.div_euclid(1000) + i64::from(value.rem_euclid(1000) != 0))
}

/// A decimal number in billionths.
fn decimal(text: &str) -> Option<i128> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut value: i128 = if whole.is_empty() {
        0
    } else {
        i128::from(whole.parse::<u64>().ok()?)
    } * 1_000_000_000;
    let mut unit: i128 = 100_000_000;
    for digit in fraction.chars() {
        value += i128::from(digit.to_digit(10)?) * unit;
        unit /= 10;
    }
    Some(if negative { -value } else { value })
}

/// `e3`, `E-2`: powers of ten.
fn exponent(suffix: &str) -> Option<(i128, i128)> {
    let power: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    let magnitude = 10_i128.checked_pow(power.unsigned_abs().min(18))?;
    Some(if power >= 0 { (magnitude, 1) } else { (1, magnitude) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_quantities() {
        for (text, expected) in [
            ("1", Some(1000)),
            ("250m", Some(250)),
            ("0.5", Some(500)),
            ("1.5Gi", Some(1_610_612_736_000)),
            ("100k", Some(100_000_000)),
            ("1e3", Some(1_000_000)),
            ("1u", Some(1)),
            ("-1", Some(-1000)),
            ("", None),
            ("Gi", None),
            ("1x", None),
        ] {
            assert_eq!(milli(text), expected, "{text}");
        }
        assert_eq!(units("1500m"), Some(2));
    }
}
