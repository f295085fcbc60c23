//! What several commands are told in the same words, and what it leads to.

pub(crate) mod cluster;
pub(crate) mod data_dir;
pub(crate) mod registries;
pub(crate) mod serving;

use std::time::Duration;

/// `1.5s`, `500ms`, `2m`; a bare number is seconds.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).map_err(|e| format!("not a time span: {e}"));
    }
    let span: jiff::SignedDuration = text
        .parse()
        .map_err(|_| "not a time span such as 500ms or 2s".to_owned())?;
    Duration::try_from(span).map_err(|_| "a time span cannot be negative".to_owned())
}

/// An int-or-percent as Kubernetes takes it; at least one pod or one percent, or nothing could ever be updated.
pub(crate) fn parse_budget(text: &str) -> Result<String, String> {
    let (digits, limit) = match text.strip_suffix('%') {
        Some(digits) => (digits, 100),
        None => (text, u32::MAX),
    };
    match digits.parse::<u32>() {
        Ok(n) if n >= 1 && n <= limit => Ok(text.to_owned()),
        _ => Err("needs a positive number, or a percentage from 1% to 100%".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_spans() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("2s"), Ok(Duration::from_secs(2)));
        for bad in ["-1", "soon", "-2s", "nan"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn budgets() {
        for good in ["1", "50%", "100%"] {
            assert!(parse_budget(good).is_ok(), "{good}");
        }
        for bad in ["0", "0%", "101%", "-1", "many", ""] {
            assert!(parse_budget(bad).is_err(), "{bad}");
        }
    }
}
