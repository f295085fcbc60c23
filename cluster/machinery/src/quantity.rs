//! Kubernetes' quantities: `100m`, `1.5Gi`, `2e3`.

use serde_json::Value;

/// The quantity in billionths, rounded up; None if it is not one or too large to count.
pub fn nano(value: &Value) -> Option<i128> {
    match value {
        Value::String(text) => parse(text),
        Value::Number(number) => parse(&number.to_string()),
        _ => None,
    }
}

/// The quantity in thousandths (cpu), rounded up as Kubernetes does.
pub fn milli(value: &Value) -> Option<i128> {
    nano(value).map(|n| ceil(n, 1_000_000))
}

/// The quantity in whole units (memory, pods), rounded up as Kubernetes does.
pub fn whole(value: &Value) -> Option<i128> {
    nano(value).map(|n| ceil(n, 1_000_000_000))
}

fn ceil(n: i128, unit: i128) -> i128 {
    n.div_euclid(unit) + i128::from(n.rem_euclid(unit) != 0)
}

fn parse(text: &str) -> Option<i128> {
    let (negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = rest
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(rest.len());
    let (number, suffix) = rest.split_at(end);
    let (integer, fraction) = number.split_once('.').unwrap_or((number, ""));
    if integer.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let digits: i128 = format!("{integer}{fraction}").parse().ok()?;
    // value = digits × scale ÷ 10^places, in billionths
    let (binary, mut places) = factor(suffix)?;
    places -= i32::try_from(fraction.len()).ok()?;
    let scaled = digits.checked_mul(binary)?;
    let exponent = places + 9;
    let power = 10_i128.checked_pow(exponent.unsigned_abs());
    let result = if exponent >= 0 {
        scaled.checked_mul(power?)?
    } else {
        // Below a billionth only rounding up remains.
        power.map_or(i128::from(scaled > 0), |p| ceil(scaled, p))
    };
    Some(if negative { -result } else { result })
}

/// Binary factor and decimal exponent of a suffix.
fn factor(suffix: &str) -> Option<(i128, i32)> {
    let decimal = |places| Some((1, places));
    let binary = |power: u32| Some((1024_i128.pow(power), 0));
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
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        _ => decimal(
            suffix
                .strip_prefix(['e', 'E'])?
                .parse()
                .ok()
                .filter(|e: &i32| e.abs() <= 18)?,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        let cases: &[(&str, Option<i128>)] = &[
            ("1", Some(1_000_000_000)),
            ("100m", Some(100_000_000)),
            ("0.5", Some(500_000_000)),
            (".5", Some(500_000_000)),
            ("1.", Some(1_000_000_000)),
            ("1Ki", Some(1_024_000_000_000)),
            ("1.5Gi", Some(1_610_612_736_000_000_000)),
            ("2e3", Some(2_000_000_000_000)),
            ("1E", Some(1_000_000_000_000_000_000_000_000_000)),
            ("5n", Some(5)),
            ("0.1n", Some(1)),
            ("-1", Some(-1_000_000_000)),
            ("", None),
            ("m", None),
            ("1 Gi", None),
            ("1gi", None),
            ("1.2.3", None),
            ("abc", None),
        ];
        for (text, wanted) in cases {
            assert_eq!(parse(text), *wanted, "{text:?}");
        }
        assert_eq!(milli(&"1.0001".into()), Some(1001));
        assert_eq!(whole(&"1500m".into()), Some(2));
        assert_eq!(whole(&serde_json::json!(3)), Some(3));
    }
}
