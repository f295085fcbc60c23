//! Frontends become sockets: opens, keeps open (with back-off), closes, hands new endpoints to what is open.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::backend::Backend;
use crate::options::{HostPorts, ProxyOptions};
use crate::snapshot::Ledger;
use crate::table::{Diff, Frontend, Protocol, Route};
use crate::tcp::{self, Shared};
use crate::{listen, udp};

/// First and longest pause before a socket that could not be opened is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// Longest wait for a closing listener's task; it has nothing to wait for but its turn.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest wait for the host to open a port.
const HOST_TIMEOUT: Duration = Duration::from_secs(5);

/// All open frontends.
pub(crate) struct Sockets {
    options: Arc<ProxyOptions>,
    shared: Shared,
    ledger: Arc<Ledger>,
    open: BTreeMap<Frontend, Open>,
}

struct Open {
    route: Route,
    backend: Arc<Backend>,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

/// One socket of a frontend.
#[derive(Clone)]
enum Place {
    Inside(SocketAddrV4, Option<String>, Protocol),
    Host(SocketAddrV4, Arc<dyn HostPorts>),
}

enum Socket {
    Tcp(TcpListener),
    Udp(Arc<UdpSocket>),
}

impl Sockets {
    pub(crate) fn new(options: Arc<ProxyOptions>, shared: Shared, ledger: Arc<Ledger>) -> Sockets {
        Sockets {
            options,
            shared,
            ledger,
            open: BTreeMap::new(),
        }
    }

    /// Puts a difference into force. When it returns, no new connection goes to an endpoint that left, and what could
    /// be opened at the first try is open.
    pub(crate) async fn apply(&mut self, diff: Diff) {
        for (frontend, route) in diff.change {
            if let Some(open) = self.open.get_mut(&frontend) {
                let counters = self.ledger.enter(&route.port, &route.endpoints);
                open.backend.replace(counters, route.affinity);
                self.ledger.leave(&open.route.port, &open.route.endpoints);
                open.route = route;
            }
        }
        for frontend in &diff.close {
            if let Some(open) = self.open.remove(frontend) {
                self.close(open).await;
            }
        }
        for (frontend, route) in diff.open {
            let backend = Arc::new(Backend::new());
            backend.replace(self.ledger.enter(&route.port, &route.endpoints), route.affinity);
            let stop = self.shared.shutdown.child_token();
            let start = |place: Place| {
                let first = place.try_inside();
                let (backend, shared, stop) = (backend.clone(), self.shared.clone(), stop.clone());
                self.shared
                    .tasks
                    .spawn(async move { keep_open(&place, first, &backend, &shared, &stop).await })
            };
            let tasks = places(&self.options, frontend).into_iter().map(start).collect();
            self.open.insert(
                frontend,
                Open {
                    route,
                    backend,
                    stop,
                    tasks,
                },
            );
        }
    }

    async fn close(&self, open: Open) {
        open.backend.replace(Vec::new(), None);
        open.stop.cancel();
        for task in open.tasks {
            if timeout(CLOSE_TIMEOUT, task).await.is_err() {
                tracing::warn!(service = %open.route.port.service, "a listener is slow to close");
            }
        }
        self.ledger.leave(&open.route.port, &open.route.endpoints);
    }
}

/// Where a frontend listens on this node.
fn places(options: &ProxyOptions, frontend: Frontend) -> Vec<Place> {
    match frontend {
        Frontend::ClusterIp(address, protocol) => {
            let mut devices = vec![options.device.clone()];
            if options.device.is_some() && options.serve_local {
                devices.push(Some("lo".into()));
            }
            devices
                .into_iter()
                .map(|device| Place::Inside(address, device, protocol))
                .collect()
        }
        Frontend::NodePort(port, protocol) => {
            let mut places = vec![Place::Inside(SocketAddrV4::new(options.node_ip, port), None, protocol)];
            if let (Some(host), Protocol::Tcp) = (&options.host, protocol) {
                places.push(Place::Host(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port), host.clone()));
            }
            places
        }
    }
}

impl Place {
    /// Opens it at once where that needs no waiting.
    fn try_inside(&self) -> Option<io::Result<Socket>> {
        match self {
            Place::Inside(address, device, protocol) => Some(inside(*address, device.as_deref(), *protocol)),
            Place::Host(..) => None,
        }
    }

    async fn open(&self) -> io::Result<Socket> {
        match self {
            Place::Inside(address, device, protocol) => inside(*address, device.as_deref(), *protocol),
            Place::Host(address, host) => {
                let listening = timeout(HOST_TIMEOUT, host.listen(SocketAddr::V4(*address))).await;
                let listener = listening.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
                listener.set_nonblocking(true)?;
                Ok(Socket::Tcp(TcpListener::from_std(listener)?))
            }
        }
    }

    fn address(&self) -> SocketAddrV4 {
        match self {
            Place::Inside(address, ..) | Place::Host(address, _) => *address,
        }
    }
}

fn inside(address: SocketAddrV4, device: Option<&str>, protocol: Protocol) -> io::Result<Socket> {
    Ok(match protocol {
        Protocol::Tcp => Socket::Tcp(TcpListener::from_std(listen::tcp(address, device)?)?),
        Protocol::Udp => Socket::Udp(Arc::new(UdpSocket::from_std(listen::udp(address, device)?)?)),
    })
}

/// Serves one place until `stop`, trying again while it cannot be opened (its device or address may come later).
async fn keep_open(
    place: &Place,
    first: Option<io::Result<Socket>>,
    backend: &Arc<Backend>,
    shared: &Shared,
    stop: &CancellationToken,
) {
    let mut result = first;
    let mut pause = RETRY.0;
    loop {
        let opened = match result.take() {
            Some(opened) => opened,
            None => match unless(stop, place.open()).await {
                Some(opened) => opened,
                None => return,
            },
        };
        match opened {
            Ok(Socket::Tcp(listener)) => return tcp::serve(&listener, backend, shared, stop).await,
            Ok(Socket::Udp(socket)) => return udp::serve(&socket, backend, shared, stop).await,
            Err(error) => {
                tracing::warn!(address = %place.address(), %error, "cannot open a service port, trying again");
            }
        }
        if unless(stop, sleep(pause)).await.is_none() {
            return;
        }
        pause = (pause * 2).min(RETRY.1);
    }
}

async fn unless<T>(stop: &CancellationToken, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        () = stop.cancelled() => None,
        done = work => Some(done),
    }
}
