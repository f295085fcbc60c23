//! The order in which Kubernetes prefers versions.

use std::cmp::Ordering;

/// Compares two versions so that the preferred one comes first: `v2`, `v1`, `v2beta1`, `v1beta2`, `v1alpha1`, then
/// whatever does not look like a version, by the alphabet.
pub fn by_priority(a: &str, b: &str) -> Ordering {
    match (parse(a), parse(b)) {
        (Some(a), Some(b)) => b.cmp(&a),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

/// Stability (2 stable, 1 beta, 0 alpha), major, minor.
fn parse(version: &str) -> Option<(u8, u32, u32)> {
    let rest = version.strip_prefix('v')?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (major, rest) = rest.split_at(digits);
    let major = major.parse().ok()?;
    match rest {
        "" => Some((2, major, 0)),
        _ => {
            let (stability, minor) = match rest.strip_prefix("beta") {
                Some(minor) => (1, minor),
                None => (0, rest.strip_prefix("alpha")?),
            };
            Some((stability, major, minor.parse().ok()?))
        }
    }
}
