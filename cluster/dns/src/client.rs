//! Asks a DNS server, for `afloat dns`. Blocks.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::{Name, Record, RecordType};

use crate::reply;

/// How long the server may take: a little more than it gives the host's resolvers.
const ANSWER_LIMIT: Duration = Duration::from_secs(6);

/// What a server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// `NOERROR`, `NXDOMAIN` and so on.
    pub code: String,
    /// There is such a name.
    pub exists: bool,
    /// Lines as in a zone file: name, time to live, class, type, data.
    pub records: Vec<String>,
}

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be a name.
    #[error("{0:?} is not a DNS name: {1}")]
    Name(String, String),
    /// Not a type of records.
    #[error("{0:?} is not a type of DNS records: A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT or ANY")]
    Kind(String),
    /// The server cannot be reached, or says nothing that can be read.
    #[error("the cluster's DNS at {0} does not answer: {1}")]
    NoAnswer(SocketAddr, io::Error),
}

/// The name to ask for the Service or pod of an address: `10.96.0.1` → `1.0.96.10.in-addr.arpa.`
pub fn reverse(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("{d}.{c}.{b}.{a}.in-addr.arpa.")
}

/// Asks for the records of a name, over UDP and, where the answer is too long, over TCP.
///
/// # Errors
/// See [`Error`]; a name that does not exist is a reply.
pub fn ask(server: SocketAddr, name: &str, kind: &str) -> Result<Reply, Error> {
    let mut asked = Name::from_str_relaxed(name).map_err(|error| Error::Name(name.to_owned(), error.to_string()))?;
    asked.set_fqdn(true);
    let kind: RecordType = kind
        .to_ascii_uppercase()
        .parse()
        .map_err(|_| Error::Kind(kind.to_owned()))?;
    let mut request = Message::query();
    request.metadata.recursion_desired = true;
    request.add_query(Query::query(asked, kind));
    let mut edns = Edns::new();
    edns.set_max_payload(reply::PAYLOAD_MAX);
    request.set_edns(edns);
    let failed = |error| Error::NoAnswer(server, error);
    let mut answer = over_udp(server, &request).map_err(failed)?;
    if answer.metadata.truncation {
        answer = over_tcp(server, &request).map_err(failed)?;
    }
    let code = answer.metadata.response_code;
    Ok(Reply {
        code: match code {
            ResponseCode::NoError => "NOERROR".to_owned(),
            ResponseCode::NXDomain => "NXDOMAIN".to_owned(),
            ResponseCode::ServFail => "SERVFAIL".to_owned(),
            ResponseCode::Refused => "REFUSED".to_owned(),
            other => other.to_string(),
        },
        exists: code == ResponseCode::NoError,
        records: answer.answers.iter().map(Record::to_string).collect(),
    })
}

fn over_udp(server: SocketAddr, request: &Message) -> io::Result<Message> {
    let own: SocketAddr = if server.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (std::net::Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let socket = UdpSocket::bind(own)?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(ANSWER_LIMIT))?;
    socket.send(&request.to_vec().map_err(io::Error::other)?)?;
    let mut buffer = vec![0; usize::from(reply::PAYLOAD_MAX)];
    // One that does not belong here may come first, not many.
    for _ in 0..16 {
        let length = socket.recv(&mut buffer)?;
        let read = Message::from_vec(buffer.get(..length).unwrap_or_default());
        if let Some(answer) = read.ok().filter(|answer| reply::answers(request, answer)) {
            return Ok(answer);
        }
    }
    Err(io::Error::other("it answers other questions"))
}

fn over_tcp(server: SocketAddr, request: &Message) -> io::Result<Message> {
    let mut stream = TcpStream::connect_timeout(&server, ANSWER_LIMIT)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.set_write_timeout(Some(ANSWER_LIMIT))?;
    let bytes = request.to_vec().map_err(io::Error::other)?;
    stream.write_all(&u16::try_from(bytes.len()).map_err(io::Error::other)?.to_be_bytes())?;
    stream.write_all(&bytes)?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut answer)?;
    let answer = Message::from_vec(&answer).map_err(io::Error::other)?;
    if reply::answers(request, &answer) {
        Ok(answer)
    } else {
        Err(io::Error::other("it answers another question"))
    }
}
