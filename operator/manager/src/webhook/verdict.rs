//! What admission says.

use serde_json::Value;

/// What is to become of a request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Verdict {
    /// It goes on as it is.
    Allowed,
    /// It goes on with this JSON patch.
    Patched(Value),
    /// It is refused.
    Refused {
        /// HTTP status.
        code: u16,
        /// For the client.
        message: String,
    },
    /// It is to be tried again.
    Later {
        /// For the client.
        message: String,
        /// When.
        seconds: u32,
    },
    /// Nobody can say: the API server does as the configuration tells it.
    Unable(String),
}
