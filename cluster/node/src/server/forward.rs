//! port-forward: connections into a pod.
//!
//! kubectl opens a pair of SPDY streams for each connection ([`super::forward_spdy`]). kube-rs and others speak
//! `v4.channel.k8s.io`: for the n-th port of the query, channel 2n carries data and 2n + 1 errors; both begin with the port as
//! two bytes, little-endian.

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use super::answer::{Body, Refusal};
use super::destination::Destination;
use super::query::Query;
use super::socket;
use super::upgrade::{self, Connection, Protocols};
use super::{forward_spdy, pods};
use crate::context::Context;
use crate::pod::spec;

const PROTOCOLS: Protocols = Protocols {
    websocket: &[
        "SPDY/3.1+portforward.k8s.io",
        "v4.channel.k8s.io",
        "v4.base64.channel.k8s.io",
        "",
    ],
    spdy: &["portforward.k8s.io"],
};
const CHUNK: usize = 32 * 1024;

/// `portForward`.
pub(super) fn port_forward(
    context: Arc<Context>,
    namespace: &str,
    name: &str,
    query: &Query,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    let pod = pods::pod(&context, namespace, name)?;
    let texts = query.all("ports");
    let texts = if texts.is_empty() { query.all("port") } else { texts };
    let mut ports = vec![];
    for text in texts.iter().flat_map(|text| text.split(',')) {
        let port = text.parse().ok().filter(|port| *port > 0);
        ports.push(port.ok_or_else(|| Refusal::bad_request(format!("ports: {text:?} is not a port")))?);
    }
    let to = Destination {
        pod: format!("{}_{}", spec::name(&pod), spec::namespace(&pod)),
        uid: spec::uid(&pod).to_owned(),
        context,
    };
    upgrade::upgrade(request, &PROTOCOLS, move |connection, protocol| async move {
        match connection {
            Connection::Spdy(session) => forward_spdy::forward(session, to).await,
            Connection::Socket(socket) => forward(socket::split(*socket, protocol), to, ports).await,
        }
    })
}

async fn forward((mut sender, mut receiver): (socket::Sender, socket::Receiver), to: Destination, ports: Vec<u16>) {
    let (outgoing, mut chunks) = mpsc::channel::<(u8, Vec<u8>)>(16);
    let mut inputs = vec![];
    let mut tasks = tokio::task::JoinSet::new();
    for (index, port) in ports.into_iter().enumerate() {
        let Ok(channel) = u8::try_from(index * 2) else { break };
        for channel in [channel, channel + 1] {
            if sender.send(channel, &port.to_le_bytes()).await.is_err() {
                return;
            }
        }
        let (input, bytes) = mpsc::channel::<Bytes>(16);
        inputs.push(input);
        let (to, outgoing) = (to.clone(), outgoing.clone());
        tasks.spawn(FutureExt::boxed(async move {
            if let Err(error) = connection(&to, port, channel, bytes, &outgoing).await {
                let _ = outgoing.send((channel + 1, error.into_bytes())).await;
            }
        }));
    }
    drop(outgoing);
    loop {
        tokio::select! {
            chunk = chunks.recv() => match chunk {
                Some((channel, bytes)) if sender.send(channel, &bytes).await.is_ok() => {}
                _ => break,
            },
            message = receiver.next() => match message {
                Some((channel, bytes)) if channel % 2 == 0 => {
                    if let Some(input) = inputs.get(usize::from(channel / 2)) {
                        let _ = input.send(bytes).await;
                    }
                }
                Some(_) => {}
                None => break,
            },
        }
    }
    sender.close().await;
}

async fn connection(
    to: &Destination,
    port: u16,
    channel: u8,
    mut input: mpsc::Receiver<Bytes>,
    outgoing: &mpsc::Sender<(u8, Vec<u8>)>,
) -> Result<(), String> {
    let stream = to.connect(port).await?;
    let (mut from, mut into) = stream.into_split();
    let write = async {
        while let Some(bytes) = input.recv().await {
            into.write_all(&bytes).await?;
        }
        into.shutdown().await
    };
    let read = async {
        let mut buffer = vec![0; CHUNK];
        loop {
            let count = from.read(&mut buffer).await?;
            if count == 0 || outgoing.send((channel, buffer[..count].to_vec())).await.is_err() {
                return Ok(());
            }
        }
    };
    tokio::select! {
        done = read => done,
        Err(error) = write => Err(error),
    }
    .map_err(|error: std::io::Error| to.failed(port, &error))
}
