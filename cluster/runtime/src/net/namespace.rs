//! A pod's network namespace: made on a thread of its own, pinned by a bind mount.

use std::fs;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use sha2::{Digest as _, Sha256};

use super::{Bridge, NetError, blocking, find, kernel};
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
pub(crate) async fn connect_sandbox(pod_uid: &str, bridge: &Bridge, ip: Ipv4Addr) -> Result<(), NetError> {
    let (device, path) = (device_name(pod_uid), namespace_path(pod_uid));
    let bridge = bridge.clone();
    blocking("joining a pod to its bridge", move || {
        let outside = fs::File::open("/proc/thread-self/ns/net")
            .map_err(NetError::system("opening the own network namespace"))?;
        let what = format!("entering {}", path.display());
        let namespace = fs::File::open(&path).map_err(NetError::system(what.clone()))?;
        let (peer, gateway, prefix) = (device.clone(), bridge.gateway, bridge.prefix);
        in_thread(move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            Ok(set_up_inside(&outside.into(), &peer, ip, gateway, prefix))
        })
        .map_err(NetError::system(what))??;
        kernel::join(&device, find(&bridge.name)?)
            .map_err(NetError::system(format!("joining {device} to {}", bridge.name)))
    })
    .await
}

/// Runs in the pod's namespace.
fn set_up_inside(outside: &OwnedFd, peer: &str, ip: Ipv4Addr, gateway: Ipv4Addr, prefix: u8) -> Result<(), NetError> {
    kernel::set_up(find("lo")?).map_err(NetError::system("setting lo up"))?;
    // The hardware address follows from the address: who knew the address before need not learn anything new.
    let [a, b, c, d] = ip.octets();
    kernel::add_pair("eth0", [0x02, 0x42, a, b, c, d], peer, outside.as_fd())
        .map_err(NetError::system(format!("making eth0 and {peer}")))?;
    let eth0 = find("eth0")?;
    kernel::add_address(eth0, ip, prefix).map_err(NetError::system(format!("giving eth0 {ip}")))?;
    kernel::set_up(eth0).map_err(NetError::system("setting eth0 up"))?;
    kernel::add_default_route(gateway).map_err(NetError::system(format!("routing to {gateway}")))
}

/// Takes the pod's device and namespace away; not an error where they are gone.
pub(crate) async fn remove_namespace(pod_uid: &str) -> Result<(), NetError> {
    let (device, path) = (device_name(pod_uid), namespace_path(pod_uid));
    blocking("removing a network namespace", move || {
        // The device would go with the namespace, but only some time later.
        if let Ok(index) = kernel::device(&device) {
            let _ = kernel::remove(index);
        }
        unpin(&path).map_err(NetError::system(format!(
            "removing network namespace {}",
            path.display()
        )))
    })
    .await
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
