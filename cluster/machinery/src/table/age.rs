//! Ages as kubectl prints them (k8s.io/apimachinery `duration.HumanDuration`).

use jiff::Timestamp;
use serde_json::Value;

/// Age of an object; `<unknown>` without a time of creation.
pub(crate) fn since_creation(object: &Value, now: &str) -> String {
    match crate::get(object, &["metadata", "creationTimestamp"]).and_then(Value::as_str) {
        Some(then) => between(then, now),
        None => "<unknown>".to_owned(),
    }
}

/// Time from one RFC 3339 time to another.
pub(crate) fn between(then: &str, now: &str) -> String {
    match (then.parse::<Timestamp>(), now.parse::<Timestamp>()) {
        (Ok(then), Ok(now)) => human(now.as_second() - then.as_second()),
        _ => "<unknown>".to_owned(),
    }
}

/// Seconds in at most two units: `5s`, `2m10s`, `3h5m`, `4d2h`, `2y`.
pub(crate) fn human(seconds: i64) -> String {
    let two = |large: i64, large_unit: char, small: i64, small_unit: char| {
        if small == 0 {
            format!("{large}{large_unit}")
        } else {
            format!("{large}{large_unit}{small}{small_unit}")
        }
    };
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        // Kubernetes allows clocks to differ by a second.
        ..-1 => "<invalid>".to_owned(),
        -1..0 => "0s".to_owned(),
        _ if seconds < 120 => format!("{seconds}s"),
        _ if minutes < 10 => two(minutes, 'm', seconds % 60, 's'),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => two(hours, 'h', minutes % 60, 'm'),
        _ if hours < 48 => format!("{hours}h"),
        _ if hours < 192 => two(days, 'd', hours % 24, 'h'),
        _ if days < 730 => format!("{days}d"),
        _ if days < 2920 => two(days / 365, 'y', days % 365, 'd'),
        _ => format!("{}y", days / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_printed_as_kubectl_prints_them() {
        const HOUR: i64 = 3600;
        const DAY: i64 = 24 * HOUR;
        let cases = [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (130, "2m10s"),
            (599, "9m59s"),
            (600, "10m"),
            (179 * 60 + 59, "179m"),
            (3 * HOUR, "3h"),
            (3 * HOUR + 300, "3h5m"),
            (8 * HOUR + 300, "8h"),
            (47 * HOUR, "47h"),
            (48 * HOUR, "2d"),
            (50 * HOUR, "2d2h"),
            (8 * DAY, "8d"),
            (700 * DAY, "700d"),
            (731 * DAY, "2y1d"),
            (9 * 365 * DAY, "9y"),
            (-1, "0s"),
            (-5, "<invalid>"),
        ];
        for (seconds, wanted) in cases {
            assert_eq!(human(seconds), wanted, "{seconds} s");
        }
        assert_eq!(between("2026-11-22T07:00:00Z", "2026-11-22T07:00:05Z"), "5s");
        assert_eq!(between("nonsense", "2026-11-22T07:00:05Z"), "<unknown>");
    }
}
