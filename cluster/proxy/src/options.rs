//! How a proxy is set up.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::lag::Lag;

/// Connections and flows of one proxy when nothing else is said; each takes two descriptors.
const CONNECTIONS_MAX: usize = 8192;

/// Opens listening sockets outside, in the host's network namespace.
#[async_trait]
pub trait HostPorts: Send + Sync + 'static {
    /// A listener on this address. Whoever opened it must not keep a copy: dropping it has to close the port.
    async fn listen(&self, address: SocketAddr) -> io::Result<std::net::TcpListener>;
}

/// How a proxy is set up.
#[derive(Clone)]
pub struct ProxyOptions {
    /// The node's name, as in `spec.nodeName` of its pods.
    pub node_name: String,
    /// The node's address: NodePorts listen on it.
    pub node_ip: Ipv4Addr,
    /// The node's bridge: only what comes in over it is served. None: whatever comes in anywhere.
    pub device: Option<String>,
    /// With a device: serve also what begins in the namespace itself (`lo`). One node of a namespace may.
    pub serve_local: bool,
    /// Each change is applied so long after it was seen.
    pub lag: Lag,
    /// Opens NodePorts on 127.0.0.1 of the host, too. Only one node of a machine may have it.
    pub host: Option<Arc<dyn HostPorts>>,
    /// Most connections and flows at a time; more wait.
    pub connections_max: usize,
}

impl ProxyOptions {
    /// Serves all devices, no lag, nothing on the host.
    pub fn new(node_name: &str, node_ip: Ipv4Addr) -> ProxyOptions {
        ProxyOptions {
            node_name: node_name.into(),
            node_ip,
            device: None,
            serve_local: false,
            lag: Duration::ZERO.into(),
            host: None,
            connections_max: CONNECTIONS_MAX,
        }
    }
}
