//! Sockets: requests in, answers out.

use std::io;
use std::sync::Arc;
use std::sync::RwLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt;
use hickory_proto::op::Message;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::forward::Forwarder;
use crate::reply::{self, Step};
use crate::stream::{read_message, write_message};
use crate::zone::Zone;

/// Connections at a time; more wait.
const CONNECTIONS_MAX: usize = 128;
/// A connection on which nothing is asked for so long is closed (RFC 7766 wants a few seconds).
const IDLE: Duration = Duration::from_secs(10);
/// Requests are far smaller.
const REQUEST_BYTES: usize = 4096;

/// Who answers.
pub(crate) struct Answerer {
    /// None: only names outside of the cluster are known.
    pub(crate) zone: Option<Arc<RwLock<Zone>>>,
    pub(crate) forwarder: Arc<Forwarder>,
    turn: AtomicUsize,
    connections: Arc<Semaphore>,
    pub(crate) tasks: TaskTracker,
    pub(crate) shutdown: CancellationToken,
}

impl Answerer {
    pub(crate) fn new(
        zone: Option<Arc<RwLock<Zone>>>,
        forwarder: Arc<Forwarder>,
        tasks: TaskTracker,
        shutdown: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            zone,
            forwarder,
            turn: AtomicUsize::new(0),
            connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            tasks,
            shutdown,
        })
    }

    fn step(&self, request: &[u8]) -> Step {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        match &self.zone {
            Some(zone) => {
                let zone = zone.read().unwrap_or_else(std::sync::PoisonError::into_inner);
                reply::step(Some(&zone), request, turn)
            }
            None => reply::step(None, request, turn),
        }
    }

    /// Answers datagrams until shutdown.
    pub(crate) async fn datagrams(self: Arc<Self>, socket: Arc<UdpSocket>) {
        let mut buffer = vec![0; REQUEST_BYTES];
        loop {
            let received = tokio::select! {
                () = self.shutdown.cancelled() => return,
                received = socket.recv_from(&mut buffer) => received,
            };
            let (length, client) = match received {
                Ok(received) => received,
                Err(error) => {
                    // Mostly an ICMP answer of a client that is gone.
                    tracing::debug!(%error, "receive failed");
                    sleep(Duration::from_millis(1)).await;
                    continue;
                }
            };
            let request = buffer.get(..length).unwrap_or_default();
            let limit = reply::datagram_limit(request);
            match self.step(request) {
                Step::Ignore => {}
                Step::Send(answer) => send(&socket, &answer, limit, client).await,
                Step::Forward(answer, query) => {
                    let (this, socket) = (self.clone(), socket.clone());
                    // Bounded: the forwarder refuses at once what is too much.
                    self.tasks.spawn(FutureExt::boxed(async move {
                        let answer = this.forwarder.forward(answer, query, false).await;
                        send(&socket, &answer, limit, client).await;
                    }));
                }
            }
        }
    }

    /// Accepts connections until shutdown.
    pub(crate) async fn streams(self: Arc<Self>, listener: TcpListener) {
        loop {
            let Ok(permit) = self.connections.clone().acquire_owned().await else {
                return;
            };
            let accepted = tokio::select! {
                () = self.shutdown.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let this = self.clone();
                    self.tasks.spawn(FutureExt::boxed(async move {
                        tokio::select! {
                            () = this.shutdown.cancelled() => {}
                            // A client that goes away is none of the server's business.
                            _ = this.stream(stream) => {}
                        }
                        drop(permit);
                    }));
                }
                Err(error) => {
                    tracing::debug!(%error, "accept failed");
                    sleep(Duration::from_millis(10)).await;
                }
            }
        }
    }

    async fn stream(&self, mut stream: TcpStream) -> io::Result<()> {
        loop {
            let request = timeout(IDLE, read_message(&mut stream)).await??;
            let answer = match self.step(&request) {
                Step::Ignore => return Ok(()),
                Step::Send(answer) => answer,
                Step::Forward(answer, query) => self.forwarder.forward(answer, query, true).await,
            };
            let Some(bytes) = reply::encode(&answer, reply::STREAM_MAX) else {
                return Ok(());
            };
            timeout(IDLE, write_message(&mut stream, &bytes)).await??;
        }
    }
}

async fn send(socket: &UdpSocket, answer: &Message, limit: usize, client: std::net::SocketAddr) {
    if let Some(bytes) = reply::encode(answer, limit)
        && let Err(error) = socket.send_to(&bytes, client).await
    {
        tracing::debug!(%error, %client, "answer not sent");
    }
}
