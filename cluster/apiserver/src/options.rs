//! What the server needs to know.

use std::io;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// A connection to a kubelet.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// Reaches the kubelet of a node, for logs, exec, attach and port-forward, and the pods on it.
#[async_trait::async_trait]
pub trait KubeletDialer: Send + Sync {
    /// Opens a connection on which the kubelet of `node` speaks HTTP/1.1.
    async fn dial(&self, node: &str) -> io::Result<Box<dyn ByteStream>>;

    /// Opens a connection to a port of the address of a pod that runs on `node`, which is the one that the node gave it; with TLS that
    /// believes whoever answers, if that is asked for.
    async fn dial_pod(&self, node: &str, uid: &str, port: u16, tls: bool) -> io::Result<Box<dyn ByteStream>>;
}

/// Reaches webhooks that a definition names by URL, from where the server is thought to be.
#[async_trait::async_trait]
pub trait WebhookDialer: Send + Sync {
    /// Opens a connection to a host, a name or an address, and port.
    async fn dial(&self, host: &str, port: u16) -> io::Result<TcpStream>;
}

/// For servers without nodes.
struct NoKubelets;

#[async_trait::async_trait]
impl KubeletDialer for NoKubelets {
    async fn dial(&self, node: &str) -> io::Result<Box<dyn ByteStream>> {
        Err(io::Error::new(
            io::ErrorKind::NotConnected,
            format!("no kubelet can be reached on node {node}"),
        ))
    }

    async fn dial_pod(&self, node: &str, _uid: &str, _port: u16, _tls: bool) -> io::Result<Box<dyn ByteStream>> {
        self.dial(node).await
    }
}

/// What the server needs to know.
#[derive(Clone)]
pub struct Options {
    /// Range of cluster IPs: address and prefix length.
    pub service_cidr: (Ipv4Addr, u8),
    /// Range of node ports.
    pub node_ports: RangeInclusive<u16>,
    /// How to reach kubelets.
    pub kubelets: Arc<dyn KubeletDialer>,
    /// How to reach webhooks by URL; None: from where this process is.
    pub webhooks: Option<Arc<dyn WebhookDialer>>,
    /// How often a watch that asked for bookmarks gets one.
    pub bookmark_interval: Duration,
    /// Limit for every request that is neither a watch nor a stream.
    pub request_timeout: Duration,
    /// How long events are kept.
    pub event_ttl: Duration,
    /// How many events are kept at most; the oldest go first.
    pub event_limit: usize,
    /// PEM of the key that service account tokens are signed with. None: one that is forgotten with this process.
    pub token_key: Option<String>,
    /// Roles and bindings that there are from the start, besides Kubernetes' own; what is missing of them is added at each start.
    pub roles: Vec<serde_json::Value>,
    /// Pods get their account's token mounted (admission plugin ServiceAccount). They need `kube-root-ca.crt` for that.
    pub mount_tokens: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            service_cidr: (Ipv4Addr::new(10, 96, 0, 0), 16),
            node_ports: 30000..=32767,
            kubelets: Arc::new(NoKubelets),
            webhooks: None,
            bookmark_interval: Duration::from_secs(60),
            request_timeout: Duration::from_secs(60),
            event_ttl: Duration::from_secs(3600),
            event_limit: 10_000,
            token_key: None,
            roles: Vec::new(),
            mount_tokens: false,
        }
    }
}
