//! What counts as lost, and as what. Pure.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

/// How a request was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Kind {
    /// Nobody listened.
    #[serde(rename = "refused")]
    Refused,
    /// The connection or stream was cut before the answer was complete.
    #[serde(rename = "reset")]
    Reset,
    /// No complete answer within the limit.
    #[serde(rename = "timeout")]
    Timeout,
    /// An answer that says that the server failed.
    #[serde(rename = "http-5xx")]
    ServerError,
    /// Another answer than the right one.
    #[serde(rename = "other")]
    Other,
}

impl Kind {
    /// All of them, in the order of the report.
    pub const ALL: [Self; 5] = [
        Self::Refused,
        Self::Reset,
        Self::Timeout,
        Self::ServerError,
        Self::Other,
    ];

    /// As the report names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::ServerError => "http-5xx",
            Self::Other => "other",
        }
    }
}

/// Why a request was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The kind it is counted as.
    pub kind: Kind,
    /// What was seen.
    pub detail: String,
    /// The peer, where there was a connection.
    pub remote: Option<SocketAddr>,
}

impl Failure {
    pub(crate) fn new(kind: Kind, detail: impl Into<String>, remote: Option<SocketAddr>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            remote,
        }
    }

    /// No complete answer within the limit.
    pub(crate) fn too_late(limit: Duration) -> Self {
        let seconds = limit.as_secs_f64();
        Self::new(Kind::Timeout, format!("no complete answer in {seconds} s"), None)
    }

    pub(crate) fn of(error: &(dyn Error + 'static), remote: Option<SocketAddr>) -> Self {
        Self::new(kind_of(error), text(error), remote)
    }
}

/// What an error of a connection counts as.
pub(crate) fn kind_of(error: &(dyn Error + 'static)) -> Kind {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return kind_of_io(error);
        }
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return match error.get_io() {
                Some(io) => kind_of_io(io),
                None if error.is_remote() => Kind::Reset,
                None => Kind::Other,
            };
        }
        if let Some(error) = error.downcast_ref::<hyper::Error>()
            && (error.is_incomplete_message() || error.is_canceled() || error.is_closed())
        {
            return Kind::Reset;
        }
        next = error.source();
    }
    Kind::Other
}

fn kind_of_io(error: &io::Error) -> Kind {
    use io::ErrorKind as E;
    match error.kind() {
        E::ConnectionRefused | E::HostUnreachable | E::NetworkUnreachable => Kind::Refused,
        E::TimedOut => Kind::Timeout,
        E::ConnectionReset | E::ConnectionAborted | E::BrokenPipe | E::UnexpectedEof | E::NotConnected => Kind::Reset,
        _ => Kind::Other,
    }
}

/// Whether the server said that it did not process the request, so that sending it again is no second chance: a stream
/// beyond the last one that a graceful GOAWAY names, or one that was refused (RFC 9113 §8.7).
pub(crate) fn unprocessed(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            let reason = error.reason();
            return error.is_remote()
                && ((error.is_go_away() && reason == Some(h2::Reason::NO_ERROR))
                    || (error.is_reset() && reason == Some(h2::Reason::REFUSED_STREAM)));
        }
        next = error.source();
    }
    false
}

/// What an HTTP status counts as; None: a good answer.
pub(crate) fn kind_of_status(status: http::StatusCode) -> Option<Kind> {
    if status.is_success() {
        None
    } else if status.is_server_error() {
        Some(Kind::ServerError)
    } else {
        Some(Kind::Other)
    }
}

/// What a gRPC call counts as, given the `grpc-status` it ended with, if any: without one it was cut off.
pub(crate) fn failure_of_grpc(status: Option<&str>) -> Option<(Kind, String)> {
    match status {
        Some("0") => None,
        Some(code) => Some((Kind::Other, format!("grpc-status {code}"))),
        None => Some((Kind::Reset, "the call ended without a grpc-status".into())),
    }
}

/// An error with its causes, each said once.
fn text(error: &(dyn Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !line.contains(&cause_text) {
            line = format!("{line}: {cause_text}");
        }
        next = cause.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_sockets_by_kind() {
        use io::ErrorKind as E;
        for (error, kind) in [
            (E::ConnectionRefused, Kind::Refused),
            (E::HostUnreachable, Kind::Refused),
            (E::ConnectionReset, Kind::Reset),
            (E::BrokenPipe, Kind::Reset),
            (E::UnexpectedEof, Kind::Reset),
            (E::TimedOut, Kind::Timeout),
            (E::AddrNotAvailable, Kind::Other),
        ] {
            assert_eq!(kind_of(&io::Error::from(error)), kind, "{error}");
        }
    }

    #[test]
    fn an_error_is_classified_by_its_cause() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] io::Error);
        let error = Outer(io::ErrorKind::ConnectionReset.into());
        assert_eq!(kind_of(&error), Kind::Reset);
        assert_eq!(text(&error), "outer: connection reset");
        assert_eq!(
            kind_of(&h2::Error::from(h2::Reason::PROTOCOL_ERROR)),
            Kind::Other,
            "found by our side"
        );
        assert!(!unprocessed(&error));
        assert!(
            !unprocessed(&h2::Error::from(h2::Reason::REFUSED_STREAM)),
            "the server did not say so"
        );
    }

    #[test]
    fn answers_by_status() {
        for (status, kind) in [
            (200, None),
            (204, None),
            (301, Some(Kind::Other)),
            (404, Some(Kind::Other)),
            (503, Some(Kind::ServerError)),
        ] {
            assert_eq!(kind_of_status(http::StatusCode::from_u16(status).unwrap()), kind);
        }
        assert_eq!(failure_of_grpc(Some("0")), None);
        assert_eq!(
            failure_of_grpc(Some("14")),
            Some((Kind::Other, "grpc-status 14".into()))
        );
        assert_eq!(failure_of_grpc(None).map(|f| f.0), Some(Kind::Reset));
    }
}
