//! Quantities (`100m`, `1.5Gi`, `2e3`) as exact numbers: read, compared, added, rounded and written as Go's
//! `resource.Quantity` does (k8s.io/apimachinery, `pkg/api/resource/quantity.go`), never as floating point.
//!
//! Why not a crate: `kube_quantity` rests on `rust_decimal`, whose 96 bits round silently where Kubernetes is exact, prints
//! no canonical form, rounds nothing up and brings a parser generator; a decimal crate alone knows no suffixes. What is left
//! is a whole number of billionths.
//!
//! Differences from Go, all outside what anybody writes: a text without a digit (`m`, `.`) is no quantity, as the grammar
//! says, where Go's scanner takes it for zero; amounts beyond 1.7e29 are an error, where Go counts on; what does not fit
//! into 64 bits saturates, where Go wraps.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde_json::Value;

/// Billionths in one: Kubernetes keeps nothing finer.
const NANO: i128 = 1_000_000_000;
/// What a number with a binary suffix is cut to (Go's `maxAllowed`).
const BINARY_MAX: i128 = i64::MAX as i128 * NANO;
const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

/// Why a text is no quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadQuantity {
    /// It does not look like one. The words are Kubernetes' own.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Form,
    /// Nobody has so much.
    #[error("quantities beyond 1.7e29 cannot be counted")]
    TooLarge,
}

/// How an amount is written: as its text was, or as what it was added to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// `12M`
    Decimal,
    /// `12e6`
    Exponent,
    /// `12Mi`
    Binary,
}

/// An exact amount. Equal amounts are equal however they are written; [`fmt::Display`] writes the canonical form.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nano: i128,
    form: Form,
}

impl Quantity {
    /// Of JSON: Kubernetes takes bare numbers as well as text.
    ///
    /// # Errors
    /// It is neither, or no quantity.
    pub fn of_json(value: &Value) -> Result<Self, BadQuantity> {
        match value {
            Value::String(text) => text.parse(),
            Value::Number(number) => number.to_string().parse(),
            _ => Err(BadQuantity::Form),
        }
    }

    /// Billionths: the exact amount.
    pub fn nano(self) -> i128 {
        self.nano
    }

    /// Thousandths (CPU), rounded away from zero; saturates (Go's `MilliValue`).
    pub fn milli(self) -> i64 {
        saturated(divided_up(self.nano, NANO / 1000))
    }

    /// Whole units (bytes, pods), rounded away from zero; saturates (Go's `Value`).
    pub fn value(self) -> i64 {
        saturated(divided_up(self.nano, NANO))
    }

    /// How often `divisor` goes into it, rounded away from zero: what a `resourceFieldRef` shows. None: the divisor is zero.
    pub fn divided_by(self, divisor: Self) -> Option<i64> {
        (divisor.nano != 0).then(|| saturated(divided_up(self.nano, divisor.nano)))
    }

    /// The sum, written as the first one that is not zero (as Go does). None: too large.
    pub fn checked_add(self, more: Self) -> Option<Self> {
        let form = if self.nano == 0 { more.form } else { self.form };
        let nano = self.nano.checked_add(more.nano)?;
        Some(Self { nano, form })
    }

    /// What is left, written like the first one that is not zero (as Go does). None: too large.
    pub fn checked_sub(self, less: Self) -> Option<Self> {
        let nano = less.nano.checked_neg()?;
        self.checked_add(Self { nano, ..less })
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nano == other.nano
    }
}

impl Eq for Quantity {}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nano.cmp(&other.nano)
    }
}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl FromStr for Quantity {
    type Err = BadQuantity;

    fn from_str(text: &str) -> Result<Self, BadQuantity> {
        Parts::of(text)?.amount()
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nano == 0 {
            return f.write_str("0");
        }
        // Below 1024 and with a fraction, a binary form would lose something.
        if self.form == Form::Binary && self.nano % NANO == 0 && self.nano.unsigned_abs() >= 1024 * NANO.unsigned_abs()
        {
            let (mut number, mut suffixes) = (self.nano / NANO, BINARY.iter());
            let mut suffix = suffixes.next();
            while number % 1024 == 0 && suffixes.len() > 0 {
                (number, suffix) = (number / 1024, suffixes.next());
            }
            return write!(f, "{number}{}", suffix.unwrap_or(&""));
        }
        let (mut number, mut exponent) = (self.nano, -9);
        while number % 1000 == 0 {
            (number, exponent) = (number / 1000, exponent + 3);
        }
        let suffix = usize::try_from((exponent + 9) / 3).ok().and_then(|i| DECIMAL.get(i));
        match suffix {
            Some(suffix) if self.form != Form::Exponent || exponent == 0 => write!(f, "{number}{suffix}"),
            _ => write!(f, "{number}e{exponent}"),
        }
    }
}

/// The text that Go writes for a text it has read; None if that is no quantity. OpenKruise's revisions contain quantities
/// in this form, and revisions are compared byte by byte there: Go keeps a text that looks canonical at first sight, even
/// where it is not (`1.500`, `+5`).
pub fn canonical(text: &str) -> Option<String> {
    let parts = Parts::of(text).ok()?;
    let amount = parts.amount().ok()?;
    Some(if parts.looks_canonical() {
        text.to_owned()
    } else {
        amount.to_string()
    })
}

/// The canonical text, rounded up to thousandths, as Kubernetes' defaults leave a container's resources.
pub fn rounded(text: &str) -> Option<String> {
    let amount: Quantity = text.parse().ok()?;
    let unit = NANO / 1000;
    if amount.nano % unit == 0 {
        return canonical(text);
    }
    let nano = divided_up(amount.nano, unit).checked_mul(unit)?;
    Some(Quantity { nano, ..amount }.to_string())
}

/// Whether two texts are the same amount: `0.5` and `500m`, `1Gi` and `1024Mi`; or the same text.
pub fn same(a: &str, b: &str) -> bool {
    let amount = |text: &str| text.parse::<Quantity>().ok();
    a == b || amount(a).is_some_and(|a| Some(a) == amount(b))
}

/// A text taken apart.
struct Parts<'a> {
    negative: bool,
    /// The digits before the point, and behind it.
    whole: &'a str,
    fraction: &'a str,
    form: Form,
    /// The suffix, as a power of ten or of two.
    exponent: i32,
    power: u32,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Result<Self, BadQuantity> {
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
            return Err(BadQuantity::Form);
        }
        let (form, exponent, power) = suffix_of(suffix).ok_or(BadQuantity::Form)?;
        Ok(Self {
            negative,
            whole: whole.trim_start_matches('0'),
            fraction,
            form,
            exponent,
            power,
        })
    }

    fn digits(&self) -> impl Iterator<Item = u8> + use<'a> {
        self.whole
            .bytes()
            .chain(self.fraction.bytes())
            .map(|digit| digit - b'0')
    }

    /// Never less than what was written: what is finer than a billionth rounds away from zero.
    fn amount(&self) -> Result<Quantity, BadQuantity> {
        let size = if self.digits().all(|digit| digit == 0) {
            0
        } else if self.form == Form::Binary {
            self.binary().unwrap_or(BINARY_MAX).min(BINARY_MAX)
        } else {
            self.decimal().ok_or(BadQuantity::TooLarge)?
        };
        // Go does not write less than one in a binary form, nor what comes of it.
        let form = if self.form == Form::Binary && 0 < size && size < NANO {
            Form::Decimal
        } else {
            self.form
        };
        let nano = if self.negative { -size } else { size };
        Ok(Quantity { nano, form })
    }

    fn decimal(&self) -> Option<i128> {
        let length = |text: &str| i64::try_from(text.len()).ok();
        // All digits are a whole number of 10^scale billionths.
        let scale = i64::from(self.exponent) + 9 - length(self.fraction)?;
        let kept = length(self.whole)? + length(self.fraction)? + scale.min(0);
        let kept = usize::try_from(kept).unwrap_or(0);
        let number = whole_number(self.digits().take(kept))?;
        let finer = self.digits().skip(kept).any(|digit| digit != 0);
        let unit = 10_i128.checked_pow(u32::try_from(scale.max(0)).ok()?);
        let number = if number == 0 { 0 } else { number.checked_mul(unit?)? };
        number.checked_add(i128::from(finer))
    }

    fn binary(&self) -> Option<i128> {
        let unit = NANO << self.power;
        let number = whole_number(self.whole.bytes().map(|digit| digit - b'0'))?;
        // From the last digit to the first, a tenth each time: exact, but for what is finer.
        let (mut part, mut finer) = (0, false);
        for digit in self.fraction.bytes().rev() {
            part += i128::from(digit - b'0') * unit;
            finer |= part % 10 != 0;
            part /= 10;
        }
        number.checked_mul(unit)?.checked_add(part + i128::from(finer))
    }

    /// Whether Go keeps the text, as it reckons with the digits that fit into 64 bits.
    fn looks_canonical(&self) -> bool {
        let whole = if self.whole.is_empty() { "0" } else { self.whole };
        let length = whole.len().saturating_add(self.fraction.len());
        if self.form == Form::Binary {
            // The digits that fit beside a power of two: about three for ten bits.
            let room = usize::try_from(15_u32.saturating_sub(self.power * 3 / 10)).unwrap_or(0);
            return self.fraction.is_empty() && length < room && whole.parse().is_ok_and(|n: u64| !n.is_multiple_of(8));
        }
        if length > 18 {
            return false;
        }
        let digits = format!("{whole}{}", self.fraction);
        let scale = i64::from(self.exponent) - i64::try_from(self.fraction.len()).unwrap_or(0);
        scale >= -9 && scale % 3 == 0 && !digits.ends_with("000") && !digits.starts_with('0')
    }
}

fn whole_number(mut digits: impl Iterator<Item = u8>) -> Option<i128> {
    digits.try_fold(0_i128, |number, digit| {
        number.checked_mul(10)?.checked_add(digit.into())
    })
}

/// Form, power of ten and power of two.
fn suffix_of(suffix: &str) -> Option<(Form, i32, u32)> {
    if let Some(steps) = (0..).zip(DECIMAL).find(|(_, name)| *name == suffix).map(|(i, _)| i) {
        return Some((Form::Decimal, 3 * steps - 9, 0));
    }
    if let Some(steps) = (0..).zip(BINARY).find(|(_, name)| *name == suffix).map(|(i, _)| i) {
        return Some((Form::Binary, 0, 10 * steps));
    }
    let exponent = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    Some((Form::Exponent, exponent, 0))
}

/// Division that rounds away from zero.
fn divided_up(number: i128, unit: i128) -> i128 {
    let more = if number % unit == 0 {
        0
    } else {
        number.signum() * unit.signum()
    };
    number / unit + more
}

fn saturated(number: i128) -> i64 {
    i64::try_from(number).unwrap_or(if number < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests;
