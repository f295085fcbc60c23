//! How a pull reaches the network: directly, or by way of the outer process, so that it goes out by the host's network
//! although this process lives in a namespace of its own. Containers have no such way.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use crate::host::Broker;

/// How long a server may take to accept a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// How long the resolver may take: two servers, two tries of five seconds each.
const RESOLVE_LIMIT: Duration = Duration::from_secs(20);
/// More addresses than any name has.
const ADDRESSES_BYTES_MAX: u64 = 16 << 10;

/// A way to the outside.
#[async_trait]
pub trait Network: Send + Sync + 'static {
    /// The addresses of a host.
    async fn resolve(&self, host: &str) -> io::Result<Vec<std::net::IpAddr>>;

    /// A connection; gives up after 10 seconds.
    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream>;
}

/// The network of this very process.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostNetwork;

#[async_trait]
impl Network for HostNetwork {
    async fn resolve(&self, host: &str) -> io::Result<Vec<std::net::IpAddr>> {
        let found = within(RESOLVE_LIMIT, tokio::net::lookup_host((host, 0))).await?;
        Ok(found.map(|address| address.ip()).collect())
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        within(CONNECT_LIMIT, TcpStream::connect(address)).await
    }
}

#[async_trait]
impl Network for Broker {
    async fn resolve(&self, host: &str) -> io::Result<Vec<std::net::IpAddr>> {
        let (broker, name) = (self.clone(), host.to_owned());
        let pipe = blocking(move || broker.resolve(&name)).await?;
        let mut pipe = tokio::net::unix::pipe::Receiver::from_owned_fd(pipe)?.take(ADDRESSES_BYTES_MAX);
        let mut text = String::new();
        within(RESOLVE_LIMIT, pipe.read_to_string(&mut text)).await?;
        match text.strip_prefix("error ") {
            Some(error) => Err(io::Error::other(error.trim().to_owned())),
            None => Ok(text.lines().filter_map(|line| line.parse().ok()).collect()),
        }
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let broker = self.clone();
        let socket = blocking(move || broker.start_connecting(address)).await?;
        let stream = TcpStream::from_std(socket)?;
        within(CONNECT_LIMIT, stream.writable()).await?;
        match stream.take_error()? {
            Some(error) => Err(error),
            None => Ok(stream),
        }
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(late()))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    let work: Box<dyn FnOnce() -> _ + Send> = Box::new(work);
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
