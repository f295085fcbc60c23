//! The `format`s of strings and numbers that Kubernetes checks; others are comments.

use std::net::{Ipv4Addr, Ipv6Addr};

use base64::Engine;
use serde_json::Value;

/// Whether the value has the format; true where the format is unknown or does not apply to the type.
pub(super) fn fits(format: &str, value: &Value) -> bool {
    match value {
        Value::Number(number) => match (format, number.as_i64()) {
            ("int32", Some(n)) => i32::try_from(n).is_ok(),
            ("int32" | "int64", None) => number.as_f64().is_some_and(|f| f.fract() == 0.0 && f.abs() < 9.3e18),
            _ => true,
        },
        Value::String(text) => match format {
            "date-time" => text.parse::<jiff::Timestamp>().is_ok(),
            "date" => text.parse::<jiff::civil::Date>().is_ok(),
            "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
            "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
            "cidr" => is_cidr(text),
            "byte" => base64::engine::general_purpose::STANDARD.decode(text).is_ok(),
            "uuid" => is_uuid(text),
            "duration" => is_go_duration(text),
            "email" => text
                .split_once('@')
                .is_some_and(|(user, host)| !user.is_empty() && !host.is_empty()),
            _ => true,
        },
        _ => true,
    }
}

fn is_cidr(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else {
        return false;
    };
    let limit = match address.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V4(_)) => 32,
        Ok(std::net::IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    length.parse::<u8>().is_ok_and(|n| n <= limit)
}

fn is_uuid(text: &str) -> bool {
    let compact = text.replace('-', "");
    (text.len() == 36 || text.len() == 32) && compact.len() == 32 && compact.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Go's durations: `1h30m`, `1.5s`, `-2ms`.
fn is_go_duration(text: &str) -> bool {
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return true;
    }
    if rest.is_empty() {
        return false;
    }
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let unit = ["ns", "us", "µs", "ms", "s", "m", "h"].into_iter().find(|unit| {
            tail.strip_prefix(unit)
                .is_some_and(|after| after.is_empty() || after.starts_with(|c: char| c.is_ascii_digit() || c == '.'))
        });
        match (number.parse::<f64>(), unit) {
            (Ok(_), Some(unit)) => rest = &tail[unit.len()..],
            _ => return false,
        }
    }
    true
}
