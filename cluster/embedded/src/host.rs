//! What a cluster wants of the host: ports on it, and its resolvers. It gets both as sockets from the outer process.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use afloat_apiserver::WebhookDialer;
use afloat_dns::{DnsSockets, Upstream};
use afloat_proxy::HostPorts;
use afloat_runtime::host::Broker;
use afloat_runtime::registry::Network;
use tokio::net::TcpStream;

use crate::layout::HOST_RESOLV_CONF;

/// A free TCP port may be taken for UDP: so many are tried.
const ATTEMPTS: usize = 16;
/// Who is in here answers at once; addresses of elsewhere have no route.
const INSIDE_LIMIT: Duration = Duration::from_secs(1);

/// Opens NodePorts on the host.
pub fn host_ports(broker: Broker) -> Arc<dyn HostPorts> {
    Arc::new(PortsByBroker(broker))
}

/// Reaches hosts of URLs: what listens in here, the operator among them, and else from the host.
pub(crate) fn urls(host: Arc<dyn Network>) -> Arc<dyn WebhookDialer> {
    Arc::new(Urls(host))
}

struct Urls(Arc<dyn Network>);

#[async_trait::async_trait]
impl WebhookDialer for Urls {
    async fn dial(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        if let Ok(address) = host.parse::<IpAddr>() {
            let inside = tokio::time::timeout(INSIDE_LIMIT, TcpStream::connect((address, port)));
            return match inside.await {
                Ok(Ok(stream)) => Ok(stream),
                _ => self.0.connect(SocketAddr::from((address, port))).await,
            };
        }
        let mut last = io::Error::other(format!("lookup {host}: no such host"));
        for address in self.0.resolve(host).await? {
            match self.0.connect(SocketAddr::from((address, port))).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

struct PortsByBroker(Broker);

#[async_trait::async_trait]
impl HostPorts for PortsByBroker {
    async fn listen(&self, address: SocketAddr) -> io::Result<std::net::TcpListener> {
        let broker = self.0.clone();
        tokio::task::spawn_blocking(move || broker.listen(address))
            .await
            .map_err(io::Error::other)?
    }
}

/// The host's part of the cluster's DNS.
pub struct HostDns {
    /// On the host's loopback: where the host may ask for the cluster's names.
    pub sockets: DnsSockets,
    /// The way to its resolvers, for all other names.
    pub upstream: Arc<dyn Upstream>,
}

impl HostDns {
    /// Opens a port on 127.0.0.1 of the host, UDP and TCP; 0: a free one.
    ///
    /// # Errors
    /// If the port is taken.
    pub async fn open(broker: Broker, port: u16) -> io::Result<Self> {
        let asked = broker.clone();
        let opened = tokio::task::spawn_blocking(move || open_sockets(&asked, port));
        Ok(Self {
            sockets: opened.await.map_err(io::Error::other)??,
            upstream: Arc::new(HostResolvers(broker)),
        })
    }
}

fn open_sockets(broker: &Broker, port: u16) -> io::Result<DnsSockets> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let tcp = broker.listen(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
        match broker.bind(tcp.local_addr()?) {
            Ok(udp) => return Ok(DnsSockets { udp, tcp }),
            Err(error) if port != 0 || attempt == ATTEMPTS => return Err(error),
            Err(_) => {}
        }
    }
}

struct HostResolvers(Broker);

#[async_trait::async_trait]
impl Upstream for HostResolvers {
    async fn datagram(&self, number: usize) -> io::Result<std::net::UdpSocket> {
        let broker = self.0.clone();
        tokio::task::spawn_blocking(move || broker.resolver_datagram(number))
            .await
            .map_err(io::Error::other)?
    }

    async fn stream(&self, number: usize) -> io::Result<std::net::TcpStream> {
        let broker = self.0.clone();
        tokio::task::spawn_blocking(move || broker.resolver_stream(number))
            .await
            .map_err(io::Error::other)?
    }
}

/// The `resolv.conf` of a node: the host's, but its servers are asked by way of ours, as nothing inside reaches them.
pub(crate) fn node_resolv_conf(resolver: Ipv4Addr) -> String {
    let host = std::env::var(HOST_RESOLV_CONF).unwrap_or_default();
    through(&host, resolver)
}

fn through(host: &str, resolver: Ipv4Addr) -> String {
    let kept = host.lines().filter(|line| {
        let word = line.split_whitespace().next();
        matches!(word, Some("search" | "options"))
    });
    let mut text: String = kept.map(|line| format!("{line}\n")).collect();
    text.push_str(&format!("nameserver {resolver}\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_asks_the_hosts_resolvers_by_way_of_ours() {
        let host = "# x\nnameserver 127.0.0.53\nsearch corp.example\noptions edns0 trust-ad\n";
        assert_eq!(
            through(host, Ipv4Addr::new(169, 254, 20, 10)),
            "search corp.example\noptions edns0 trust-ad\nnameserver 169.254.20.10\n"
        );
    }
}
