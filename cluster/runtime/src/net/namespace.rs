//! A pod's network namespace: made on a thread of its own, pinned by a bind mount.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rtnetlink::packet_route::link::{InfoData, InfoVeth};
use rtnetlink::{Handle, LinkUnspec, LinkVeth, RouteMessageBuilder};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use sha2::{Digest as _, Sha256};

use super::{Bridge, NetError, connect_netlink, link_index};
use crate::namespace::{Kind, in_thread, is_pinned, pin, unpin};

/// Lets a pod's processes listen below 1024 without a capability, as container runtimes do by default.
const UNPRIVILEGED_PORTS: &str = "/proc/sys/net/ipv4/ip_unprivileged_port_start";

/// Where the namespace of a pod is pinned.
pub(crate) fn namespace_path(pod_uid: &str) -> PathBuf {
    Path::new("/run/netns").join(pod_uid)
}

/// Name of the bridge's end of the pair: at most 15 bytes, the same for the same pod.
fn device_name(pod_uid: &str) -> String {
    format!("veth{}", &hex::encode(Sha256::digest(pod_uid))[..10])
}

/// Makes an empty namespace and pins it. Blocks. `false`: it was there already.
pub(crate) fn create_namespace(pod_uid: &str) -> Result<bool, NetError> {
    let path = namespace_path(pod_uid);
    pin(Kind::Network, &path, || fs::write(UNPRIVILEGED_PORTS, "0"))
        .map_err(NetError::system(format!("making network namespace {}", path.display())))
}

/// Gives the namespace its device, address and default route, and joins it to the bridge.
pub(crate) async fn connect_sandbox(
    handle: &Handle,
    pod_uid: &str,
    bridge: &Bridge,
    ip: Ipv4Addr,
) -> Result<(), NetError> {
    let device = device_name(pod_uid);
    let path = namespace_path(pod_uid);
    let outside =
        fs::File::open("/proc/thread-self/ns/net").map_err(NetError::system("opening the own network namespace"))?;
    let (gateway, prefix, peer) = (bridge.gateway, bridge.prefix, device.clone());
    tokio::task::spawn_blocking(move || {
        let what = format!("entering {}", path.display());
        let namespace = fs::File::open(&path).map_err(NetError::system(what.clone()))?;
        let outside = OwnedFd::from(outside);
        in_thread(move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
            Ok(runtime.block_on(set_up_inside(&outside, &peer, ip, gateway, prefix)))
        })
        .map_err(NetError::system(what))?
    })
    .await
    .map_err(|e| NetError::System {
        what: "joining a pod to its bridge".into(),
        source: io::Error::other(e),
    })??;
    let controller = link_index(handle, &bridge.name).await?;
    let port = LinkUnspec::new_with_name(&device).controller(controller).up().build();
    handle
        .link()
        .set(port)
        .execute()
        .await
        .map_err(NetError::netlink(format!("joining {device} to {}", bridge.name)))
}

/// Runs in the pod's namespace.
async fn set_up_inside(
    outside: &OwnedFd,
    peer: &str,
    ip: Ipv4Addr,
    gateway: Ipv4Addr,
    prefix: u8,
) -> Result<(), NetError> {
    let handle = connect_netlink()?;
    let up = |index| LinkUnspec::new_with_index(index).up().build();
    let lo = link_index(&handle, "lo").await?;
    handle
        .link()
        .set(up(lo))
        .execute()
        .await
        .map_err(NetError::netlink("setting lo up"))?;
    let other_end = LinkUnspec::new_with_name(peer).setns_by_fd(outside.as_raw_fd()).build();
    // The hardware address follows from the address: who knew the address before need not learn anything new.
    let [a, b, c, d] = ip.octets();
    let pair = LinkVeth::new("eth0", peer)
        .address(vec![0x02, 0x42, a, b, c, d])
        .set_info_data(InfoData::Veth(InfoVeth::Peer(other_end)))
        .build();
    handle
        .link()
        .add(pair)
        .execute()
        .await
        .map_err(NetError::netlink(format!("making eth0 and {peer}")))?;
    let eth0 = link_index(&handle, "eth0").await?;
    handle
        .address()
        .add(eth0, ip.into(), prefix)
        .execute()
        .await
        .map_err(NetError::netlink(format!("giving eth0 {ip}")))?;
    handle
        .link()
        .set(up(eth0))
        .execute()
        .await
        .map_err(NetError::netlink("setting eth0 up"))?;
    let route = RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway).build();
    handle
        .route()
        .add(route)
        .execute()
        .await
        .map_err(NetError::netlink(format!("routing to {gateway}")))
}

/// Takes the pod's device and namespace away; not an error where they are gone.
pub(crate) async fn remove_namespace(handle: &Handle, pod_uid: &str) -> Result<(), NetError> {
    // The device would go with the namespace, but only some time later.
    if let Ok(index) = link_index(handle, &device_name(pod_uid)).await {
        let _ = handle.link().del(index).execute().await;
    }
    let path = namespace_path(pod_uid);
    let what = format!("removing network namespace {}", path.display());
    tokio::task::spawn_blocking(move || unpin(&path))
        .await
        .map_err(io::Error::other)
        .flatten()
        .map_err(NetError::system(what))
}

/// A TCP socket that belongs to a pod's namespace, whoever uses it afterwards. Blocks.
pub(crate) fn socket_inside(pod_uid: &str, domain: socket2::Domain) -> Result<socket2::Socket, NetError> {
    let path = namespace_path(pod_uid);
    let what = format!("opening a socket in {}", path.display());
    let make = move || {
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    if !is_pinned(&path) {
        // A pod in the node's own network.
        return make().map_err(NetError::system(what));
    }
    in_thread(move || {
        let namespace = fs::File::open(&path)?;
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        make()
    })
    .map_err(NetError::system(what))
}
