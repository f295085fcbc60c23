//! `afloat dns`: what the cluster's DNS server says to the host.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use afloat_cluster::CLUSTER_DOMAIN;
use afloat_dns::client;
use anyhow::Context as _;
use clap::Args;

use crate::options::data_dir::data_dir;
use crate::output;

/// In the data folder: the address on which the host may ask.
const ADDRESS_FILE: &str = "dns";
/// `afloat dns`
#[derive(Args, Clone, Debug)]
pub(crate) struct DnsOptions {
    /// A name, or an IPv4 address to find the name of; without a dot at the end it is searched for as a pod would
    #[arg(required_unless_present = "address_only")]
    pub(crate) name: Option<String>,
    /// Type of the records: A, SRV, PTR, CNAME, TXT, …
    #[arg(short = 't', long = "type", value_name = "TYPE", default_value = "A")]
    pub(crate) kind: String,
    /// Search as a pod of this namespace would
    #[arg(short, long, default_value = "default")]
    pub(crate) namespace: String,
    /// Print only the address of the DNS server, for other tools: dig @127.0.0.1 -p PORT
    #[arg(long = "address")]
    pub(crate) address_only: bool,
    /// Where the cluster keeps its state [default: a folder of the user's]
    #[arg(long, env = "AFLOAT_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

/// Writes down where the host may ask, or forgets where an earlier run could be asked.
pub(crate) fn note_address(data_dir: &Path, address: Option<SocketAddr>) -> anyhow::Result<()> {
    let file = data_dir.join(ADDRESS_FILE);
    let Some(address) = address else {
        let _ = std::fs::remove_file(&file);
        return Ok(());
    };
    std::fs::write(&file, format!("{address}\n")).with_context(|| format!("cannot write {}", file.display()))
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
pub(crate) fn run_dns(options: &DnsOptions) -> anyhow::Result<i32> {
    let data_dir = data_dir(options.data_dir.as_deref())?;
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
            output::print(&format!("{server}\n"))?;
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
            output::print(&(reply.records.join("\n") + "\n"))?;
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
}
