//! An open-loop load generator: requests leave on a fixed schedule, whether or not earlier ones were answered, and
//! latency counts from the moment a request was due, so that a stall is not hidden by the requests it kept from being sent
//! (coordinated omission).
//!
//! Every second request opens a connection of its own; the others use kept-alive ones. A request on a kept-alive
//! connection that the server closed before it answered with a single byte is sent once more on a fresh connection, as RFC
//! 9110 §9.2.2 lets every client do for GET; it counts as lost only if that fails too.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hdrhistogram::Histogram;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, MissedTickBehavior, timeout};

/// A request that takes longer is lost.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);
/// Requests under way at once; one that finds no room is lost (`overload`).
const IN_FLIGHT_MAX: usize = 4096;
/// Idle connections kept for one target.
const IDLE_MAX: usize = 16;

/// Lost requests by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Lost {
    /// Nobody listened.
    pub(crate) refused: u64,
    /// The connection was cut before the answer was complete.
    pub(crate) reset: u64,
    /// No answer in 5 s.
    pub(crate) timeout: u64,
    /// An answer that says that the server failed.
    #[serde(rename = "5xx")]
    pub(crate) server_error: u64,
    /// Never sent, because thousands were still waiting.
    pub(crate) overload: u64,
}

impl Lost {
    pub(crate) fn total(self) -> u64 {
        self.refused + self.reset + self.timeout + self.server_error + self.overload
    }
}

/// What a run of the generator saw.
pub(crate) struct Outcome {
    /// Requests that were due.
    pub(crate) sent: u64,
    /// Those that got no good answer.
    pub(crate) lost: Lost,
    /// Milliseconds of the answered ones, from when they were due.
    pub(crate) p50_ms: f64,
    /// See `p50_ms`.
    pub(crate) p99_ms: f64,
}

/// A generator that runs in a thread of its own until it is stopped.
pub(crate) struct Load {
    stop: oneshot::Sender<()>,
    thread: std::thread::JoinHandle<io::Result<()>>,
    meter: Arc<Meter>,
}

struct Meter {
    sent: AtomicU64,
    answered: AtomicU64,
    refused: AtomicU64,
    reset: AtomicU64,
    timeout: AtomicU64,
    server_error: AtomicU64,
    overload: AtomicU64,
    latency_us: Mutex<Histogram<u64>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    Refused,
    Reset,
    Timeout,
    ServerError,
}

/// One address that requests go to, with its idle connections.
struct Target {
    address: SocketAddr,
    idle: Mutex<Vec<SendRequest<Empty<Bytes>>>>,
}

impl Load {
    /// Starts sending `rate` requests a second, in turn to each of `targets`.
    pub(crate) fn start(targets: &[SocketAddr], rate: u32) -> anyhow::Result<Self> {
        let meter = Arc::new(Meter::new()?);
        let targets: Vec<Arc<Target>> = targets
            .iter()
            .map(|&address| {
                Arc::new(Target {
                    address,
                    idle: Mutex::default(),
                })
            })
            .collect();
        let (stop, stopped) = oneshot::channel();
        let in_thread = meter.clone();
        let thread = std::thread::Builder::new().name("load".into()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(send(&targets, rate, &in_thread, stopped));
            Ok(())
        })?;
        Ok(Self { stop, thread, meter })
    }

    /// How many were answered and lost so far.
    pub(crate) fn so_far(&self) -> (u64, u64) {
        (self.meter.answered.load(Ordering::Relaxed), self.meter.lost().total())
    }

    /// Sends no more, waits for the answers under way, and tells what happened.
    pub(crate) async fn finish(self) -> anyhow::Result<Outcome> {
        let _ = self.stop.send(());
        let thread = self.thread;
        tokio::task::spawn_blocking(move || thread.join())
            .await?
            .map_err(|_| anyhow::anyhow!("the load generator failed"))??;
        let latency = self.meter.latency_us.lock().unwrap_or_else(PoisonError::into_inner);
        #[allow(clippy::cast_precision_loss)] // microseconds below 2^52
        let ms = |quantile: f64| latency.value_at_quantile(quantile) as f64 / 1000.0;
        Ok(Outcome {
            sent: self.meter.sent.load(Ordering::Relaxed),
            lost: self.meter.lost(),
            p50_ms: ms(0.50),
            p99_ms: ms(0.99),
        })
    }
}

impl Meter {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            sent: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            reset: AtomicU64::new(0),
            timeout: AtomicU64::new(0),
            server_error: AtomicU64::new(0),
            overload: AtomicU64::new(0),
            latency_us: Mutex::new(Histogram::new_with_bounds(1, 60_000_000, 3)?),
        })
    }

    fn lost(&self) -> Lost {
        Lost {
            refused: self.refused.load(Ordering::Relaxed),
            reset: self.reset.load(Ordering::Relaxed),
            timeout: self.timeout.load(Ordering::Relaxed),
            server_error: self.server_error.load(Ordering::Relaxed),
            overload: self.overload.load(Ordering::Relaxed),
        }
    }

    fn record(&self, due: Instant, result: Result<(), Failure>) {
        let counter = match result {
            Ok(()) => {
                let us = u64::try_from(due.elapsed().as_micros()).unwrap_or(u64::MAX);
                self.latency_us
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .saturating_record(us);
                &self.answered
            }
            Err(Failure::Refused) => &self.refused,
            Err(Failure::Reset) => &self.reset,
            Err(Failure::Timeout) => &self.timeout,
            Err(Failure::ServerError) => &self.server_error,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

async fn send(targets: &[Arc<Target>], rate: u32, meter: &Arc<Meter>, mut stopped: oneshot::Receiver<()>) {
    let mut tick = tokio::time::interval(Duration::from_secs(1) / rate.max(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let room = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
    let mut number: usize = 0;
    loop {
        let due = tokio::select! {
            due = tick.tick() => due,
            _ = &mut stopped => break,
        };
        meter.sent.fetch_add(1, Ordering::Relaxed);
        let Ok(place) = room.clone().try_acquire_owned() else {
            meter.overload.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        // Pairs of a new and a kept-alive request go round the targets.
        let target = targets[(number / 2) % targets.len()].clone();
        let keep_alive = number % 2 == 1;
        number = number.wrapping_add(1);
        let meter = meter.clone();
        tokio::spawn(async move {
            let result = match timeout(REQUEST_LIMIT, request(&target, keep_alive)).await {
                Ok(result) => result,
                Err(_) => Err(Failure::Timeout),
            };
            meter.record(due, result);
            drop(place);
        });
    }
    // Every request ends within its limit, so this does too.
    let _ = room
        .acquire_many(u32::try_from(IN_FLIGHT_MAX).unwrap_or(u32::MAX))
        .await;
}

async fn request(target: &Target, keep_alive: bool) -> Result<(), Failure> {
    if keep_alive {
        let idle = target.take_idle();
        if let Some(sender) = idle {
            match exchange(sender, target, true).await {
                // Closed under us before it answered: the one case in which sending again is safe.
                Err(Error::Unanswered) => {}
                other => return other.map_err(Error::into_failure),
            }
        }
    }
    let stream = TcpStream::connect(target.address).await.map_err(|e| failure_of(&e))?;
    let _ = stream.set_nodelay(true);
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|_| Failure::Reset)?;
    tokio::spawn(async move {
        // Its end shows in the request that used it.
        let _ = connection.await;
    });
    exchange(sender, target, keep_alive).await.map_err(Error::into_failure)
}

enum Error {
    Unanswered,
    Failed(Failure),
}

impl Error {
    fn into_failure(self) -> Failure {
        match self {
            Self::Unanswered => Failure::Reset,
            Self::Failed(failure) => failure,
        }
    }
}

async fn exchange(mut sender: SendRequest<Empty<Bytes>>, target: &Target, keep_alive: bool) -> Result<(), Error> {
    let request = Request::get("/")
        .header("host", "web")
        .header("connection", if keep_alive { "keep-alive" } else { "close" })
        .body(Empty::new())
        .map_err(|_| Error::Failed(Failure::ServerError))?;
    if sender.ready().await.is_err() {
        return Err(Error::Unanswered);
    }
    let response = sender.send_request(request).await.map_err(|e| {
        if e.is_incomplete_message() || e.is_canceled() || e.is_closed() || is_cut(&e) {
            Error::Unanswered
        } else {
            Error::Failed(Failure::Reset)
        }
    })?;
    let (status, close) = (
        response.status(),
        response.headers().get("connection").is_some_and(|v| v == "close"),
    );
    response
        .into_body()
        .collect()
        .await
        .map_err(|_| Error::Failed(Failure::Reset))?;
    if status.is_server_error() || status != StatusCode::OK {
        return Err(Error::Failed(Failure::ServerError));
    }
    if keep_alive && !close {
        target.give_back(sender);
    }
    Ok(())
}

/// Whether the peer cut the connection, as opposed to talking nonsense.
fn is_cut(error: &hyper::Error) -> bool {
    let io = std::error::Error::source(error).and_then(|s| s.downcast_ref::<io::Error>());
    io.is_some_and(|e| matches!(e.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe))
}

fn failure_of(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            Failure::Refused
        }
        io::ErrorKind::TimedOut => Failure::Timeout,
        _ => Failure::Reset,
    }
}

impl Target {
    fn take_idle(&self) -> Option<SendRequest<Empty<Bytes>>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(sender) = idle.pop() {
            if !sender.is_closed() {
                return Some(sender);
            }
        }
        None
    }

    fn give_back(&self, sender: SendRequest<Empty<Bytes>>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push(sender);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    async fn run_against(address: SocketAddr, until_sent: u64) -> Outcome {
        let load = Load::start(&[address], 200).unwrap();
        while load.meter.sent.load(Ordering::Relaxed) < until_sent {
            tokio::task::yield_now().await;
        }
        load.finish().await.unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn counts_refused_connections() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let outcome = run_against(address, 20).await;
        assert_eq!(outcome.lost.refused, outcome.sent);
        assert_eq!(outcome.lost.total(), outcome.sent);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn counts_every_kind_exactly() {
        // Answers of the n-th connection: good, cut, 503, in turn. All close, so every request has its own connection.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let mut number = 0;
            while let Ok((mut stream, _)) = listener.accept().await {
                let kind = number % 3;
                number += 1;
                tokio::spawn(async move {
                    let mut buffer = [0; 1024];
                    let _ = stream.read(&mut buffer).await;
                    let answer = match kind {
                        0 => "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
                        1 => "HTTP/1.1 200 OK\r\ncontent-length: 9\r\nconnection: close\r\n\r\ncut",
                        _ => "HTTP/1.1 503 Busy\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
                    };
                    let _ = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        let outcome = run_against(address, 30).await;
        let third = outcome.sent / 3;
        assert_eq!(outcome.lost.reset, (outcome.sent + 1) / 3, "of {}", outcome.sent);
        assert_eq!(outcome.lost.server_error, third, "of {}", outcome.sent);
        assert_eq!(outcome.lost.refused + outcome.lost.timeout + outcome.lost.overload, 0);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_idle_connection_that_was_closed_loses_nothing() {
        // Answers one request a connection, promises to keep it, and closes it.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut buffer = [0; 1024];
                    let _ = stream.read(&mut buffer).await;
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
                });
            }
        });
        let outcome = run_against(address, 40).await;
        assert_eq!(outcome.lost.total(), 0);
    }
}
