//! TCP: accept, choose, connect, copy.
//!
//! A connection stays with its endpoint until one side ends it, whatever becomes of the table meanwhile. What
//! kube-proxy cannot be imitated in: the client is connected before the endpoint is, so where kube-proxy's client sees
//! a refused connection, ours sees one that opens and is reset at once. It is counted as refused all the same.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::backend::{Backend, Lease, add};
use crate::listen;
use crate::relay::{self, Side};

/// Longest wait for an endpoint. Beyond the second after which the kernel repeats a SYN, so that a lost one is no loss.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1500);
/// Pause after an accept that failed for want of something (descriptors, memory).
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// What all connections of a proxy share.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    /// One permit per connection or flow.
    pub(crate) limit: Arc<Semaphore>,
    /// Their tasks.
    pub(crate) tasks: TaskTracker,
    /// Ends all of them.
    pub(crate) shutdown: CancellationToken,
}

/// Serves a listener until `stop`. With no permit left, connections wait in the kernel's queue.
pub(crate) async fn serve(listener: &TcpListener, backend: &Arc<Backend>, shared: &Shared, stop: &CancellationToken) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (client, peer) = match accepted {
            Ok(accepted) => accepted,
            // A connection that its client gave up is no reason to pause.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let permit = tokio::select! {
            () = stop.cancelled() => return reset(&client),
            permit = shared.limit.clone().acquire_owned() => permit,
        };
        // Chosen after the wait, which may be long, and here rather than in the task: by the table of this moment.
        let lease = backend.pick(peer.ip(), Instant::now());
        let shutdown = shared.shutdown.clone();
        shared.tasks.spawn(async move {
            tokio::select! {
                () = connection(client, lease) => {}
                () = shutdown.cancelled() => {}
            }
            drop(permit);
        });
    }
}

async fn connection(client: TcpStream, lease: Option<Lease>) {
    let Some(lease) = lease else { return reset(&client) };
    let counters = lease.counters();
    let endpoint = match connect(counters.address).await {
        Ok(endpoint) => endpoint,
        Err(error) => {
            counters.lost(&error);
            tracing::debug!(%error, endpoint = %counters.address, "cannot connect");
            return reset(&client);
        }
    };
    add(&counters.opened, 1);
    let ended = relay::both(
        &client,
        &endpoint,
        &counters.bytes_to_endpoint,
        &counters.bytes_from_endpoint,
    )
    .await;
    if let Err(broken) = ended {
        if broken.side == Side::Endpoint {
            counters.lost(&broken.error);
        }
        // An abort on one side is passed on as one; a plain close would look like a complete answer.
        reset(&client);
        reset(&endpoint);
    }
}

async fn connect(address: std::net::SocketAddrV4) -> io::Result<TcpStream> {
    let socket = TcpSocket::from_std_stream(listen::upstream()?.into());
    match timeout(CONNECT_TIMEOUT, socket.connect(SocketAddr::V4(address))).await {
        Ok(Ok(stream)) if connected_to_itself(&stream) => Err(io::ErrorKind::ConnectionRefused.into()),
        Ok(result) => result,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// An endpoint on this machine within the range of ephemeral ports can be answered by the connecting socket itself
/// (simultaneous open) when nobody listens.
fn connected_to_itself(stream: &TcpStream) -> bool {
    match (stream.local_addr(), stream.peer_addr()) {
        (Ok(local), Ok(peer)) => local == peer && local.ip() != Ipv4Addr::UNSPECIFIED,
        _ => false,
    }
}

/// Makes the close of a socket, soon after, an abort (RST). Bytes that were not sent are lost, as they would be.
fn reset(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    if let Err(error) = socket.set_linger(Some(Duration::ZERO)) {
        tracing::debug!(%error, "cannot mark a socket for reset");
        // The next best: at least end it now.
        let _ = socket.shutdown(Shutdown::Both);
    }
}
