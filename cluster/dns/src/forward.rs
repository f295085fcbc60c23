//! Asks the host's resolvers about names that are not the cluster's.
//!
//! A question never waits for long: a resolver that does not answer is left alone for a while, and when there is none
//! left the answer is a failure at once.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use hickory_proto::op::{Message, Query, ResponseCode};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use crate::reply;
use crate::stream::{read_message, write_message};

/// How long a resolver may take to answer. Clients usually ask again after 5 s.
const ANSWER_LIMIT: Duration = Duration::from_millis(1500);
/// How long a resolver that did not answer is left alone.
const REST: Duration = Duration::from_secs(10);
/// Resolvers that are tried, as in resolv.conf(5).
const RESOLVERS_MAX: usize = 3;
/// Questions that are asked outside at a time; more fail at once.
const QUESTIONS_MAX: usize = 256;

/// Opens sockets that are connected to the host's resolvers.
#[async_trait]
pub trait Upstream: Send + Sync + 'static {
    /// To the resolver of this number (from 0) over UDP.
    ///
    /// # Errors
    /// `NotFound`: there are not so many.
    async fn datagram(&self, number: usize) -> io::Result<std::net::UdpSocket>;
    /// To the resolver of this number over TCP.
    ///
    /// # Errors
    /// `NotFound`: there are not so many.
    async fn stream(&self, number: usize) -> io::Result<std::net::TcpStream>;
}

/// See the module.
pub(crate) struct Forwarder {
    upstream: Option<Arc<dyn Upstream>>,
    limit: Semaphore,
    /// By number: not to be asked before.
    resting: Mutex<[Option<Instant>; RESOLVERS_MAX]>,
}

impl Forwarder {
    pub(crate) fn new(upstream: Option<Arc<dyn Upstream>>) -> Self {
        Self {
            upstream,
            limit: Semaphore::new(QUESTIONS_MAX),
            resting: Mutex::default(),
        }
    }

    /// Completes the answer to a question that is not the cluster's.
    pub(crate) async fn forward(&self, mut answer: Message, query: Query, stream: bool) -> Message {
        let Some(upstream) = &self.upstream else {
            answer.metadata.response_code = ResponseCode::Refused;
            return answer;
        };
        let Ok(_permit) = self.limit.try_acquire() else {
            return reply::complete(answer, None);
        };
        let request = reply::upstream_request(&answer, &query, rand::random());
        for number in 0..RESOLVERS_MAX {
            if self.rests(number) {
                continue;
            }
            let asked = async {
                if stream {
                    ask_stream(upstream.stream(number).await?, &request).await
                } else {
                    ask_datagram(upstream.datagram(number).await?, &request).await
                }
            };
            let error = match timeout(ANSWER_LIMIT, asked).await {
                Ok(Ok(reply)) => return reply::complete(answer, Some(reply)),
                Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => break,
                Ok(Err(error)) => error,
                Err(_) => io::Error::from(io::ErrorKind::TimedOut),
            };
            tracing::debug!(number, %error, "a resolver of the host does not answer");
            self.rest(number);
        }
        reply::complete(answer, None)
    }

    fn rests(&self, number: usize) -> bool {
        let resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        resting[number].is_some_and(|until| until > Instant::now())
    }

    fn rest(&self, number: usize) {
        self.resting.lock().unwrap_or_else(PoisonError::into_inner)[number] = Some(Instant::now() + REST);
    }
}

async fn ask_datagram(socket: std::net::UdpSocket, request: &Message) -> io::Result<Message> {
    socket.set_nonblocking(true)?;
    let socket = UdpSocket::from_std(socket)?;
    socket.send(&request.to_vec().map_err(io::Error::other)?).await?;
    let mut buffer = vec![0; usize::from(reply::PAYLOAD_MAX)];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let read = Message::from_vec(buffer.get(..length).unwrap_or_default());
        if let Ok(reply) = read
            && reply::answers(request, &reply)
        {
            return Ok(reply);
        }
    }
}

async fn ask_stream(stream: std::net::TcpStream, request: &Message) -> io::Result<Message> {
    stream.set_nonblocking(true)?;
    let mut stream = TcpStream::from_std(stream)?;
    write_message(&mut stream, &request.to_vec().map_err(io::Error::other)?).await?;
    let bytes = read_message(&mut stream).await?;
    let reply = Message::from_vec(&bytes).map_err(io::Error::other)?;
    if reply::answers(request, &reply) {
        Ok(reply)
    } else {
        Err(io::Error::other("it answers another question"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::OpCode;
    use hickory_proto::rr::{Name, RecordType};
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Two resolvers that never answer.
    #[derive(Default)]
    struct Silent(AtomicUsize);

    #[async_trait]
    impl Upstream for Silent {
        async fn datagram(&self, number: usize) -> io::Result<std::net::UdpSocket> {
            if number >= 2 {
                return Err(io::ErrorKind::NotFound.into());
            }
            self.0.fetch_add(1, Ordering::SeqCst);
            std::future::pending().await
        }

        async fn stream(&self, _number: usize) -> io::Result<std::net::TcpStream> {
            Err(io::ErrorKind::ConnectionRefused.into())
        }
    }

    async fn ask(forwarder: &Forwarder, stream: bool) -> ResponseCode {
        let query = Query::query(Name::from_ascii("example.com.").unwrap(), RecordType::A);
        let answer = Message::response(1, OpCode::Query);
        forwarder.forward(answer, query, stream).await.metadata.response_code
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_a_failure_soon_and_then_at_once() {
        let silent = Arc::new(Silent::default());
        let forwarder = Forwarder::new(Some(silent.clone()));
        let began = tokio::time::Instant::now();
        assert_eq!(ask(&forwarder, false).await, ResponseCode::ServFail);
        assert_eq!(began.elapsed(), 2 * ANSWER_LIMIT, "both were tried");
        assert_eq!(ask(&forwarder, false).await, ResponseCode::ServFail);
        assert_eq!(began.elapsed(), 2 * ANSWER_LIMIT, "they are left alone");
        assert_eq!(silent.0.load(Ordering::SeqCst), 2);
        tokio::time::advance(REST).await;
        assert_eq!(ask(&forwarder, false).await, ResponseCode::ServFail);
        assert_eq!(silent.0.load(Ordering::SeqCst), 4, "after a rest they are asked again");
    }

    #[tokio::test]
    async fn without_a_way_out_the_answer_is_no() {
        assert_eq!(ask(&Forwarder::new(None), false).await, ResponseCode::Refused);
        let forwarder = Forwarder::new(Some(Arc::new(Silent::default())));
        assert_eq!(ask(&forwarder, true).await, ResponseCode::ServFail);
    }

    /// A resolver that first sends what nobody asked for, and then the answer.
    struct Local(std::net::SocketAddr);

    #[async_trait]
    impl Upstream for Local {
        async fn datagram(&self, _number: usize) -> io::Result<std::net::UdpSocket> {
            let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
            socket.connect(self.0)?;
            Ok(socket)
        }

        async fn stream(&self, _number: usize) -> io::Result<std::net::TcpStream> {
            Err(io::ErrorKind::ConnectionRefused.into())
        }
    }

    #[tokio::test]
    async fn what_a_resolver_says_completes_the_answer() {
        let resolver = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = resolver.local_addr().unwrap();
        let name = Name::from_ascii("example.com.").unwrap();
        let owner = name.clone();
        let asked = tokio::spawn(async move {
            let mut buffer = vec![0; 512];
            let (length, client) = resolver.recv_from(&mut buffer).await.unwrap();
            let request = Message::from_vec(&buffer[..length]).unwrap();
            let data = hickory_proto::rr::RData::A(hickory_proto::rr::rdata::A([192, 0, 2, 7].into()));
            let mut reply = request.clone().into_response();
            reply.add_answer(hickory_proto::rr::Record::from_rdata(owner, 60, data));
            let mut forged = reply.clone();
            forged.metadata.id = forged.metadata.id.wrapping_add(1);
            forged.answers.clear();
            for message in [forged, reply] {
                resolver.send_to(&message.to_vec().unwrap(), client).await.unwrap();
            }
            request
        });
        let forwarder = Forwarder::new(Some(Arc::new(Local(address))));
        let mut answer = Message::response(77, OpCode::Query);
        answer.add_query(Query::query(name.clone(), RecordType::A));
        let done = forwarder
            .forward(answer, Query::query(name, RecordType::A), false)
            .await;
        assert_eq!(
            (done.metadata.id, done.metadata.response_code),
            (77, ResponseCode::NoError)
        );
        assert_eq!(done.answers[0].data.to_string(), "192.0.2.7");
        assert!(asked.await.unwrap().metadata.recursion_desired);
    }
}
