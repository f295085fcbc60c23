//! Listening sockets on addresses that no interface has.
//!
//! The service range is local to the namespace (`ip route add local 10.96.0.0/16 dev lo`), so any socket may bind an
//! address of it. All nodes share that namespace; SO_BINDTODEVICE gives each node a socket of its own for the same
//! address, which sees only what comes in over the node's bridge (tried: also UDP answers leave with the right source).

use std::io;
use std::net::{SocketAddr, SocketAddrV4, TcpListener, UdpSocket};
use std::time::Duration;

use socket2::{Domain, Socket, TcpKeepalive, Type};

/// Connections that wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// A TCP listener whose connections inherit no-delay and keep-alive, ready for tokio.
pub(crate) fn tcp(address: SocketAddrV4, device: Option<&str>) -> io::Result<TcpListener> {
    let socket = bound(address, device, Type::STREAM)?;
    socket.listen(BACKLOG)?;
    tune(&socket)?;
    Ok(socket.into())
}

/// A UDP socket, ready for tokio.
pub(crate) fn udp(address: SocketAddrV4, device: Option<&str>) -> io::Result<UdpSocket> {
    Ok(bound(address, device, Type::DGRAM)?.into())
}

/// A TCP socket that is not connected yet, ready for `TcpSocket::from_std_stream`.
pub(crate) fn upstream() -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None)?;
    tune(&socket)?;
    Ok(socket)
}

/// Keep-alive finds peers that vanished without a word (a pod's namespace that is gone), so that no connection is
/// counted as open for ever.
pub(crate) fn tune(socket: &Socket) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    let probes = TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(15));
    socket.set_tcp_keepalive(&probes.with_retries(4))
}

/// Lets new connections take local ports that old ones still linger on (TIME_WAIT): without it, one endpoint gets no more
/// than about 470 new connections a second from clients that close first. Only for a namespace of our own; the default
/// of Linux allows it for loopback alone. RFC 6191 says why it is safe.
pub(crate) fn reuse_lingering_ports() {
    if let Err(error) = std::fs::write("/proc/sys/net/ipv4/tcp_tw_reuse", "1") {
        tracing::debug!(%error, "cannot set net.ipv4.tcp_tw_reuse");
    }
}

fn bound(address: SocketAddrV4, device: Option<&str>, kind: Type) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, kind.nonblocking(), None)?;
    if kind == Type::STREAM {
        // Connections of a predecessor that still linger must not keep the port from being opened again.
        socket.set_reuse_address(true)?;
    }
    if let Some(device) = device {
        socket.bind_device(Some(device.as_bytes()))?;
    }
    socket.bind(&SocketAddr::V4(address).into())?;
    Ok(socket)
}
