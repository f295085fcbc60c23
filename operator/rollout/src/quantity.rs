//! Quantities as Go's `resource.Quantity` prints them: `1000m` is `1`, `1024Mi` is `1Gi`, but `1e3` stays `1e3`.
//!
//! OpenKruise's revisions contain quantities in this form, and revisions are compared byte by byte there.

/// The canonical text of a quantity; None if it is none, or has more digits than anybody would write.
pub fn canonical(text: &str) -> Option<String> {
    let text = text.trim();
    let parsed = Parsed::read(text)?;
    if text == "0" || parsed.reuses_text() {
        return Some(text.to_owned());
    }
    parsed.print()
}

/// The canonical text, rounded up to thousandths, as Kubernetes' defaults leave a container's resources.
pub fn rounded(text: &str) -> Option<String> {
    let parsed = Parsed::read(text.trim())?;
    let (value, scale) = parsed.decimal()?;
    if scale >= -3 {
        return canonical(text);
    }
    let unit = 10_i128.checked_pow(u32::try_from(-3 - scale).ok()?)?;
    Parsed {
        digits: String::new(),
        value: divide_up(value, unit),
        scale: -3,
        ..parsed
    }
    .print()
}

/// Whether two texts are the same amount, to a billionth: `0.5` and `500m`, `1Gi` and `1024Mi`.
pub fn same(a: &str, b: &str) -> bool {
    if a == b {
        return true;
    }
    let plain = |text: &str| {
        let (mut value, mut scale) = Parsed::read(text.trim())?.decimal()?;
        while value != 0 && value % 10 == 0 {
            (value, scale) = (value / 10, scale + 1);
        }
        Some((value, if value == 0 { 0 } else { scale }))
    };
    matches!((plain(a), plain(b)), (Some(a), Some(b)) if a == b)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Decimal,
    Exponent,
    Binary,
}

struct Parsed {
    format: Format,
    /// All digits as written, without leading zeros of the whole part.
    digits: String,
    /// With the sign, `value * 10^scale * 2^power`.
    value: i128,
    scale: i32,
    power: u32,
    fraction: bool,
}

impl Parsed {
    fn read(text: &str) -> Option<Self> {
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let end = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (whole, rest) = rest.split_at(end(rest));
        let (fraction, suffix) = match rest.strip_prefix('.') {
            Some(rest) => rest.split_at(end(rest)),
            None => ("", rest),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let whole = whole.trim_start_matches('0');
        let digits = format!("{}{fraction}", if whole.is_empty() { "0" } else { whole });
        let value: i128 = (digits.len() <= 24).then(|| digits.parse().ok()).flatten()?;
        let (format, exponent, power) = suffix_of(suffix)?;
        Some(Self {
            format,
            value: if negative { -value } else { value },
            scale: exponent - i32::try_from(fraction.len()).ok()?,
            power,
            fraction: !fraction.is_empty(),
            digits,
        })
    }

    /// Go keeps the text where it looks canonical at first sight, even where it is not (`1.500`, `+5`).
    fn reuses_text(&self) -> bool {
        let length = i64::try_from(self.digits.len()).unwrap_or(i64::MAX);
        match self.format {
            Format::Binary => {
                // The digits that fit beside a power of two, as Go reckons them.
                let taken = i64::from(self.power) * 3 / 10;
                !self.fraction && 15 - length - taken > 0 && self.value & 7 != 0
            }
            _ => {
                length <= 18
                    && self.scale >= -9
                    && self.scale % 3 == 0
                    && !self.digits.ends_with("000")
                    && !self.digits.starts_with('0')
            }
        }
    }

    /// As `value * 10^scale`, without parts smaller than a billionth.
    fn decimal(&self) -> Option<(i128, i32)> {
        let value = self.value.checked_mul(1_i128.checked_shl(self.power)?)?;
        if self.scale >= -9 {
            return Some((value, self.scale));
        }
        let unit = 10_i128.checked_pow(u32::try_from(-9 - self.scale).ok()?)?;
        Some((divide_up(value, unit), -9))
    }

    fn print(&self) -> Option<String> {
        let (mut value, mut scale) = self.decimal()?;
        if value == 0 {
            return Some("0".into());
        }
        let mut format = self.format;
        if format == Format::Binary {
            while scale < 0 && value % 10 == 0 {
                (value, scale) = (value / 10, scale + 1);
            }
            if scale >= 0 && value.checked_mul(10_i128.checked_pow(scale.unsigned_abs())?)?.abs() >= 1024 {
                let mut value = value.checked_mul(10_i128.checked_pow(scale.unsigned_abs())?)?;
                value = value.min(i128::from(i64::MAX));
                let mut steps = 0;
                while value.abs() >= 1024 && value % 1024 == 0 {
                    (value, steps) = (value / 1024, steps + 1);
                }
                return Some(format!(
                    "{value}{}",
                    ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"].get(steps)?
                ));
            }
            format = Format::Decimal;
        }
        while value % 10 == 0 {
            (value, scale) = (value / 10, scale + 1);
        }
        while scale % 3 != 0 {
            (value, scale) = (value.checked_mul(10)?, scale - 1);
        }
        let suffix = match (format, scale) {
            (_, 0) => String::new(),
            (Format::Exponent, scale) => format!("e{scale}"),
            (_, scale) => {
                let index = usize::try_from(scale / 3 + 3).ok()?;
                (*["n", "u", "m", "", "k", "M", "G", "T", "P", "E"].get(index)?).to_owned()
            }
        };
        Some(format!("{value}{suffix}"))
    }
}

/// Format, decimal exponent and power of two of a suffix.
fn suffix_of(suffix: &str) -> Option<(Format, i32, u32)> {
    let decimal = |exponent| Some((Format::Decimal, exponent, 0));
    let binary = |power| Some((Format::Binary, 0, power));
    match suffix {
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        other => {
            let exponent: i32 = other.strip_prefix(['e', 'E'])?.parse().ok()?;
            (-30..=30)
                .contains(&exponent)
                .then_some((Format::Exponent, exponent, 0))
        }
    }
}

/// Division that rounds away from zero.
fn divide_up(value: i128, unit: i128) -> i128 {
    let rest = i128::from(value % unit != 0);
    value / unit + rest * value.signum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_quantity_is_left_alone() {
        for text in ["", "x", "1x", "1 Gi", ".", "1e", "123456789012345678901234567890"] {
            assert_eq!(canonical(text), None, "{text}");
        }
    }

    #[test]
    fn thousandths_are_the_finest() {
        for (text, wanted) in [
            ("1.0001", "1001m"),
            ("10n", "1m"),
            ("0.5", "500m"),
            ("1Gi", "1Gi"),
            ("0", "0"),
        ] {
            assert_eq!(rounded(text).as_deref(), Some(wanted), "{text}");
        }
    }
}
