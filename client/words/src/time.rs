//! Times as the API writes them.

use jiff::Timestamp;

/// Whole seconds, UTC, as in all fields of the kind `Time`: `2026-01-02T03:04:05Z`.
pub fn whole_seconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_are_cut() {
        let at = Timestamp::from_millisecond(1_767_323_045_999).unwrap();
        assert_eq!(whole_seconds(at), "2026-01-02T03:04:05Z");
    }
}
