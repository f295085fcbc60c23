//! port-forward over SPDY, tunnelled in a WebSocket or not (protocol `portforward.k8s.io`): the client opens two streams for
//! each connection, one for errors and one for data, with the same `requestid`.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::destination::Destination;
use crate::spdy::{Session, Stream};

/// How long the second stream of a pair may take, as for the kubelet.
const PAIR_LIMIT: Duration = Duration::from_secs(30);
const CHUNK: usize = 32 * 1024;

/// A connection whose second stream has not come.
#[derive(Default)]
struct Half {
    error: Option<Stream>,
    data: Option<Stream>,
    since: Option<Instant>,
}

/// Forwards connections until the client is gone. What goes wrong with one of them is told on its error stream and touches no
/// other. (kubectl itself gives all of them up when it reads an error.)
pub(super) async fn forward(mut session: Session, to: Destination) {
    let mut halves: BTreeMap<String, Half> = BTreeMap::new();
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            stream = session.accept() => stream,
            Some(_) = connections.join_next() => continue,
        };
        let Some(stream) = stream else { break };
        halves.retain(|_, half| half.since.is_none_or(|since| since.elapsed() < PAIR_LIMIT));
        let Some(id) = request_id(&stream) else {
            stream.sender.reset().await;
            continue;
        };
        let half = halves.entry(id.clone()).or_default();
        half.since.get_or_insert_with(Instant::now);
        let place = match is_error(&stream) {
            true => &mut half.error,
            false => &mut half.data,
        };
        if place.is_some() {
            stream.sender.reset().await;
            continue;
        }
        *place = Some(stream);
        if half.error.is_some()
            && half.data.is_some()
            && let Some(Half {
                error: Some(error),
                data: Some(data),
                ..
            }) = halves.remove(&id)
        {
            let to = to.clone();
            connections.spawn(FutureExt::boxed(async move { connection(&to, error, data).await }));
        }
    }
    // The client is gone, and with it all of its connections.
}

fn is_error(stream: &Stream) -> bool {
    stream.headers.get("streamtype").is_some_and(|kind| kind == "error")
}

/// What makes two streams a pair. Old clients do not say; there the numbers of error and data stream follow each other.
fn request_id(stream: &Stream) -> Option<String> {
    let number = match stream.headers.get("streamtype")?.as_str() {
        "error" => stream.id,
        "data" => stream.id.checked_sub(2)?,
        _ => return None,
    };
    let said = stream.headers.get("requestid").filter(|id| !id.is_empty());
    Some(said.cloned().unwrap_or_else(|| number.to_string()))
}

async fn connection(to: &Destination, error: Stream, mut data: Stream) {
    let port = data.headers.get("port").map(String::as_str).unwrap_or_default();
    let connected = match port.parse() {
        Ok(port) if port > 0 => to.connect(port).await,
        _ => Err(format!("unable to parse {port:?} as a port")),
    };
    let stream = match connected {
        Ok(stream) => stream,
        Err(message) => {
            error.sender.send(Bytes::from(message)).await;
            error.sender.finish().await;
            return data.sender.reset().await;
        }
    };
    let gone = data.sender.gone();
    let (mut from, mut into) = stream.into_split();
    let write = async {
        while let Some(bytes) = data.received.recv().await {
            into.write_all(&bytes).await?;
        }
        into.shutdown().await
    };
    let read = async {
        let mut buffer = BytesMut::with_capacity(CHUNK);
        loop {
            buffer.reserve(CHUNK);
            if from.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
            if !data.sender.send(buffer.split().freeze()).await {
                return Ok(());
            }
        }
    };
    // The pod's end is the connection's end, whatever the client would still like to say; the client's end is not.
    let ended: std::io::Result<()> = tokio::select! {
        done = read => done,
        Err(error) = write => Err(error),
        () = gone.cancelled() => Ok(()),
    };
    match ended {
        Ok(()) => data.sender.finish().await,
        // The pod broke off: so does this connection, without an error that would make kubectl give up all others.
        Err(_) => data.sender.reset().await,
    }
    error.sender.finish().await;
}
