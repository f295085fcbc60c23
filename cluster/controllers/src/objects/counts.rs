//! Numbers of objects as the API has them.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};

/// A number of objects as the API has it.
pub(crate) fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// Zero is left out, as Kubernetes does.
pub(crate) fn unless_zero(number: i32) -> Value {
    if number == 0 { Value::Null } else { json!(number) }
}

/// A count or percentage against `total`, rounded up or down.
///
/// Text without a `%` or a number counts as 0: the API server has validated it, and 0 is the careful side of every budget.
pub(crate) fn scaled(value: &IntOrString, total: i32, round_up: bool) -> i32 {
    match value {
        IntOrString::Int(count) => *count,
        IntOrString::String(text) => {
            let percent: i64 = text
                .strip_suffix('%')
                .and_then(|digits| digits.trim().parse().ok())
                .unwrap_or(0);
            let product = percent * i64::from(total);
            let quotient = if round_up {
                (product + 99).div_euclid(100)
            } else {
                product.div_euclid(100)
            };
            i32::try_from(quotient).unwrap_or(i32::MAX)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_round_as_asked() {
        let quarter = IntOrString::String("25%".into());
        assert_eq!(scaled(&quarter, 10, true), 3);
        assert_eq!(scaled(&quarter, 10, false), 2);
        assert_eq!(scaled(&IntOrString::Int(4), 10, false), 4);
        assert_eq!(scaled(&IntOrString::String("x".into()), 10, true), 0);
    }
}
