//! WebSocket upgrades with Kubernetes' channel protocols: the first byte of a message is the channel.

use bytes::{BufMut, Bytes, BytesMut};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use http::{HeaderMap, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};
use tokio_tungstenite::tungstenite::{self, Message};

use super::{Body, Refusal, full};

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
/// Version 5 only: the channel named in the second byte is closed.
pub(super) const CLOSE: u8 = 255;

pub(super) type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// The sending half.
pub(super) struct Sender(SplitSink<Socket, Message>);

impl Sender {
    /// Sends bytes on a channel.
    pub(super) async fn send(&mut self, channel: u8, bytes: &[u8]) -> Result<(), tungstenite::Error> {
        let mut message = BytesMut::with_capacity(bytes.len() + 1);
        message.put_u8(channel);
        message.put_slice(bytes);
        self.0.send(Message::Binary(message.freeze())).await
    }

    /// Says good-bye. Clients take any code but this one for an error.
    pub(super) async fn close(mut self) {
        let frame = CloseFrame {
            code: CloseCode::Normal,
            reason: "".into(),
        };
        let _ = self.0.send(Message::Close(Some(frame))).await;
        let _ = self.0.close().await;
    }
}

/// The receiving half.
pub(super) struct Receiver(SplitStream<Socket>);

impl Receiver {
    /// The next message: channel and bytes. None: the client is gone.
    pub(super) async fn next(&mut self) -> Option<(u8, Bytes)> {
        loop {
            let mut bytes = match self.0.next().await? {
                Ok(Message::Binary(bytes)) => bytes,
                Ok(Message::Text(text)) => Bytes::from(text),
                Ok(Message::Ping(_) | Message::Pong(_)) => continue,
                Ok(Message::Close(_) | Message::Frame(_)) | Err(_) => return None,
            };
            if !bytes.is_empty() {
                let channel = bytes.split_to(1)[0];
                return Some((channel, bytes));
            }
        }
    }
}

/// Both halves.
pub(super) fn split(socket: Socket) -> (Sender, Receiver) {
    let (sender, receiver) = socket.split();
    (Sender(sender), Receiver(receiver))
}

fn has(headers: &HeaderMap, name: header::HeaderName, wanted: &str) -> bool {
    let values = headers.get_all(name);
    values
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .any(|v| v.trim().eq_ignore_ascii_case(wanted))
}

/// Agrees to a WebSocket with the first of `protocols` that the client knows; `work` runs with it once it is there.
pub(super) fn upgrade<F>(
    mut request: Request<Incoming>,
    protocols: &[&'static str],
    work: impl FnOnce(Socket, &'static str) -> F + Send + 'static,
) -> Result<Response<Body>, Refusal>
where
    F: Future<Output = ()> + Send,
{
    let headers = request.headers();
    if has(headers, header::UPGRADE, "spdy/3.1") {
        return Err(Refusal {
            code: StatusCode::FORBIDDEN,
            reason: "Forbidden",
            message: "this node speaks WebSocket only, not SPDY: use kubectl 1.31 or newer, or set KUBECTL_REMOTE_COMMAND_WEBSOCKETS=true \
                      (port-forward: KUBECTL_PORT_FORWARD_WEBSOCKETS=true)"
                .to_owned(),
        });
    }
    let key = headers
        .get(header::SEC_WEBSOCKET_KEY)
        .map(|key| derive_accept_key(key.as_bytes()));
    let Some(key) = key.filter(|_| has(headers, header::UPGRADE, "websocket")) else {
        return Err(Refusal::bad_request(
            "Upgrade request required: open this as a WebSocket",
        ));
    };
    let known = |protocol: &&&'static str| has(headers, header::SEC_WEBSOCKET_PROTOCOL, protocol);
    let Some(protocol) = protocols.iter().find(known).copied() else {
        return Err(Refusal::bad_request(format!(
            "unable to negotiate a protocol: this node knows {}",
            protocols.join(", ")
        )));
    };
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match upgraded.await {
            Ok(stream) => {
                let socket = WebSocketStream::from_raw_socket(TokioIo::new(stream), Role::Server, None).await;
                work(socket, protocol).await;
            }
            Err(error) => tracing::debug!(%error, "upgrade not completed"),
        }
    });
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::UPGRADE, "websocket")
        .header(header::CONNECTION, "Upgrade")
        .header(header::SEC_WEBSOCKET_ACCEPT, key)
        .header(header::SEC_WEBSOCKET_PROTOCOL, protocol)
        .body(full(""))
        .map_err(|error| Refusal::internal(error.to_string()))
}
