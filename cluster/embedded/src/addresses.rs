//! The addresses and names inside of a cluster. They are the same in each, as none sees another's network.

use std::net::Ipv4Addr;
#[cfg(feature = "nodes")]
use std::net::SocketAddrV4;

/// Addresses of Services.
pub const SERVICE_CIDR: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 96, 0, 0), 16);

/// The Service `kubernetes`.
pub(crate) const API_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);

/// The first node's address.
pub(crate) const FIRST_NODE: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 1);

/// Where pods' addresses come from; a node has a /24 of it.
#[cfg(feature = "nodes")]
pub(crate) const POD_NETWORK: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 244, 0, 0), 16);

/// What Services' names end with.
#[cfg(feature = "nodes")]
pub const CLUSTER_DOMAIN: &str = "cluster.local";

/// The resolver of the nodes themselves, for pods that do not want the cluster's names: where NodeLocal DNSCache has its own.
#[cfg(feature = "nodes")]
pub(crate) const NODE_RESOLVER: Ipv4Addr = Ipv4Addr::new(169, 254, 20, 10);

/// Where pods reach the API server, behind the Service `kubernetes`.
#[cfg(feature = "nodes")]
pub(crate) const API_FOR_PODS: SocketAddrV4 = SocketAddrV4::new(FIRST_NODE, 6443);

/// Where the cluster's DNS server is.
#[cfg(feature = "nodes")]
pub(crate) fn cluster_dns() -> Ipv4Addr {
    afloat_controllers::cluster_dns_address(SERVICE_CIDR)
}
