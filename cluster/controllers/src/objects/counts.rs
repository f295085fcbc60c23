//! Numbers of objects as the API has them.

pub(crate) use afloat_words::percent::Round;
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
/// Text that is neither counts as 0: the API server has validated it, and 0 is the careful side of every budget.
pub(crate) fn scaled(value: &IntOrString, total: i32, round: Round) -> i32 {
    let total = u32::try_from(total).unwrap_or(0);
    let number = afloat_words::percent::scaled(value, total, round).unwrap_or(0);
    i32::try_from(number).unwrap_or(if number < 0 { i32::MIN } else { i32::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_round_as_asked() {
        let quarter = IntOrString::String("25%".into());
        assert_eq!(scaled(&quarter, 10, Round::Up), 3);
        assert_eq!(scaled(&quarter, 10, Round::Down), 2);
        assert_eq!(scaled(&IntOrString::Int(4), 10, Round::Down), 4);
        assert_eq!(scaled(&IntOrString::String("x".into()), 10, Round::Up), 0);
    }
}
