//! What is asked of the kernel about devices, addresses and routes (rtnetlink(7)), always in the network namespace of the calling
//! thread. The kernel does it before it answers, and waits for nobody but others who ask; so everything here blocks.
//!
//! The messages are those of the library that libcontainer has; of an asynchronous client there would be a second version of it.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::net::{AddressFamily as Domain, RecvFlags, SendFlags, SocketFlags, SocketType};

/// The local table of the kernel's routing policy (rtnetlink(7), RT_TABLE_LOCAL).
const LOCAL_TABLE: u8 = 255;

/// An answer is a code and the head of what was asked; with long ones the kernel sends all of the request back.
const ANSWER_MAX: usize = 4096;

/// Index of a device by name.
pub(super) fn device(name: &str) -> io::Result<u32> {
    let socket = rustix::net::socket_with(Domain::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    Ok(rustix::net::netdevice::name_to_index(socket.as_fd(), name)?)
}

/// Makes a bridge, up, with a hardware address; an error where it is there.
pub(super) fn add_bridge(name: &str, hardware: [u8; 6]) -> io::Result<()> {
    let mut message = named(name);
    message.attributes.push(LinkAttribute::Address(hardware.to_vec()));
    message
        .attributes
        .push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]));
    raise(&mut message);
    add(RouteNetlinkMessage::NewLink(message))
}

/// Makes a pair of devices, the one here with a hardware address, the other one in another namespace.
pub(super) fn add_pair(name: &str, hardware: [u8; 6], peer: &str, outside: BorrowedFd<'_>) -> io::Result<()> {
    let mut other_end = named(peer);
    other_end.attributes.push(LinkAttribute::NetNsFd(outside.as_raw_fd()));
    let mut message = named(name);
    message.attributes.push(LinkAttribute::Address(hardware.to_vec()));
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(other_end))),
    ]));
    add(RouteNetlinkMessage::NewLink(message))
}

/// Sets a device up.
pub(super) fn set_up(index: u32) -> io::Result<()> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    raise(&mut message);
    ask(RouteNetlinkMessage::SetLink(message), NLM_F_ACK)
}

/// Makes a device a port of a bridge, and sets it up.
pub(super) fn join(name: &str, bridge: u32) -> io::Result<()> {
    let mut message = named(name);
    message.attributes.push(LinkAttribute::Controller(bridge));
    raise(&mut message);
    ask(RouteNetlinkMessage::SetLink(message), NLM_F_ACK)
}

/// Takes a device away, and the other end of its pair.
pub(super) fn remove(index: u32) -> io::Result<()> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    ask(RouteNetlinkMessage::DelLink(message), NLM_F_ACK)
}

/// Gives a device an address in a network; an error where it has it.
pub(super) fn add_address(index: u32, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = prefix;
    message.header.index = index;
    message.attributes.push(AddressAttribute::Address(address.into()));
    message.attributes.push(AddressAttribute::Local(address.into()));
    if let Some(hosts) = u32::MAX.checked_shr(prefix.into())
        && prefix < 31
    {
        let broadcast = Ipv4Addr::from_bits(address.to_bits() | hosts);
        message.attributes.push(AddressAttribute::Broadcast(broadcast));
    }
    add(RouteNetlinkMessage::NewAddress(message))
}

/// Makes all addresses of a network the namespace's own; an error where they are.
pub(super) fn add_local_route(device: u32, network: Ipv4Addr, prefix: u8) -> io::Result<()> {
    let mut message = route(LOCAL_TABLE, RouteType::Local, RouteScope::Host);
    message.header.destination_prefix_length = prefix;
    message
        .attributes
        .push(RouteAttribute::Destination(RouteAddress::Inet(network)));
    message.attributes.push(RouteAttribute::Oif(device));
    add(RouteNetlinkMessage::NewRoute(message))
}

/// Sends everything that has no other way by a gateway.
pub(super) fn add_default_route(gateway: Ipv4Addr) -> io::Result<()> {
    let mut message = route(RouteHeader::RT_TABLE_MAIN, RouteType::Unicast, RouteScope::Universe);
    message
        .attributes
        .push(RouteAttribute::Gateway(RouteAddress::Inet(gateway)));
    add(RouteNetlinkMessage::NewRoute(message))
}

fn route(table: u8, kind: RouteType, scope: RouteScope) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    message.header.table = table;
    message.header.protocol = RouteProtocol::Static;
    message.header.kind = kind;
    message.header.scope = scope;
    message
}

fn named(name: &str) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    message
}

fn raise(message: &mut LinkMessage) {
    message.header.flags |= LinkFlags::Up;
    message.header.change_mask |= LinkFlags::Up;
}

fn add(message: RouteNetlinkMessage) -> io::Result<()> {
    ask(message, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL)
}

/// Asks for something to be done, and waits until it is.
fn ask(message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
    let mut request = NetlinkMessage::from(message);
    request.header.flags = NLM_F_REQUEST | flags;
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    // Without a protocol: NETLINK_ROUTE.
    let socket = rustix::net::socket_with(Domain::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    rustix::net::send(&socket, &bytes, SendFlags::empty())?;
    let mut answer = [0_u8; ANSWER_MAX];
    let (length, _) = rustix::net::recv(&socket, &mut answer, RecvFlags::empty())?;
    let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer[..length]).map_err(io::Error::other)?;
    match answer.payload {
        // Zero is how it says that all is well (netlink(7)).
        NetlinkPayload::Error(said) => said.code.map_or(Ok(()), |_| Err(said.to_io())),
        other => Err(io::Error::other(format!(
            "the kernel answers with a message of type {}",
            other.message_type()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::{device, set_up};

    #[test]
    fn what_is_not_there_is_an_error_of_the_system() {
        let error = device("not-a-device").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(nix::libc::ENODEV));
    }

    #[test]
    fn a_refusal_says_what_the_kernel_said() {
        // Whoever has no right to ask is told so first.
        let refused = set_up(i32::MAX as u32).unwrap_err();
        let code = refused.raw_os_error();
        assert!(
            [Some(nix::libc::ENODEV), Some(nix::libc::EPERM)].contains(&code),
            "{refused}"
        );
    }
}
