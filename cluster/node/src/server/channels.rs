//! The channels of exec and attach: a client's streams by number, whether they come as messages of a WebSocket or as streams
//! of a SPDY connection.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::sync::mpsc;

use super::answer::{Body, Refusal};
use super::socket;
use super::upgrade::{self, Connection};
use crate::spdy::{Session, StreamSender};

/// Channel of the client's input.
pub(super) const STDIN: u8 = 0;
/// Channel of standard output, or the terminal.
pub(super) const STDOUT: u8 = 1;
/// Channel of standard error.
pub(super) const STDERR: u8 = 2;
/// Channel of the closing Status.
pub(super) const ERROR: u8 = 3;
/// Channel of terminal sizes.
pub(super) const RESIZE: u8 = 4;
/// Of version 5 on WebSockets: the channel named in the second byte is closed.
const CLOSE: u8 = 255;

const V5: &str = "v5.channel.k8s.io";
const V4: &str = "v4.channel.k8s.io";
/// Of these the error channel has no Status, but a sentence if something went wrong. Who names none speaks the first.
const OLD: [&str; 3] = ["", "channel.k8s.io", "base64.channel.k8s.io"];
/// SPDY streams can be closed without version 5.
const PROTOCOLS: upgrade::Protocols = upgrade::Protocols {
    websocket: &[V5, V4, "v4.base64.channel.k8s.io", OLD[1], OLD[2], OLD[0]],
    spdy: &[V4],
};
/// How long a client may take to open its streams.
const STREAMS_LIMIT: Duration = Duration::from_secs(30);
/// Pieces of all streams together that wait to be taken.
const INPUT_QUEUE: usize = 8;

/// Which streams the client said that it wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) stdin: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    pub(super) tty: bool,
}

impl Wanted {
    /// The channels that a SPDY client opens streams for.
    fn channels(self) -> Vec<u8> {
        let all = [
            (ERROR, true),
            (STDIN, self.stdin),
            (STDOUT, self.stdout),
            (STDERR, self.stderr),
            (RESIZE, self.tty),
        ];
        all.into_iter()
            .filter(|(_, on)| *on)
            .map(|(channel, _)| channel)
            .collect()
    }
}

/// What a client sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Input {
    Bytes(u8, Bytes),
    /// There is no more on this channel.
    Closed(u8),
}

/// The way to the client.
pub(super) struct Sender {
    to: To,
    /// Whether how it ended is told as a Status.
    status: bool,
}

enum To {
    Socket(socket::Sender),
    Spdy {
        session: Session,
        streams: BTreeMap<u8, StreamSender>,
    },
}

impl Sender {
    /// Sends bytes on a channel. False: the client is gone.
    pub(super) async fn send(&mut self, channel: u8, bytes: &[u8]) -> bool {
        match &mut self.to {
            To::Socket(socket) => socket.send(channel, bytes).await.is_ok(),
            To::Spdy { streams, .. } => match streams.get(&channel) {
                Some(stream) => stream.send(Bytes::copy_from_slice(bytes)).await,
                None => true,
            },
        }
    }

    /// Says how it ended, and good-bye.
    pub(super) async fn end(mut self, status: &serde_json::Value) {
        let failed = status["status"] != "Success";
        if self.status {
            self.send(ERROR, status.to_string().as_bytes()).await;
        } else if let Some(message) = status["message"].as_str().filter(|_| failed) {
            self.send(ERROR, message.as_bytes()).await;
        }
        match self.to {
            To::Socket(socket) => socket.close().await,
            To::Spdy { session, streams } => {
                for stream in streams.values() {
                    stream.finish().await;
                }
                drop(streams);
                session.close().await;
            }
        }
    }
}

/// The way from the client.
pub(super) struct Receiver(From);

enum From {
    Socket { socket: socket::Receiver, closes: bool },
    Spdy(mpsc::Receiver<Input>),
}

impl Receiver {
    /// What comes next. None: the client is gone.
    pub(super) async fn next(&mut self) -> Option<Input> {
        match &mut self.0 {
            From::Spdy(input) => input.recv().await,
            From::Socket { socket, closes } => {
                let (channel, bytes) = socket.next().await?;
                Some(match (channel, bytes.first()) {
                    (CLOSE, Some(closed)) if *closes => Input::Closed(*closed),
                    _ => Input::Bytes(channel, bytes),
                })
            }
        }
    }
}

/// Agrees to exec's or attach's streams; `work` runs with them once they are there.
pub(super) fn upgrade<F>(
    request: Request<Incoming>,
    wanted: Wanted,
    work: impl FnOnce(Sender, Receiver) -> F + Send + 'static,
) -> Result<Response<Body>, Refusal>
where
    F: Future<Output = ()> + Send,
{
    upgrade::upgrade(request, &PROTOCOLS, move |connection, protocol| async move {
        match connection {
            Connection::Socket(socket) => {
                let (sender, receiver) = socket::split(*socket, protocol);
                let sender = Sender {
                    to: To::Socket(sender),
                    status: !OLD.contains(&protocol),
                };
                let closes = protocol == V5;
                let receiver = From::Socket {
                    socket: receiver,
                    closes,
                };
                work(sender, Receiver(receiver)).await;
            }
            Connection::Spdy(mut session) => {
                let opening = tokio::time::timeout(STREAMS_LIMIT, streams(&mut session, wanted));
                let Ok(Some((streams, receiver))) = opening.await else {
                    return tracing::debug!("a client did not open the streams that it asked for");
                };
                let sender = Sender {
                    to: To::Spdy { session, streams },
                    status: true,
                };
                work(sender, Receiver(From::Spdy(receiver))).await;
            }
        }
    })
}

/// Waits for all of them; what arrives on them comes out of one end. None: the client is gone.
async fn streams(session: &mut Session, wanted: Wanted) -> Option<(BTreeMap<u8, StreamSender>, mpsc::Receiver<Input>)> {
    let mut missing = wanted.channels();
    let mut senders = BTreeMap::new();
    let (input, receiver) = mpsc::channel(INPUT_QUEUE);
    while !missing.is_empty() {
        let stream = session.accept().await?;
        let channel = stream.headers.get("streamtype").and_then(|kind| channel(kind));
        let Some(channel) = channel.filter(|channel| missing.contains(channel)) else {
            stream.sender.reset().await;
            continue;
        };
        missing.retain(|other| *other != channel);
        let (mut received, gone) = (stream.received, stream.sender.gone());
        senders.insert(channel, stream.sender);
        let input = input.clone();
        tokio::spawn(FutureExt::boxed(async move {
            while let Some(bytes) = received.recv().await {
                if input.send(Input::Bytes(channel, bytes)).await.is_err() {
                    return;
                }
            }
            if channel == STDIN {
                let _ = input.send(Input::Closed(channel)).await;
            }
            // The last of these to end is the client's end.
            gone.cancelled().await;
        }));
    }
    Some((senders, receiver))
}

fn channel(stream_type: &str) -> Option<u8> {
    Some(match stream_type {
        "stdin" => STDIN,
        "stdout" => STDOUT,
        "stderr" => STDERR,
        "error" => ERROR,
        "resize" => RESIZE,
        _ => return None,
    })
}
