//! One request that was lost. Pure.

use std::net::SocketAddr;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use crate::options::Mode;
use crate::outcome::Kind;

/// One lost request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Loss {
    /// When it was known to be lost.
    #[serde(serialize_with = "milliseconds")]
    pub time: Timestamp,
    /// When it was due.
    #[serde(serialize_with = "milliseconds")]
    pub due: Timestamp,
    /// In which mode.
    pub mode: Mode,
    /// How.
    pub kind: Kind,
    /// What was seen.
    pub detail: String,
    /// The peer, where there was a connection.
    pub remote: Option<SocketAddr>,
    /// What happened to the Service's pods around it.
    pub around: Vec<String>,
}

/// RFC 3339 with milliseconds.
pub(crate) fn milliseconds<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{time:.3}"))
}
