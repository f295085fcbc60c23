//! Times as Kubernetes writes them.

use jiff::Timestamp;

/// RFC 3339 in whole seconds, UTC.
pub fn rfc3339(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
