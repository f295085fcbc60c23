//! Bridges, pod network namespaces, addresses: everything inside of the network namespace that the process owns.
//!
//! The host's namespace is never touched. Each node has a bridge; each pod a namespace pinned at `/run/netns/<uid>`, joined
//! to the bridge by a pair of virtual devices. No address translation and no packet filter.

mod address;
mod namespace;

use std::net::Ipv4Addr;

use futures::TryStreamExt as _;
use rtnetlink::packet_route::route::{RouteScope, RouteType};
use rtnetlink::{Handle, LinkBridge, LinkUnspec, RouteMessageBuilder};

pub(crate) use address::AddressPool;
pub(crate) use namespace::{connect_sandbox, create_namespace, namespace_path, remove_namespace, socket_inside};

/// The local table of the kernel's routing policy (rtnetlink(7), RT_TABLE_LOCAL).
const LOCAL_TABLE: u32 = 255;

/// A node's bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridge {
    /// Name of the device, at most 15 bytes.
    pub name: String,
    /// Address of the bridge: gateway of the node's pods and the node's InternalIP.
    pub gateway: Ipv4Addr,
    /// Length of the pod network's prefix, usually 24.
    pub prefix: u8,
}

/// Why the network could not be made.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The kernel refused a request.
    #[error("{what}: {source}")]
    Netlink {
        /// What was being done.
        what: String,
        /// What the kernel said.
        source: rtnetlink::Error,
    },
    /// A system call failed.
    #[error("{what}: {source}")]
    System {
        /// What was being done.
        what: String,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// Every address of the node's pod network is in use.
    #[error("no free address in {0}/{1}: the node has as many pods as its network has addresses")]
    NoAddress(Ipv4Addr, u8),
}

impl NetError {
    pub(crate) fn netlink(what: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> Self {
        let what = what.into();
        move |source| Self::Netlink { what, source }
    }

    pub(crate) fn system(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::System { what, source }
    }
}

/// Talks to the kernel about the network namespace of the calling thread; on a tokio runtime.
pub(crate) fn connect_netlink() -> Result<Handle, NetError> {
    let (connection, handle, _) = rtnetlink::new_connection().map_err(NetError::system("opening netlink"))?;
    tokio::spawn(connection);
    Ok(handle)
}

/// Once per start of the inner process: loopback up, forwarding on, and the range of service addresses local to the
/// namespace, so that a proxy can listen on any of them. Does nothing where it has been done.
pub async fn setup_base(service_cidr: (Ipv4Addr, u8)) -> Result<(), NetError> {
    let handle = connect_netlink()?;
    let lo = link_index(&handle, "lo").await?;
    handle
        .link()
        .set(LinkUnspec::new_with_index(lo).up().build())
        .execute()
        .await
        .map_err(NetError::netlink("setting lo up"))?;
    let forward = "/proc/sys/net/ipv4/ip_forward";
    tokio::fs::write(forward, "1")
        .await
        .map_err(NetError::system(format!("writing {forward}")))?;
    make_local(&handle, lo, service_cidr).await
}

/// Makes one more address local to the namespace: a server may have it, and pods reach it by way of their gateway.
pub async fn add_local_address(address: Ipv4Addr) -> Result<(), NetError> {
    let handle = connect_netlink()?;
    let lo = link_index(&handle, "lo").await?;
    make_local(&handle, lo, (address, 32)).await
}

async fn make_local(handle: &Handle, lo: u32, (network, prefix): (Ipv4Addr, u8)) -> Result<(), NetError> {
    let route = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(network, prefix)
        .output_interface(lo)
        .table_id(LOCAL_TABLE)
        .kind(RouteType::Local)
        .scope(RouteScope::Host)
        .build();
    ignore_existing(handle.route().add(route).execute().await)
        .map_err(NetError::netlink(format!("making {network}/{prefix} local")))
}

/// Makes the bridge of a node, with its address, up. Does nothing where it has been done.
pub async fn ensure_bridge(bridge: &Bridge) -> Result<(), NetError> {
    let handle = connect_netlink()?;
    // Without an address of its own a bridge takes the lowest one of its ports: it would change as pods come and go, and
    // the neighbours' tables with it.
    let [a, b, c, d] = bridge.gateway.octets();
    let message = LinkBridge::new(&bridge.name)
        .address(vec![0x02, 0x42, a, b, c, d])
        .up()
        .build();
    ignore_existing(handle.link().add(message).execute().await)
        .map_err(NetError::netlink(format!("making bridge {}", bridge.name)))?;
    let index = link_index(&handle, &bridge.name).await?;
    ignore_existing(
        handle
            .address()
            .add(index, bridge.gateway.into(), bridge.prefix)
            .execute()
            .await,
    )
    .map_err(NetError::netlink(format!("giving {} its address", bridge.name)))?;
    handle
        .link()
        .set(LinkUnspec::new_with_index(index).up().build())
        .execute()
        .await
        .map_err(NetError::netlink(format!("setting {} up", bridge.name)))
}

/// Index of a device by name.
pub(crate) async fn link_index(handle: &Handle, name: &str) -> Result<u32, NetError> {
    let what = format!("finding device {name}");
    let found = handle
        .link()
        .get()
        .match_name(name)
        .execute()
        .try_next()
        .await
        .map_err(NetError::netlink(what.clone()))?;
    found.map(|link| link.header.index).ok_or(NetError::System {
        what,
        source: std::io::ErrorKind::NotFound.into(),
    })
}

fn ignore_existing(result: Result<(), rtnetlink::Error>) -> Result<(), rtnetlink::Error> {
    match result {
        Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -nix::libc::EEXIST => Ok(()),
        other => other,
    }
}
