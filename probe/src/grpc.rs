//! gRPC's health service: `Check` and `Watch` (gRPC over HTTP/2, and the health checking protocol, of grpc.io).

use std::net::SocketAddr;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, TE};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::h2c::Connections;
use crate::meter::Meter;
use crate::options::Options;
use crate::outcome::{Failure, Kind, failure_of_grpc, kind_of_status};

/// A message without fields: not compressed, of length 0.
const EMPTY_MESSAGE: &[u8] = &[0, 0, 0, 0, 0];

/// Counts the messages in the bytes of a call. Pure.
#[derive(Debug, Default, PartialEq, Eq)]
struct Messages {
    complete: u64,
    header: Vec<u8>,
    missing: usize,
}

impl Messages {
    fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.missing > 0 {
                let taken = self.missing.min(bytes.len());
                self.missing -= taken;
                bytes = &bytes[taken..];
                self.complete += u64::from(self.missing == 0);
            } else {
                self.header.push(bytes[0]);
                bytes = &bytes[1..];
                if let [_, a, b, c, d] = self.header[..] {
                    self.missing = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
                    self.complete += u64::from(self.missing == 0);
                    self.header.clear();
                }
            }
        }
    }

    /// Whether the last message is complete.
    fn whole(&self) -> bool {
        self.header.is_empty() && self.missing == 0
    }
}

/// A call under way.
struct Call {
    body: Incoming,
    messages: Messages,
    remote: Option<SocketAddr>,
    /// The status, if it came instead of messages.
    status: Option<String>,
}

impl Call {
    async fn open(connections: &Connections, method: &str, meter: &Meter) -> Result<Self, Failure> {
        let request = Request::post(connections.uri(&format!("/grpc.health.v1.Health/{method}"))?)
            .header(CONTENT_TYPE, "application/grpc")
            .header(TE, "trailers")
            .body(Full::new(Bytes::from_static(EMPTY_MESSAGE)))
            .map_err(|e| Failure::new(Kind::Other, e.to_string(), None))?;
        let (response, remote) = connections.send(request, meter).await?;
        let status = response.status();
        if status != StatusCode::OK {
            let kind = kind_of_status(status).unwrap_or(Kind::Other);
            return Err(Failure::new(kind, format!("status {status}"), remote));
        }
        Ok(Self {
            status: grpc_status(response.headers()),
            body: response.into_body(),
            messages: Messages::default(),
            remote,
        })
    }

    /// Reads until one more message is complete; false at the call's good end.
    async fn message(&mut self) -> Result<bool, Failure> {
        let before = self.messages.complete;
        while self.messages.complete == before {
            let Some(frame) = self.body.frame().await else {
                if let Some((kind, detail)) = failure_of_grpc(self.status.as_deref()) {
                    return Err(Failure::new(kind, detail, self.remote));
                }
                if !self.messages.whole() {
                    return Err(Failure::new(Kind::Reset, "half a message", self.remote));
                }
                return Ok(false);
            };
            let frame = frame.map_err(|e| Failure::of(&e, self.remote))?;
            match frame.into_data() {
                Ok(data) => self.messages.feed(&data),
                Err(frame) => {
                    if let Some(trailers) = frame.trailers_ref() {
                        self.status = grpc_status(trailers);
                    }
                }
            }
        }
        Ok(true)
    }
}

fn grpc_status(headers: &HeaderMap) -> Option<String> {
    Some(headers.get("grpc-status")?.to_str().ok()?.to_owned())
}

/// A unary call: one message and a good status.
pub(crate) async fn check(connections: &Connections, meter: &Meter) -> Result<(), Failure> {
    let mut call = Call::open(connections, "Check", meter).await?;
    let mut messages = 0;
    while call.message().await? {
        messages += 1;
    }
    if messages == 1 {
        Ok(())
    } else {
        Err(Failure::new(
            Kind::Other,
            format!("{messages} messages instead of one"),
            call.remote,
        ))
    }
}

/// A stream: complete once the server ends it well, or the client had enough of it. The moment of its first message.
pub(crate) async fn watch(
    connections: &Connections,
    options: &Options,
    ended: &CancellationToken,
    meter: &Meter,
) -> Result<Instant, Failure> {
    let until = Instant::now() + options.stream_for;
    let begin = async {
        let mut call = Call::open(connections, "Watch", meter).await?;
        match call.message().await? {
            true => Ok((call, Instant::now())),
            false => Err(Failure::new(
                Kind::Other,
                "the stream ended without a message",
                call.remote,
            )),
        }
    };
    let (mut call, first) = timeout(options.timeout, begin)
        .await
        .map_err(|_| Failure::too_late(options.timeout))??;
    let rest = async {
        while call.message().await? {}
        Ok(first)
    };
    tokio::select! {
        result = timeout_at(until, rest) => result.unwrap_or(Ok(first)),
        () = ended.cancelled() => Ok(first),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_however_they_are_cut() {
        let bytes = [0, 0, 0, 0, 2, 8, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 7];
        for size in 1..=bytes.len() {
            let mut messages = Messages::default();
            for part in bytes.chunks(size) {
                messages.feed(part);
            }
            assert_eq!(messages.complete, 3, "in parts of {size}");
            assert!(messages.whole());
        }
    }

    #[test]
    fn half_a_message_is_not_whole() {
        for half in [&[0][..], &[0, 0, 0, 0, 2], &[0, 0, 0, 0, 2, 8]] {
            let mut messages = Messages::default();
            messages.feed(half);
            assert!(!messages.whole(), "{half:?}");
            assert_eq!(messages.complete, 0);
        }
    }
}
