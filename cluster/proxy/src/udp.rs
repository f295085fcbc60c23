//! UDP: each client address is a flow with an endpoint and a socket of its own, until it is idle for a while.
//!
//! Unlike connections, flows move: one whose endpoint has left the table is dropped and its next datagram begins a new
//! one, as kube-proxy clears such flows from the kernel's connection tracking.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::net::UdpSocket;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::backend::{Backend, Lease, add};
use crate::tcp::Shared;

/// A flow without a datagram in either direction for so long ends (the kernel's tracking: 30 s unanswered, 120 s else).
const IDLE: Duration = Duration::from_secs(60);
/// Flows of one listener.
const FLOWS_MAX: usize = 4096;
/// Largest datagram.
const DATAGRAM_BYTES: usize = 65_535;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; DATAGRAM_BYTES]);
}

#[derive(Clone)]
struct Flow {
    socket: Arc<UdpSocket>,
    lease: Arc<Lease>,
    sent_datagrams: Arc<AtomicU64>,
    /// Cancelled by the listener when it forgets the flow, and by the flow's task when it is idle or broken.
    end: CancellationToken,
}

/// The flows of one listener; what it forgets, ends.
#[derive(Default)]
struct Flows(HashMap<SocketAddr, Flow>);

impl Flows {
    fn remove(&mut self, client: SocketAddr) {
        if let Some(flow) = self.0.remove(&client) {
            flow.end.cancel();
        }
    }
}

impl Drop for Flows {
    fn drop(&mut self) {
        self.0.values().for_each(|flow| flow.end.cancel());
    }
}

/// Serves a socket until `stop`.
pub(crate) async fn serve(
    listener: &Arc<UdpSocket>,
    backend: &Arc<Backend>,
    shared: &Shared,
    stop: &CancellationToken,
) {
    let mut flows = Flows::default();
    let mut buffer = vec![0; DATAGRAM_BYTES];
    loop {
        let received = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = shared.shutdown.cancelled() => return,
            received = listener.recv_from(&mut buffer) => received,
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
        let Some(flow) = flow(&mut flows, client, listener, backend, shared).await else {
            continue;
        };
        let bytes = buffer.get(..length).unwrap_or_default();
        // Past tokio, whose try_send fails on a new socket until it has heard from the kernel; this never blocks.
        match SockRef::from(&*flow.socket).send(bytes) {
            Ok(_) => {
                flow.sent_datagrams.fetch_add(1, Ordering::Relaxed);
                add(&flow.lease.counters().bytes_to_endpoint, length as u64);
            }
            Err(error) => {
                failed(&flow.lease, &error);
                flows.remove(client);
            }
        }
    }
}

/// The flow of a client: the one it has if its endpoint is still there, else a new one.
async fn flow(
    flows: &mut Flows,
    client: SocketAddr,
    listener: &Arc<UdpSocket>,
    backend: &Arc<Backend>,
    shared: &Shared,
) -> Option<Flow> {
    let alive = |flow: &Flow| !flow.end.is_cancelled() && backend.has(flow.lease.counters().address);
    if let Some(flow) = flows.0.get(&client).filter(|flow| alive(flow)) {
        return Some(flow.clone());
    }
    flows.remove(client);
    if flows.0.len() >= FLOWS_MAX {
        flows.0.retain(|_, flow| !flow.end.is_cancelled());
    }
    let permit = shared
        .limit
        .clone()
        .try_acquire_owned()
        .ok()
        .filter(|_| flows.0.len() < FLOWS_MAX)?;
    let lease = Arc::new(backend.pick(client.ip(), Instant::now())?);
    let socket = match open(&lease).await {
        Ok(socket) => Arc::new(socket),
        Err(error) => {
            failed(&lease, &error);
            return None;
        }
    };
    add(&lease.counters().opened, 1);
    let flow = Flow {
        socket,
        lease,
        sent_datagrams: Arc::default(),
        end: shared.shutdown.child_token(),
    };
    shared
        .tasks
        .spawn(answers(flow.clone(), listener.clone(), client, permit));
    flows.0.insert(client, flow.clone());
    Some(flow)
}

async fn open(lease: &Lease) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    socket.connect(lease.counters().address).await?;
    Ok(socket)
}

/// Takes the endpoint's datagrams back to the client until the flow is idle, broken or dropped.
async fn answers(flow: Flow, listener: Arc<UdpSocket>, client: SocketAddr, permit: OwnedSemaphorePermit) {
    let mut seen_datagrams = flow.sent_datagrams.load(Ordering::Relaxed);
    loop {
        let readable = tokio::select! {
            () = flow.end.cancelled() => break,
            readable = timeout(IDLE, flow.socket.readable()) => readable,
        };
        let sent_datagrams = flow.sent_datagrams.load(Ordering::Relaxed);
        match readable {
            Ok(Ok(())) => match answer(&flow, &listener, client) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                    failed(&flow.lease, &error);
                    break;
                }
                _ => {}
            },
            // No answer, but the endpoint is being talked to (one-way traffic such as logs).
            Err(_) if sent_datagrams != seen_datagrams => seen_datagrams = sent_datagrams,
            _ => break,
        }
    }
    flow.end.cancel();
    drop(permit);
}

/// One datagram, through the buffer of the thread: an idle flow keeps none.
fn answer(flow: &Flow, listener: &UdpSocket, client: SocketAddr) -> io::Result<()> {
    BUFFER.with_borrow_mut(|buffer| {
        let length = flow.socket.try_recv(buffer)?;
        add(&flow.lease.counters().bytes_from_endpoint, length as u64);
        // A client that cannot be reached is not the endpoint's fault, and a datagram may get lost.
        let _ = SockRef::from(listener).send_to(buffer.get(..length).unwrap_or_default(), &client.into());
        Ok(())
    })
}

fn failed(lease: &Lease, error: &io::Error) {
    // A full buffer loses a datagram, as networks do; it says nothing about the endpoint.
    if error.kind() != io::ErrorKind::WouldBlock {
        lease.counters().lost(error);
    }
    tracing::debug!(%error, endpoint = %lease.counters().address, "datagram not delivered");
}
