//! Bridges, pod network namespaces, addresses: everything inside of the network namespace that the process owns.
//!
//! The host's namespace is never touched. Each node has a bridge; each pod a namespace pinned at `/run/netns/<uid>`, joined
//! to the bridge by a pair of virtual devices. No address translation and no packet filter.

mod address;
mod kernel;
mod namespace;

use std::io;
use std::net::Ipv4Addr;

pub(crate) use address::AddressPool;
pub(crate) use namespace::{connect_sandbox, create_namespace, namespace_path, remove_namespace, socket_inside};

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
    /// The kernel refused a request, or a system call failed.
    #[error("{what}: {source}")]
    System {
        /// What was being done.
        what: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// Every address of the node's pod network is in use.
    #[error("no free address in {0}/{1}: the node has as many pods as its network has addresses")]
    NoAddress(Ipv4Addr, u8),
}

impl NetError {
    pub(crate) fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::System { what, source }
    }
}

/// Once per start of the inner process: loopback up, forwarding on, and the range of service addresses local to the
/// namespace, so that a proxy can listen on any of them. Does nothing where it has been done.
pub async fn setup_base(service_cidr: (Ipv4Addr, u8)) -> Result<(), NetError> {
    blocking("setting the network up", move || {
        let lo = find("lo")?;
        kernel::set_up(lo).map_err(NetError::system("setting lo up"))?;
        let forward = "/proc/sys/net/ipv4/ip_forward";
        std::fs::write(forward, "1").map_err(NetError::system(format!("writing {forward}")))?;
        make_local(lo, service_cidr)
    })
    .await
}

/// Makes one more address local to the namespace: a server may have it, and pods reach it by way of their gateway.
pub async fn add_local_address(address: Ipv4Addr) -> Result<(), NetError> {
    blocking("adding an address", move || make_local(find("lo")?, (address, 32))).await
}

fn make_local(lo: u32, (network, prefix): (Ipv4Addr, u8)) -> Result<(), NetError> {
    ignore_existing(kernel::add_local_route(lo, network, prefix))
        .map_err(NetError::system(format!("making {network}/{prefix} local")))
}

/// Makes the bridge of a node, with its address, up. Does nothing where it has been done.
pub async fn ensure_bridge(bridge: &Bridge) -> Result<(), NetError> {
    let Bridge { name, gateway, prefix } = bridge.clone();
    blocking("making a bridge", move || {
        // Without an address of its own a bridge takes the lowest one of its ports: it would change as pods come and go, and
        // the neighbours' tables with it.
        let [a, b, c, d] = gateway.octets();
        ignore_existing(kernel::add_bridge(&name, [0x02, 0x42, a, b, c, d]))
            .map_err(NetError::system(format!("making bridge {name}")))?;
        let index = find(&name)?;
        ignore_existing(kernel::add_address(index, gateway, prefix))
            .map_err(NetError::system(format!("giving {name} its address")))?;
        kernel::set_up(index).map_err(NetError::system(format!("setting {name} up")))
    })
    .await
}

/// Index of a device by name. Blocks.
fn find(name: &str) -> Result<u32, NetError> {
    kernel::device(name).map_err(NetError::system(format!("finding device {name}")))
}

fn ignore_existing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Work with the kernel, off the async threads.
async fn blocking(what: &str, work: impl FnOnce() -> Result<(), NetError> + Send + 'static) -> Result<(), NetError> {
    let work: Box<dyn FnOnce() -> _ + Send> = Box::new(work);
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)
        .map_err(NetError::system(what))?
}
