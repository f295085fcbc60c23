//! How connections to the target are opened.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// A connection.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for T {}

/// An open connection and where it leads.
pub struct Dialed {
    /// The connection.
    pub stream: Box<dyn Stream>,
    /// The peer, where known.
    pub remote: Option<SocketAddr>,
}

/// Opens connections to a target. A caller limits the time.
#[async_trait::async_trait]
pub trait Dial: Send + Sync {
    /// Opens one more connection.
    async fn dial(&self) -> io::Result<Dialed>;
}

/// Plain TCP, in turn to each of some addresses.
pub struct TcpDial {
    addresses: Vec<SocketAddr>,
    next: AtomicUsize,
}

impl TcpDial {
    /// To each of `addresses`, of which there must be one at least.
    pub fn new(addresses: Vec<SocketAddr>) -> io::Result<Self> {
        if addresses.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no address to dial"));
        }
        Ok(Self {
            addresses,
            next: AtomicUsize::new(0),
        })
    }

    /// To `HOST:PORT`, looked up once.
    pub async fn resolve(target: &str) -> io::Result<Self> {
        let mut addresses: Vec<SocketAddr> = tokio::net::lookup_host(target).await?.collect();
        // One name is one target: the first address is what most clients take.
        addresses.truncate(1);
        Self::new(addresses)
    }
}

impl fmt::Debug for TcpDial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.addresses).finish()
    }
}

#[async_trait::async_trait]
impl Dial for TcpDial {
    async fn dial(&self) -> io::Result<Dialed> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let address = self.addresses[turn % self.addresses.len()];
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Dialed {
            stream: Box::new(stream),
            remote: Some(address),
        })
    }
}
