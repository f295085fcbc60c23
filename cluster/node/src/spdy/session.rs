//! The streams of one connection, from the side that accepts them.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::frame::{CANCEL, Decoder, Encoder, Frame, Headers, INVALID_STREAM, PROTOCOL_ERROR, REFUSED_STREAM};

/// Streams that are open at once; more are refused. A forwarded connection has two.
const STREAMS_MAX: usize = 1024;
/// Streams that wait to be accepted.
const ACCEPT_QUEUE: usize = 64;
/// Pieces of a stream that wait to be taken. When they are so many the whole connection stands still until one is taken.
const STREAM_QUEUE: usize = 64;
/// Frames that wait to be written.
const WRITE_QUEUE: usize = 64;
/// One read.
const READ_BYTES: usize = 32 * 1024;
/// Frames are gathered up to so many bytes for one write.
const WRITE_BYTES: usize = 64 * 1024;
/// How long a peer may take to hang up after it was told to.
const GOODBYE_LIMIT: Duration = Duration::from_secs(10);

/// A connection. Dropping it ends it at once.
pub(crate) struct Session {
    accepted: mpsc::Receiver<Stream>,
    out: mpsc::Sender<Frame>,
    reader: JoinHandle<()>,
    writer: JoinHandle<()>,
}

/// A stream that the peer opened. What arrives comes out of `received`, which ends when the peer has no more to say, has
/// given the stream up (then [`StreamSender::gone`]) or is gone itself.
pub(crate) struct Stream {
    pub(crate) headers: Headers,
    pub(crate) id: u32,
    pub(crate) received: mpsc::Receiver<Bytes>,
    pub(crate) sender: StreamSender,
}

/// The way back. Dropping it finishes the stream.
pub(crate) struct StreamSender {
    id: u32,
    out: mpsc::Sender<Frame>,
    gone: CancellationToken,
    finished: CancellationToken,
}

impl StreamSender {
    /// Sends bytes. False: the peer does not want them any more.
    pub(crate) async fn send(&self, bytes: Bytes) -> bool {
        if self.gone.is_cancelled() || self.finished.is_cancelled() {
            return false;
        }
        let (id, fin) = (self.id, false);
        tokio::select! {
            sent = self.out.send(Frame::Data { id, fin, bytes }) => sent.is_ok(),
            () = self.gone.cancelled() => false,
        }
    }

    /// Says that there is no more.
    pub(crate) async fn finish(&self) {
        if !self.gone.is_cancelled() && !self.finished.is_cancelled() {
            let (id, bytes) = (self.id, Bytes::new());
            let _ = self.out.send(Frame::Data { id, fin: true, bytes }).await;
        }
        self.finished.cancel();
    }

    /// Gives the stream up, both ways.
    pub(crate) async fn reset(&self) {
        if !self.gone.is_cancelled() {
            let reset = Frame::Reset {
                id: self.id,
                status: CANCEL,
            };
            let _ = self.out.send(reset).await;
        }
        self.gone.cancel();
        self.finished.cancel();
    }

    /// Comes true when the peer has given the stream up or is gone.
    pub(crate) fn gone(&self) -> CancellationToken {
        self.gone.clone()
    }
}

impl Drop for StreamSender {
    fn drop(&mut self) {
        if !self.gone.is_cancelled() && !self.finished.is_cancelled() {
            let (id, bytes) = (self.id, Bytes::new());
            // A full queue has no place for it; such a peer does not read and will not miss it.
            let _ = self.out.try_send(Frame::Data { id, fin: true, bytes });
        }
        self.finished.cancel();
    }
}

impl Session {
    /// Begins to speak on a connection whose upgrade is done.
    pub(crate) fn start<R, W>(from: R, to: W) -> Self
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let (out, frames) = mpsc::channel(WRITE_QUEUE);
        let (streams, accepted) = mpsc::channel(ACCEPT_QUEUE);
        let ended = CancellationToken::new();
        let writer = tokio::spawn({
            let ended = ended.clone();
            async move {
                if let Err(error) = write_all(to, frames).await {
                    tracing::debug!(%error, "SPDY connection cannot be written");
                    ended.cancel();
                }
            }
        });
        let reader = tokio::spawn(
            Reader {
                out: out.clone(),
                streams,
                open: BTreeMap::new(),
                last: 0,
                ended,
            }
            .carry_frames(from),
        );
        Self {
            accepted,
            out,
            reader,
            writer,
        }
    }

    /// The next stream. None: the peer is gone or has nothing further to ask for.
    pub(crate) async fn accept(&mut self) -> Option<Stream> {
        self.accepted.recv().await
    }

    /// Says good-bye after all that was sent, and waits until the peer has hung up: closing a socket with unread input would
    /// take from it what it has not read yet.
    pub(crate) async fn close(mut self) {
        let goodbye = async {
            let _ = self.out.send(Frame::GoAway { last: 0, status: 0 }).await;
            let _ = (&mut self.writer).await;
            self.accepted.close();
            let _ = (&mut self.reader).await;
        };
        let _ = tokio::time::timeout(GOODBYE_LIMIT, goodbye).await;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.reader.abort();
        self.writer.abort();
    }
}

/// What the reader knows of an open stream.
struct Open {
    /// None: the peer has said that there is no more.
    received: Option<mpsc::Sender<Bytes>>,
    gone: CancellationToken,
    finished: CancellationToken,
}

struct Reader {
    out: mpsc::Sender<Frame>,
    streams: mpsc::Sender<Stream>,
    open: BTreeMap<u32, Open>,
    last: u32,
    ended: CancellationToken,
}

impl Drop for Reader {
    fn drop(&mut self) {
        for open in self.open.values() {
            open.gone.cancel();
        }
    }
}

impl Reader {
    async fn carry_frames(mut self, mut from: impl AsyncRead + Unpin) {
        let (mut decoder, mut buffer) = (Decoder::new(), BytesMut::with_capacity(READ_BYTES));
        loop {
            loop {
                match decoder.next(&mut buffer) {
                    Ok(Some(frame)) => {
                        if !self.take(frame).await {
                            return;
                        }
                    }
                    Ok(None) => break,
                    Err(error) => {
                        tracing::debug!(%error, "SPDY connection given up");
                        let status = PROTOCOL_ERROR;
                        let last = self.last;
                        let _ = self.out.send(Frame::GoAway { last, status }).await;
                        return;
                    }
                }
            }
            buffer.reserve(READ_BYTES);
            let read = tokio::select! {
                read = from.read_buf(&mut buffer) => read,
                () = self.ended.cancelled() => return,
            };
            if !matches!(read, Ok(length) if length > 0) {
                return;
            }
        }
    }

    /// False: the connection is over.
    async fn take(&mut self, frame: Frame) -> bool {
        match frame {
            Frame::SynStream { id, fin, headers } => return self.open(id, fin, headers).await,
            Frame::Data { id, fin, bytes } => self.data(id, fin, bytes).await,
            Frame::Headers { id, fin, .. } => self.data(id, fin, Bytes::new()).await,
            Frame::Reset { id, .. } => {
                if let Some(open) = self.open.remove(&id) {
                    open.gone.cancel();
                }
            }
            // An even number would be an answer to ours; we ask nothing.
            Frame::Ping(id) if id % 2 == 1 => return self.out.send(Frame::Ping(id)).await.is_ok(),
            Frame::GoAway { .. } => {
                // No new streams; what is open goes on until the peer hangs up.
            }
            Frame::Ping(_) | Frame::SynReply { .. } | Frame::WindowUpdate { .. } | Frame::Settings => {}
        }
        true
    }

    async fn open(&mut self, id: u32, fin: bool, headers: Headers) -> bool {
        self.open.retain(|_, open| {
            let reads = open.received.as_ref().is_some_and(|received| !received.is_closed());
            reads || !open.finished.is_cancelled()
        });
        if id.is_multiple_of(2) || id <= self.last {
            let last = self.last;
            let status = PROTOCOL_ERROR;
            let _ = self.out.send(Frame::GoAway { last, status }).await;
            return false;
        }
        self.last = id;
        let refuse = Frame::Reset {
            id,
            status: REFUSED_STREAM,
        };
        if self.open.len() >= STREAMS_MAX {
            return self.out.send(refuse).await.is_ok();
        }
        let (sender, received) = mpsc::channel(STREAM_QUEUE);
        let (gone, finished) = (CancellationToken::new(), CancellationToken::new());
        let stream = Stream {
            headers,
            id,
            received,
            sender: StreamSender {
                id,
                out: self.out.clone(),
                gone: gone.clone(),
                finished: finished.clone(),
            },
        };
        let open = Open {
            received: (!fin).then_some(sender),
            gone,
            finished,
        };
        self.open.insert(id, open);
        let reply = Frame::SynReply {
            id,
            fin: false,
            headers: Headers::new(),
        };
        if self.out.send(reply).await.is_err() {
            return false;
        }
        if self.streams.send(stream).await.is_err() {
            // Nobody accepts any more; the peer is only waited for.
            self.open.remove(&id);
        }
        true
    }

    async fn data(&mut self, id: u32, fin: bool, bytes: Bytes) {
        let Some(open) = self.open.get_mut(&id) else {
            if id > self.last {
                let status = INVALID_STREAM;
                let _ = self.out.send(Frame::Reset { id, status }).await;
            }
            return;
        };
        if let Some(received) = &open.received
            && !bytes.is_empty()
        {
            tokio::select! {
                // What nobody reads any more is thrown away.
                _ = received.send(bytes) => {}
                () = open.gone.cancelled() => {}
                () = self.ended.cancelled() => {}
            }
        }
        if fin {
            open.received = None;
        }
    }
}

async fn write_all(mut to: impl AsyncWrite + Unpin, mut frames: mpsc::Receiver<Frame>) -> io::Result<()> {
    let (mut encoder, mut buffer) = (Encoder::new(), BytesMut::new());
    let mut over = false;
    while let Some(frame) = frames.recv().await {
        let mut next = Some(frame);
        while let Some(frame) = next {
            over |= matches!(frame, Frame::GoAway { .. });
            encoder.write(&frame, &mut buffer);
            next = if buffer.len() < WRITE_BYTES {
                frames.try_recv().ok()
            } else {
                None
            };
        }
        to.write_all(&buffer).await?;
        to.flush().await?;
        buffer.clear();
        if over {
            break;
        }
    }
    to.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Client {
        to: tokio::io::WriteHalf<tokio::io::DuplexStream>,
        from: tokio::io::ReadHalf<tokio::io::DuplexStream>,
        encoder: Encoder,
        decoder: Decoder,
        buffer: BytesMut,
    }

    fn pair() -> (Client, Session) {
        let (near, far) = tokio::io::duplex(1024);
        let (from, to) = tokio::io::split(far);
        let session = Session::start(from, to);
        let (from, to) = tokio::io::split(near);
        let client = Client {
            to,
            from,
            encoder: Encoder::new(),
            decoder: Decoder::new(),
            buffer: BytesMut::new(),
        };
        (client, session)
    }

    impl Client {
        async fn send(&mut self, frame: Frame) {
            let mut bytes = BytesMut::new();
            self.encoder.write(&frame, &mut bytes);
            self.to.write_all(&bytes).await.unwrap();
        }

        async fn open(&mut self, id: u32) {
            let headers = [("streamtype".to_owned(), "data".to_owned())].into();
            self.send(Frame::SynStream {
                id,
                fin: false,
                headers,
            })
            .await;
        }

        async fn data(&mut self, id: u32, text: &'static str, fin: bool) {
            let bytes = Bytes::from_static(text.as_bytes());
            self.send(Frame::Data { id, fin, bytes }).await;
        }

        async fn next(&mut self) -> Option<Frame> {
            loop {
                if let Some(frame) = self.decoder.next(&mut self.buffer).unwrap() {
                    return Some(frame);
                }
                if self.from.read_buf(&mut self.buffer).await.unwrap() == 0 {
                    return None;
                }
            }
        }
    }

    fn reply(id: u32) -> Option<Frame> {
        Some(Frame::SynReply {
            id,
            fin: false,
            headers: Headers::new(),
        })
    }

    #[tokio::test]
    async fn streams_carry_both_ways_and_end() {
        let (mut client, mut session) = pair();
        client.open(1).await;
        client.data(1, "ask", true).await;
        let mut stream = session.accept().await.unwrap();
        assert_eq!(stream.headers["streamtype"], "data");
        assert_eq!(stream.received.recv().await.unwrap(), "ask");
        assert_eq!(stream.received.recv().await, None);
        assert!(!stream.sender.gone().is_cancelled());
        assert!(stream.sender.send(Bytes::from_static(b"answer")).await);
        drop(stream);
        assert_eq!(client.next().await, reply(1));
        let data = |fin, bytes| Some(Frame::Data { id: 1, fin, bytes });
        assert_eq!(client.next().await, data(false, Bytes::from_static(b"answer")));
        assert_eq!(client.next().await, data(true, Bytes::new()));
        client.send(Frame::Ping(5)).await;
        assert_eq!(client.next().await, Some(Frame::Ping(5)));
        let closing = tokio::spawn(session.close());
        assert_eq!(client.next().await, Some(Frame::GoAway { last: 0, status: 0 }));
        assert_eq!(client.next().await, None);
        drop(client);
        closing.await.unwrap();
    }

    #[tokio::test]
    async fn a_stream_given_up_does_not_touch_another() {
        let (mut client, mut session) = pair();
        client.open(1).await;
        client.open(3).await;
        let (mut one, mut three) = (session.accept().await.unwrap(), session.accept().await.unwrap());
        client.send(Frame::Reset { id: 1, status: CANCEL }).await;
        one.sender.gone().cancelled().await;
        assert_eq!(one.received.recv().await, None);
        assert!(!one.sender.send(Bytes::from_static(b"late")).await);
        client.data(1, "late", false).await;
        client.data(3, "on", false).await;
        assert_eq!(three.received.recv().await.unwrap(), "on");
        three.sender.reset().await;
        assert_eq!((client.next().await, client.next().await), (reply(1), reply(3)));
        assert_eq!(client.next().await, Some(Frame::Reset { id: 3, status: CANCEL }));
        // What nobody knows is refused.
        client.data(9, "?", false).await;
        let unknown = Frame::Reset {
            id: 9,
            status: INVALID_STREAM,
        };
        assert_eq!(client.next().await, Some(unknown));
    }

    #[tokio::test]
    async fn a_peer_that_hangs_up_ends_its_streams() {
        let (mut client, mut session) = pair();
        client.open(1).await;
        let mut stream = session.accept().await.unwrap();
        drop(client);
        assert_eq!(stream.received.recv().await, None);
        stream.sender.gone().cancelled().await;
        assert!(session.accept().await.is_none());
    }

    #[tokio::test]
    async fn streams_are_numbered_upwards() {
        let (mut client, mut session) = pair();
        client.open(3).await;
        client.open(1).await;
        assert!(session.accept().await.is_some());
        assert_eq!(client.next().await, reply(3));
        assert_eq!(client.next().await, Some(Frame::GoAway { last: 3, status: 1 }));
    }
}
