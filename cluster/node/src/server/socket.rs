//! WebSockets with Kubernetes' channel protocols (the first byte of a message is the channel; in those with `base64` it is a digit, and
//! the rest is base64, for clients that have texts only), and as streams of bytes.

use std::future::ready;
use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_util::io::{CopyToBytes, SinkWriter, StreamReader};

pub(super) type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// The sending half.
pub(super) struct Sender {
    sink: SplitSink<Socket, Message>,
    texts: bool,
}

impl Sender {
    /// Sends bytes on a channel.
    pub(super) async fn send(&mut self, channel: u8, bytes: &[u8]) -> Result<(), tungstenite::Error> {
        if self.texts {
            let text = format!("{}{}", char::from(b'0'.wrapping_add(channel)), STANDARD.encode(bytes));
            return self.sink.send(Message::text(text)).await;
        }
        let mut message = BytesMut::with_capacity(bytes.len() + 1);
        message.put_u8(channel);
        message.put_slice(bytes);
        self.sink.send(Message::Binary(message.freeze())).await
    }

    /// Says good-bye. Clients take any code but this one for an error.
    pub(super) async fn close(mut self) {
        let frame = CloseFrame {
            code: CloseCode::Normal,
            reason: "".into(),
        };
        let _ = self.sink.send(Message::Close(Some(frame))).await;
        let _ = self.sink.close().await;
    }
}

/// The receiving half.
pub(super) struct Receiver {
    stream: SplitStream<Socket>,
    texts: bool,
}

impl Receiver {
    /// The next message: channel and bytes. None: the client is gone.
    pub(super) async fn next(&mut self) -> Option<(u8, Bytes)> {
        loop {
            let mut bytes = match self.stream.next().await? {
                Ok(Message::Binary(bytes)) => bytes,
                Ok(Message::Text(text)) => Bytes::from(text),
                Ok(Message::Ping(_) | Message::Pong(_)) => continue,
                Ok(Message::Close(_) | Message::Frame(_)) | Err(_) => return None,
            };
            if bytes.is_empty() {
                continue;
            }
            let channel = bytes.split_to(1)[0];
            if !self.texts {
                return Some((channel, bytes));
            }
            // Whoever sends something else is not understood any more.
            let bytes = STANDARD.decode(&bytes).ok()?;
            return Some((channel.wrapping_sub(b'0'), bytes.into()));
        }
    }
}

/// Both halves, which speak a sub-protocol.
pub(super) fn split(socket: Socket, protocol: &str) -> (Sender, Receiver) {
    let (sink, stream) = socket.split();
    let texts = protocol.contains("base64");
    (Sender { sink, texts }, Receiver { stream, texts })
}

/// The two ways of a WebSocket whose messages are pieces of a stream of bytes.
pub(super) fn byte_stream(socket: Socket) -> (impl AsyncRead + Send + Unpin, impl AsyncWrite + Send + Unpin) {
    let (to, from) = socket.split();
    let bytes = from.filter_map(|message| {
        ready(match message {
            Ok(Message::Binary(bytes)) => Some(Ok(bytes)),
            Ok(Message::Text(text)) => Some(Ok(Bytes::from(text))),
            Ok(_) => None,
            Err(error) => Some(Err(io::Error::other(error))),
        })
    });
    let messages = to
        .sink_map_err(io::Error::other)
        .with(|bytes: Bytes| ready(Ok::<_, io::Error>(Message::Binary(bytes))));
    (StreamReader::new(bytes), SinkWriter::new(CopyToBytes::new(messages)))
}
