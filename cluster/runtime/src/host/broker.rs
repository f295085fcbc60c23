//! Sockets of the host's network namespace for the inside.
//!
//! Without root the inside cannot enter the host's namespace, so the outer process makes the sockets and hands them over.
//! It never waits for a peer: a connecting socket is handed over while it connects.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};

/// How long a peer may take to accept a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// How long the outer process may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Both messages are far smaller.
const MESSAGE_BYTES: usize = 1024;
/// Connections that the kernel keeps until they are accepted.
const BACKLOG: i32 = 1024;
/// For verbs that need no address.
const UNUSED: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
/// Where DNS resolvers listen.
const DNS_PORT: u16 = 53;

#[derive(Serialize, Deserialize)]
enum Verb {
    Listen,
    Connect,
    /// Ask the host's resolver for a name's addresses; the answer is the end of a pipe where they will come.
    Resolve(String),
    /// A socket for datagrams that has this address.
    Bind,
    /// A socket that is connected, or connects, to the host's DNS resolver of this number (from 0). The address does not
    /// matter: which resolvers there are is looked up at that moment, as hosts move from network to network.
    Resolver {
        number: usize,
        stream: bool,
    },
}

#[derive(Serialize, Deserialize)]
struct Request {
    id: u64,
    verb: Verb,
    address: SocketAddr,
}

#[derive(Serialize, Deserialize)]
struct Answer {
    id: u64,
    /// 0, or the error number.
    errno: i32,
}

/// Asks the outer process for sockets of the host's network namespace. Calls block: not for async threads.
#[derive(Clone, Debug)]
pub struct Broker {
    channel: Arc<Mutex<OwnedFd>>,
}

impl Broker {
    pub(super) fn new(channel: OwnedFd) -> Self {
        Self {
            channel: Arc::new(Mutex::new(channel)),
        }
    }

    /// Listens on an address of the host.
    pub fn listen(&self, addr: SocketAddr) -> io::Result<std::net::TcpListener> {
        Ok(std::net::TcpListener::from(self.ask(Verb::Listen, addr)?))
    }

    /// A socket that is being connected to an address that the host can reach, not blocking.
    pub(crate) fn start_connecting(&self, addr: SocketAddr) -> io::Result<std::net::TcpStream> {
        Ok(std::net::TcpStream::from(self.ask(Verb::Connect, addr)?))
    }

    /// A pipe where the addresses of a name come, one a line, or `error …`: as the host's own resolver says.
    pub(crate) fn resolve(&self, name: &str) -> io::Result<OwnedFd> {
        if name.len() > super::resolve::NAME_BYTES_MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the name of the host is too long",
            ));
        }
        self.ask(Verb::Resolve(name.to_owned()), SocketAddr::from(([0, 0, 0, 0], 0)))
    }

    /// Connects to an address that the host can reach; gives up after 10 seconds.
    pub fn connect(&self, addr: SocketAddr) -> io::Result<std::net::TcpStream> {
        let socket = Socket::from(self.ask(Verb::Connect, addr)?);
        let end = Instant::now() + CONNECT_LIMIT;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("{addr} does not answer"),
                ));
            }
            if wait_for(&socket, rustix::event::PollFlags::OUT, left)? {
                break;
            }
        }
        if let Some(error) = socket.take_error()? {
            return Err(error);
        }
        socket.set_nonblocking(false)?;
        Ok(socket.into())
    }

    /// A socket for datagrams on an address of the host.
    pub fn bind(&self, addr: SocketAddr) -> io::Result<std::net::UdpSocket> {
        Ok(std::net::UdpSocket::from(self.ask(Verb::Bind, addr)?))
    }

    /// A socket that sends to the host's DNS resolver of this number, as `/etc/resolv.conf` has them. `NotFound`: there
    /// are not so many.
    pub fn resolver_datagram(&self, number: usize) -> io::Result<std::net::UdpSocket> {
        let verb = Verb::Resolver { number, stream: false };
        Ok(std::net::UdpSocket::from(self.ask(verb, UNUSED)?))
    }

    /// The same over TCP. It is still connecting and does not block: whoever writes first has to wait for that.
    pub fn resolver_stream(&self, number: usize) -> io::Result<std::net::TcpStream> {
        let verb = Verb::Resolver { number, stream: true };
        Ok(std::net::TcpStream::from(self.ask(verb, UNUSED)?))
    }

    fn ask(&self, verb: Verb, address: SocketAddr) -> io::Result<OwnedFd> {
        let id: u64 = rand::random();
        let request = serde_json::to_vec(&Request { id, verb, address })?;
        // A panic while holding the lock cannot leave the channel in a bad state: messages are whole.
        let channel = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        send_message(channel.as_raw_fd(), &request, None)?;
        let end = Instant::now() + ANSWER_LIMIT;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the outer process does not answer",
                ));
            }
            if !wait_for(&*channel, rustix::event::PollFlags::IN, left)? {
                continue;
            }
            let (bytes, socket) = receive_message(channel.as_raw_fd())?;
            if bytes.is_empty() {
                return Err(io::Error::new(io::ErrorKind::BrokenPipe, "the outer process is gone"));
            }
            let answer: Answer = serde_json::from_slice(&bytes)?;
            // Answers to a predecessor of this process that died before it read them.
            if answer.id != id {
                continue;
            }
            return match socket {
                Some(socket) if answer.errno == 0 => Ok(socket),
                _ => Err(io::Error::from_raw_os_error(answer.errno)),
            };
        }
    }
}

/// Serves one request; in the outer process, when the channel is readable. `false`: the inside is gone.
pub(super) fn serve_one(channel: BorrowedFd<'_>, resolvers: &mut super::resolve::Resolvers) -> io::Result<bool> {
    let (bytes, _) = receive_message(channel.as_raw_fd())?;
    if bytes.is_empty() {
        return Ok(false);
    }
    let Ok(request) = serde_json::from_slice::<Request>(&bytes) else {
        return Ok(true);
    };
    let made = match request.verb {
        Verb::Listen => listen(request.address).map(OwnedFd::from),
        Verb::Connect => start_connecting(request.address).map(OwnedFd::from),
        Verb::Resolve(name) => resolvers.start(&name),
        Verb::Bind => bind(request.address).map(OwnedFd::from),
        Verb::Resolver { number, stream } => resolver(number, stream).map(OwnedFd::from),
    };
    let errno = made
        .as_ref()
        .err()
        .map_or(0, |e| e.raw_os_error().unwrap_or(nix::libc::EIO));
    let answer = serde_json::to_vec(&Answer { id: request.id, errno })?;
    send_message(channel.as_raw_fd(), &answer, made.ok().as_ref().map(|s| s.as_raw_fd()))?;
    Ok(true)
}

fn listen(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

fn start_connecting(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(nix::libc::EINPROGRESS) => Err(error),
        _ => Ok(socket),
    }
}

fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn resolver(number: usize, stream: bool) -> io::Result<Socket> {
    let text = std::fs::read_to_string("/etc/resolv.conf")?;
    let Some(address) = nameservers(&text).nth(number) else {
        return Err(io::Error::from_raw_os_error(nix::libc::ENOENT));
    };
    let address = SocketAddr::new(address, DNS_PORT);
    if stream {
        return start_connecting(address);
    }
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.connect(&address.into())?;
    Ok(socket)
}

/// The name servers of a resolv.conf(5); none named means that of this machine. Those with a scope are left out.
fn nameservers(text: &str) -> impl Iterator<Item = IpAddr> {
    let servers = |line: &str| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next().map(str::to_owned))
    };
    let named: Vec<String> = text.lines().filter_map(servers).flatten().collect();
    let fallback = named.is_empty().then_some(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let parsed: Vec<IpAddr> = named.iter().filter_map(|word| word.parse().ok()).collect();
    parsed.into_iter().chain(fallback)
}

fn wait_for<F: std::os::fd::AsFd>(fd: &F, events: rustix::event::PollFlags, limit: Duration) -> io::Result<bool> {
    let limit = rustix::event::Timespec {
        tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(limit.subsec_nanos()),
    };
    match rustix::event::poll(&mut [rustix::event::PollFd::new(fd, events)], Some(&limit)) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Sends one message with at most one file descriptor.
pub(crate) fn send_message(channel: RawFd, bytes: &[u8], fd: Option<RawFd>) -> io::Result<()> {
    let fds: Vec<RawFd> = fd.into_iter().collect();
    let control = [ControlMessage::ScmRights(&fds)];
    let control: &[ControlMessage<'_>] = if fds.is_empty() { &[] } else { &control };
    sendmsg::<UnixAddr>(channel, &[IoSlice::new(bytes)], control, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// Receives one message with at most one file descriptor. No bytes: the other end is closed.
#[allow(unsafe_code)] // a descriptor out of a control message is ours alone: the kernel has just made it
pub(crate) fn receive_message(channel: RawFd) -> io::Result<(Vec<u8>, Option<OwnedFd>)> {
    let mut bytes = vec![0; MESSAGE_BYTES];
    let mut control = nix::cmsg_space!(RawFd);
    let mut received = None;
    let length = {
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let message = recvmsg::<UnixAddr>(channel, &mut parts, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC)?;
        for item in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(fds) = item {
                for fd in fds {
                    // SAFETY: see above; each descriptor is taken once.
                    received = Some(unsafe { OwnedFd::from_raw_fd(fd) });
                }
            }
        }
        message.bytes
    };
    bytes.truncate(length);
    Ok((bytes, received))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_are_those_of_resolv_conf() {
        let found = |text| nameservers(text).map(|address| address.to_string()).collect::<Vec<_>>();
        let text =
            "# by hand\nsearch a b\nnameserver 127.0.0.53\n nameserver ::1 # near\nnameserver fe80::1%eth0\noptions x";
        assert_eq!(found(text), ["127.0.0.53", "::1"]);
        assert_eq!(found("search a"), ["127.0.0.1"]);
    }
}
