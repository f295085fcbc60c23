//! port-forward: connections into a pod on the channels of a WebSocket.
//!
//! Protocol `v4.channel.k8s.io`: for the n-th port of the query, channel 2n carries data and 2n + 1 errors; both begin
//! with the port as two bytes, little-endian. (kubectl ≥ 1.31 tunnels SPDY in a WebSocket instead; that is refused.)

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use super::socket::{self, Socket};
use super::{Body, Query, Refusal};
use crate::agent::Agent;
use crate::pod::spec;

const PROTOCOLS: [&str; 1] = ["v4.channel.k8s.io"];
const CHUNK: usize = 32 * 1024;

impl Agent {
    pub(super) fn port_forward(
        self: Arc<Self>,
        namespace: &str,
        name: &str,
        query: &Query,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Refusal> {
        let pod = self.pod(namespace, name)?;
        let texts = query.all("ports");
        let texts = if texts.is_empty() { query.all("port") } else { texts };
        let mut ports = vec![];
        for text in texts.iter().flat_map(|text| text.split(',')) {
            let port: u16 = text
                .parse()
                .map_err(|_| Refusal::bad_request(format!("ports: {text:?} is not a port")))?;
            ports.push(port);
        }
        if ports.is_empty() {
            // kubectl names the port inside the SPDY stream that it tunnels.
            return Err(Refusal::bad_request(
                "this node forwards ports over plain WebSocket channels only (v4.channel.k8s.io with `ports`), which kubectl \
                 port-forward does not speak; reach the pod through a Service of type NodePort",
            ));
        }
        let uid = spec::uid(&pod).to_owned();
        socket::upgrade(request, &PROTOCOLS, move |socket, _| self.forward(socket, uid, ports))
    }

    async fn forward(self: Arc<Self>, socket: Socket, uid: String, ports: Vec<u16>) {
        let (mut sender, mut receiver) = socket::split(socket);
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
            let (agent, uid, outgoing) = (self.clone(), uid.clone(), outgoing.clone());
            tasks.spawn(async move {
                if let Err(error) = agent.connection(&uid, port, channel, bytes, &outgoing).await {
                    let _ = outgoing.send((channel + 1, error.into_bytes())).await;
                }
            });
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
        &self,
        uid: &str,
        port: u16,
        channel: u8,
        mut input: mpsc::Receiver<Bytes>,
        outgoing: &mpsc::Sender<(u8, Vec<u8>)>,
    ) -> Result<(), String> {
        let text = |error: &dyn std::fmt::Display| format!("error forwarding port {port} to pod: {error}");
        let stream = self
            .context
            .runtime
            .connect(uid, port)
            .await
            .map_err(|error| text(&error))?;
        let (mut from, mut to) = stream.into_split();
        let write = async {
            while let Some(bytes) = input.recv().await {
                to.write_all(&bytes).await?;
            }
            to.shutdown().await
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
        .map_err(|error: std::io::Error| text(&error))
    }
}
