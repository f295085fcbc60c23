//! `afloat dns`, and the host's part of the cluster's DNS: its resolvers, and a port on which the host may ask.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use afloat_dns::{DnsSockets, Upstream, client};
use afloat_runtime::host::Broker;
use anyhow::Context as _;

use crate::args::{DnsOptions, UpOptions};
use crate::cluster::CLUSTER_DOMAIN;

/// In the data folder: the address on which the host may ask.
const ADDRESS_FILE: &str = "dns";
/// A free TCP port may be taken for UDP: so many are tried.
const ATTEMPTS: usize = 16;

/// See the module.
pub(crate) struct HostDns {
    /// On the host's loopback.
    pub(crate) sockets: DnsSockets,
    /// The way to its resolvers.
    pub(crate) upstream: Arc<dyn Upstream>,
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

impl HostDns {
    /// Opens a port on 127.0.0.1 of the host (0: a free one) and writes down which. None: there are no nodes to have names.
    pub(crate) async fn open(broker: Broker, options: &UpOptions, data_dir: &Path) -> anyhow::Result<Option<Self>> {
        let file = data_dir.join(ADDRESS_FILE);
        if options.nodes == 0 {
            // One of an earlier run would lead nowhere.
            let _ = std::fs::remove_file(&file);
            return Ok(None);
        }
        let port = options.dns_port;
        let asked = broker.clone();
        let sockets = tokio::task::spawn_blocking(move || open_sockets(&asked, port))
            .await?
            .with_context(|| format!("cannot serve DNS on 127.0.0.1:{port}: choose another --dns-port"))?;
        let address = sockets.tcp.local_addr()?;
        std::fs::write(&file, format!("{address}\n")).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(Some(Self {
            sockets,
            upstream: Arc::new(HostResolvers(broker)),
        }))
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

/// The `resolv.conf` of a node: the host's, but its servers are asked by way of ours, as nothing inside reaches them.
pub(crate) fn node_resolv_conf(resolver: Ipv4Addr) -> String {
    let host = std::env::var(crate::inner::HOST_RESOLV_CONF).unwrap_or_default();
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

/// In the order in which a pod's resolver tries them (resolv.conf(5), `ndots:5`).
fn candidates(name: &str, namespace: &str) -> Vec<String> {
    if name.ends_with('.') {
        return vec![name.to_owned()];
    }
    let searched = [
        format!("{name}.{namespace}.svc.{CLUSTER_DOMAIN}."),
        format!("{name}.svc.{CLUSTER_DOMAIN}."),
        format!("{name}.{CLUSTER_DOMAIN}."),
    ];
    let mut all = vec![format!("{name}.")];
    let at = if name.matches('.').count() < 5 { 0 } else { 1 };
    all.splice(at..at, searched);
    all
}

/// Prints the records of a name; exit code 1 if there are none.
pub(crate) fn main(options: &DnsOptions) -> anyhow::Result<i32> {
    let data_dir = crate::up::data_dir(options.data_dir.as_deref())?;
    let file = data_dir.join(ADDRESS_FILE);
    let text = std::fs::read_to_string(&file).with_context(|| {
        format!(
            "cannot read {}: is `afloat up` running, with this --data-dir?",
            file.display()
        )
    })?;
    let server: SocketAddr = text
        .trim()
        .parse()
        .with_context(|| format!("{} holds no address", file.display()))?;
    let name = match &options.name {
        Some(name) if !options.address_only => name,
        _ => {
            crate::output::print(&format!("{server}\n"))?;
            return Ok(0);
        }
    };
    let (names, kind) = match name.parse::<Ipv4Addr>() {
        Ok(address) => (vec![client::reverse(address)], "PTR"),
        Err(_) => (candidates(name, &options.namespace), options.kind.as_str()),
    };
    let mut last = None;
    for candidate in &names {
        let reply = client::ask(server, candidate, kind)?;
        let done = !reply.records.is_empty();
        // A name that has other records ends the search no more than one that does not exist (as glibc does).
        if done || reply.code != "NXDOMAIN" && last.is_none() {
            last = Some(reply);
        }
        if done {
            break;
        }
    }
    match last {
        Some(reply) if !reply.records.is_empty() => {
            crate::output::print(&(reply.records.join("\n") + "\n"))?;
            Ok(if reply.exists { 0 } else { 1 })
        }
        Some(reply) if reply.exists => anyhow::bail!("{name} exists, but has no {kind} records"),
        Some(reply) => anyhow::bail!(
            "{name}: {}: neither the cluster nor the host's resolvers can say",
            reply.code
        ),
        None => anyhow::bail!("{name}: no such name (NXDOMAIN)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_searched_for_as_in_a_pod() {
        assert_eq!(
            candidates("web", "shop"),
            [
                "web.shop.svc.cluster.local.",
                "web.svc.cluster.local.",
                "web.cluster.local.",
                "web."
            ]
        );
        assert_eq!(candidates("web.shop.svc.cluster.local.", "x").len(), 1);
        assert_eq!(
            candidates("_http._tcp.web.shop.svc.cluster.local", "x")[0],
            "_http._tcp.web.shop.svc.cluster.local."
        );
    }

    #[test]
    fn a_node_asks_the_hosts_resolvers_by_way_of_ours() {
        let host = "# x\nnameserver 127.0.0.53\nsearch corp.example\noptions edns0 trust-ad\n";
        assert_eq!(
            through(host, Ipv4Addr::new(169, 254, 20, 10)),
            "search corp.example\noptions edns0 trust-ad\nnameserver 169.254.20.10\n"
        );
    }
}
