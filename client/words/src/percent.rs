//! Numbers that may be percentages: `maxUnavailable: 25%`.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Which way a percentage goes that is no whole number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    /// Up.
    Up,
    /// Down.
    Down,
}

/// A number, or a percentage of `total` (apimachinery's `GetScaledValueFromIntOrPercent`). None: text that is no percentage.
/// What does not fit saturates.
pub fn scaled(value: &IntOrString, total: u32, round: Round) -> Option<i64> {
    let text = match value {
        IntOrString::Int(number) => return Some(i64::from(*number)),
        IntOrString::String(text) => text,
    };
    let percent: i64 = text.strip_suffix('%')?.parse().ok()?;
    let hundredfold = i128::from(percent) * i128::from(total);
    let rest = i128::from(round == Round::Up && hundredfold.rem_euclid(100) != 0);
    let number = hundredfold.div_euclid(100) + rest;
    Some(i64::try_from(number).unwrap_or(if number < 0 { i64::MIN } else { i64::MAX }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_round_as_asked() {
        for (text, total, up, down) in [
            ("25%", 10, Some(3), Some(2)),
            ("50%", 10, Some(5), Some(5)),
            ("0%", 10, Some(0), Some(0)),
            ("1%", 1, Some(1), Some(0)),
            ("200%", 3, Some(6), Some(6)),
            ("-10%", 15, Some(-1), Some(-2)),
            ("9223372036854775807%", u32::MAX, Some(i64::MAX), Some(i64::MAX)),
            ("x%", 10, None, None),
            ("%", 10, None, None),
            ("5", 10, None, None),
            ("1.5%", 10, None, None),
        ] {
            let value = IntOrString::String(text.into());
            assert_eq!(scaled(&value, total, Round::Up), up, "{text}");
            assert_eq!(scaled(&value, total, Round::Down), down, "{text}");
        }
        assert_eq!(scaled(&IntOrString::Int(4), 10, Round::Down), Some(4));
    }
}
