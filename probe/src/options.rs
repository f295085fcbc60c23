//! What to send. Pure.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::dial::Dial;

/// A way to use the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// HTTP/1.1 on kept-alive connections.
    Http,
    /// HTTP/1.1, a new connection for each request.
    HttpNew,
    /// HTTP/2 without TLS, by prior knowledge.
    Http2,
    /// Unary gRPC calls: `grpc.health.v1.Health/Check`.
    Grpc,
    /// Server-streaming gRPC calls: `grpc.health.v1.Health/Watch`, each held open for a while.
    GrpcStream,
    /// Lines on long TCP connections to a server that sends each line back.
    Tcp,
    /// The same, with a new connection for each line.
    TcpNew,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Http,
        Self::HttpNew,
        Self::Http2,
        Self::Grpc,
        Self::GrpcStream,
        Self::Tcp,
        Self::TcpNew,
    ];

    /// As the user writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::HttpNew => "http-new",
            Self::Http2 => "http2",
            Self::Grpc => "grpc",
            Self::GrpcStream => "grpc-stream",
            Self::Tcp => "tcp",
            Self::TcpNew => "tcp-new",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Mode {
    type Err = OptionsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|mode| mode.name() == text)
            .ok_or_else(|| OptionsError::Mode(text.to_owned(), Self::ALL.map(Self::name).join(", ")))
    }
}

/// `MODE[=RATE][@TARGET]`, as on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModeRate {
    /// How to use the target.
    pub mode: Mode,
    /// Requests a second, where not the common rate.
    pub rate: Option<u32>,
    /// Where to, where not to the common target.
    pub target: Option<String>,
}

impl FromStr for ModeRate {
    type Err = OptionsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (rest, target) = match text.split_once('@') {
            Some((_, "")) => return Err(OptionsError::NoTarget),
            Some((rest, target)) => (rest, Some(target.to_owned())),
            None => (text, None),
        };
        let (mode, rate) = match rest.split_once('=') {
            Some((mode, rate)) => (mode, Some(parse_rate(rate)?)),
            None => (rest, None),
        };
        Ok(Self {
            mode: mode.parse()?,
            rate,
            target,
        })
    }
}

fn parse_rate(text: &str) -> Result<u32, OptionsError> {
    match text.parse() {
        Ok(rate @ 1..=100_000) => Ok(rate),
        _ => Err(OptionsError::Rate(text.to_owned())),
    }
}

/// What is wrong with the words of a user.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum OptionsError {
    /// No such mode.
    #[error("there is no mode {0:?}; there are {1}")]
    Mode(String, String),
    /// Not a rate.
    #[error("{0:?} is not a rate: needs requests a second, from 1 to 100000")]
    Rate(String),
    /// An `@` with nothing behind it.
    #[error("needs HOST:PORT behind the @")]
    NoTarget,
}

/// One mode of a run, with its own rate and target.
#[derive(Clone)]
pub struct Lane {
    /// How the target is used.
    pub mode: Mode,
    /// Requests (lines, streams) a second.
    pub rate: u32,
    /// Opens connections to the target.
    pub dial: Arc<dyn Dial>,
    /// `HOST:PORT` for the `Host` header.
    pub authority: String,
}

/// What holds for all modes.
#[derive(Clone, Debug)]
pub struct Options {
    /// Connections kept open by each mode that keeps any.
    pub connections: u16,
    /// A request that takes longer is lost.
    pub timeout: Duration,
    /// Requests under way at once, over all modes; more are skipped.
    pub max_in_flight: u32,
    /// Send a request once more that a server closed a kept-alive connection on without an answer, as RFC 9110 §9.2.2 lets
    /// clients do.
    pub retry_idle_close: bool,
    /// How long a stream is held open until its client has had enough of it.
    pub stream_for: Duration,
    /// Path of HTTP requests.
    pub path: String,
    /// Stop after that time.
    pub duration: Option<Duration>,
    /// Stop after so many requests of each mode.
    pub requests: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connections: 8,
            timeout: Duration::from_secs(5),
            max_in_flight: 4096,
            retry_idle_close: false,
            stream_for: Duration::from_secs(5),
            path: "/".into(),
            duration: None,
            requests: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_with_rates_and_targets() {
        let parse = |text: &str| text.parse::<ModeRate>();
        let of = |mode, rate, target: Option<&str>| ModeRate {
            mode,
            rate,
            target: target.map(str::to_owned),
        };
        assert_eq!(parse("http"), Ok(of(Mode::Http, None, None)));
        assert_eq!(parse("grpc-stream=5"), Ok(of(Mode::GrpcStream, Some(5), None)));
        assert_eq!(
            parse("tcp=50@127.0.0.1:9000"),
            Ok(of(Mode::Tcp, Some(50), Some("127.0.0.1:9000")))
        );
        assert_eq!(parse("tcp@"), Err(OptionsError::NoTarget));
        for bad in ["http=0", "http=", "http=-1", "http=100001", "http=many"] {
            assert!(matches!(parse(bad), Err(OptionsError::Rate(_))), "{bad}");
        }
        assert!(matches!(parse("udp"), Err(OptionsError::Mode(..))));
    }
}
