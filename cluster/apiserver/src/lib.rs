//! HTTP in, Kubernetes out: a generic API server as one tower service.
//!
//! Objects are JSON values between the client and the store; no kind has a handler of its own beyond what its
//! subresources and its few admission rules need. The same service is reached over TLS by kubectl and without any socket
//! by a `kube::Client` in this process, and neither can tell.
//!
//! Known differences from the original: `metadata.managedFields` is not kept and server-side apply is refused (415);
//! anybody who is authenticated may do anything; protobuf is read but not written; a paged list reads each page from the present
//! state, so that an object may be missed or seen twice if it is renamed (that is, replaced) meanwhile.

mod admit;
mod auth;
mod background;
mod follow;
mod kubelet;
mod metrics;
pub mod pki;
mod read;
mod serve;
mod start;
mod view;
mod wire;
mod write;

use std::convert::Infallible;
use std::io;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use afloat_machinery::kinds::Registry;
use afloat_store::Store;
use bytes::Bytes;
use follow::{Addresses, Bound, Definitions, Followed};
use http_body_util::combinators::UnsyncBoxBody;
use tokio::io::{AsyncRead, AsyncWrite};

pub use auth::User;
pub use metrics::WriteCount;
pub use pki::Pki;
pub use wire::status::Status;

/// Body of a response.
pub type Body = UnsyncBoxBody<Bytes, tower::BoxError>;

/// Largest request body, as in the original.
pub(crate) const BODY_LIMIT_BYTES: usize = 3 * 1024 * 1024;

/// A connection to a kubelet.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// Reaches the kubelet of a node, for logs, exec, attach and port-forward.
#[async_trait::async_trait]
pub trait KubeletDialer: Send + Sync {
    /// Opens a connection on which the kubelet of `node` speaks HTTP/1.1.
    async fn dial(&self, node: &str) -> io::Result<Box<dyn ByteStream>>;
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
    /// Pods get their account's token mounted (admission plugin ServiceAccount). They need `kube-root-ca.crt` for that.
    pub mount_tokens: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            service_cidr: (Ipv4Addr::new(10, 96, 0, 0), 16),
            node_ports: 30000..=32767,
            kubelets: Arc::new(NoKubelets),
            bookmark_interval: Duration::from_secs(60),
            request_timeout: Duration::from_secs(60),
            event_ttl: Duration::from_secs(3600),
            event_limit: 10_000,
            token_key: None,
            mount_tokens: false,
        }
    }
}

/// Why a server could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store refused.
    #[error("store: {0}")]
    Store(#[from] afloat_store::Error),
    /// One of the objects that every cluster has could not be made.
    #[error("cannot create {what}: {why}")]
    Bootstrap {
        /// Which object.
        what: String,
        /// The refusal.
        why: Status,
    },
    /// The key of tokens cannot be used.
    #[error("{0}")]
    TokenKey(#[from] auth::token::KeyError),
    /// A stored object cannot be read.
    #[error("stored object {key} is unreadable: {why}")]
    Corrupt {
        /// Key in the store.
        key: String,
        /// Parser's message.
        why: String,
    },
}

/// The API server. A cheap handle; clones share everything.
#[derive(Clone)]
pub struct ApiServer {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) options: Options,
    definitions: Followed<Definitions>,
    pub(crate) policies: Followed<Bound>,
    pub(crate) addresses: Arc<Followed<Addresses>>,
    pub(crate) metrics: metrics::Metrics,
    pub(crate) signer: auth::token::Signer,
    pub(crate) openapi: serve::openapi::Cache,
}

impl ApiServer {
    /// The kinds that are served now.
    pub(crate) fn registry(&self) -> Arc<Registry> {
        self.inner.definitions.with(|definitions| definitions.registry())
    }

    /// A client in this process, without a socket. `user` is the identity of its requests (a member of
    /// `system:masters`) and the name under which its writes are counted. Must be called inside a tokio runtime.
    pub fn client(&self, user: &str) -> kube::Client {
        kube::Client::new(
            InProcess {
                server: self.clone(),
                user: User::master(user),
            },
            "default",
        )
    }

    /// Accepted writes since the start.
    pub fn writes(&self) -> Vec<WriteCount> {
        self.inner.metrics.writes()
    }
}

/// The server as a tower service for one fixed user.
#[derive(Clone)]
pub struct InProcess {
    server: ApiServer,
    user: User,
}

impl InProcess {
    /// Requests to `server` in the name of `user`.
    pub fn new(server: ApiServer, user: User) -> Self {
        Self { server, user }
    }
}

impl<B> tower::Service<http::Request<B>> for InProcess
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<tower::BoxError>,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move { Ok(this.server.handle(request, this.user).await) })
    }
}
