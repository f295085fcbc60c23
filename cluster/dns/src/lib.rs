//! The cluster's DNS server: names of Services and pods, and what the host's resolvers know.
//!
//! ```text
//! feed (watches) ──▶ zone (pure: Services, endpoints, namespaces → records) ◀── reply (pure: bytes → Step) ◀── serve
//!                                                                                        forward (host's resolvers) ◀──┘
//! ```
//!
//! It must never keep a client waiting: what cannot be resolved is answered with a failure. IPv4 only.

pub mod client;
mod feed;
mod forward;
#[cfg(test)]
mod fuzz;
mod reply;
mod serve;
mod stream;
mod view;
mod zone;

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use hickory_proto::rr::Name;
use tokio::net::{TcpListener, UdpSocket};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use forward::Upstream;

use crate::forward::Forwarder;
use crate::serve::Answerer;
use crate::zone::Zone;

/// The port that resolvers ask.
pub const PORT: u16 = 53;
/// Longest wait for answers that are on their way at shutdown.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// How a server is set up.
#[derive(Clone)]
pub struct DnsOptions {
    /// `cluster.local`
    pub domain: String,
    /// Where pods ask: address of the Service `kube-dns`.
    pub address: Ipv4Addr,
    /// Where who does not want to know the cluster's names asks (`dnsPolicy: Default`): names go to the host's
    /// resolvers only.
    pub node_address: Option<Ipv4Addr>,
    /// Networks of Services and pods: an address in them that has no name here has none at all.
    pub networks: Vec<(Ipv4Addr, u8)>,
    /// The way to the host's resolvers; None: names outside of the cluster are refused.
    pub upstream: Option<Arc<dyn Upstream>>,
}

/// Sockets on which the cluster's names are served, too, whoever made them.
#[derive(Debug)]
pub struct DnsSockets {
    /// For datagrams.
    pub udp: std::net::UdpSocket,
    /// For connections.
    pub tcp: std::net::TcpListener,
}

/// Why a server did not start or stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The domain is no name.
    #[error("the cluster's domain {0:?} is not a DNS name")]
    Domain(String),
    /// An address cannot be listened on.
    #[error("cannot serve DNS on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddrV4,
        /// What the kernel said.
        source: io::Error,
    },
    /// A socket that was handed over cannot be used.
    #[error("cannot serve DNS on a socket of the host: {0}")]
    Socket(io::Error),
    /// The watches ended, which they never should.
    #[error("the DNS server lost its watches")]
    WatchEnded,
}

/// Serves until `shutdown`; `more` are served beside the options' addresses.
///
/// # Errors
/// When it cannot listen, or the watches end by themselves; failures of the API server and of resolvers are tried again.
pub fn run(
    client: kube::Client,
    options: DnsOptions,
    more: Option<DnsSockets>,
    shutdown: CancellationToken,
) -> BoxFuture<'static, Result<(), Error>> {
    // Boxed where nothing is async: the code of a future is made where it is awaited, which would be each program that calls this.
    run_server(client, options, more, shutdown).boxed()
}

async fn run_server(
    client: kube::Client,
    options: DnsOptions,
    more: Option<DnsSockets>,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let domain = Name::from_ascii(&options.domain).ok().filter(|name| !name.is_root());
    let mut domain = domain.ok_or_else(|| Error::Domain(options.domain.clone()))?;
    domain.set_fqdn(true);
    let zone = Arc::new(RwLock::new(Zone::new(
        domain,
        options.address,
        options.networks.clone(),
    )));
    let forwarder = Arc::new(Forwarder::new(options.upstream.clone()));
    let tasks = TaskTracker::new();
    let stop = shutdown.child_token();
    let cluster = Answerer::new(Some(zone.clone()), forwarder.clone(), tasks.clone(), stop.clone());
    let outside = Answerer::new(None, forwarder, tasks.clone(), stop.clone());
    serve(&cluster, listen(options.address).await?);
    if let Some(address) = options.node_address {
        serve(&outside, listen(address).await?);
    }
    if let Some(sockets) = more {
        serve(&cluster, adopt(sockets).map_err(Error::Socket)?);
    }
    let see = |change| zone.write().unwrap_or_else(PoisonError::into_inner).see(change);
    let outcome = tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        () = feed::watch_names(&client, &see) => Err(Error::WatchEnded),
    };
    stop.cancel();
    tasks.close();
    // What is still being asked outside is of no use to anybody.
    let _ = timeout(SHUTDOWN_TIMEOUT, tasks.wait()).await;
    outcome
}

fn serve(answerer: &Arc<Answerer>, (udp, tcp): (UdpSocket, TcpListener)) {
    answerer.tasks.spawn(answerer.clone().datagrams(Arc::new(udp)).boxed());
    answerer.tasks.spawn(answerer.clone().streams(tcp).boxed());
}

async fn listen(address: Ipv4Addr) -> Result<(UdpSocket, TcpListener), Error> {
    let address = SocketAddrV4::new(address, PORT);
    let failed = |source| Error::Listen { address, source };
    let udp = UdpSocket::bind(address).await.map_err(failed)?;
    let tcp = TcpListener::bind(address).await.map_err(failed)?;
    Ok((udp, tcp))
}

fn adopt(sockets: DnsSockets) -> io::Result<(UdpSocket, TcpListener)> {
    sockets.udp.set_nonblocking(true)?;
    sockets.tcp.set_nonblocking(true)?;
    Ok((UdpSocket::from_std(sockets.udp)?, TcpListener::from_std(sockets.tcp)?))
}
