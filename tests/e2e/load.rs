//! Requests from the host to a port of a node, and how many of them were lost.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// For one answer, on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(30);

/// Sends one request after the other, each on a connection of its own, until it is dropped.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    lost: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    pub(crate) fn start(port: u16) -> Self {
        let (stop, answered, lost) = (
            Arc::<AtomicBool>::default(),
            Arc::<AtomicU64>::default(),
            Arc::<AtomicU64>::default(),
        );
        let counters = (stop.clone(), answered.clone(), lost.clone());
        let thread = std::thread::spawn(move || {
            let (stop, answered, lost) = counters;
            while !stop.load(Ordering::SeqCst) {
                let counter = if request(port) { &answered } else { &lost };
                counter.fetch_add(1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(2)); // not a wait for anything: the rate
            }
        });
        Self {
            stop,
            answered,
            lost,
            thread: Some(thread),
        }
    }

    /// Ends it; gives how many were answered and how many were lost.
    pub(crate) fn finish(mut self) -> (u64, u64) {
        self.stop.store(true, Ordering::SeqCst);
        self.thread
            .take()
            .expect("not finished yet")
            .join()
            .expect("it does not panic");
        (self.answered.load(Ordering::SeqCst), self.lost.load(Ordering::SeqCst))
    }

    /// Requests that have ended.
    pub(crate) fn so_far(&self) -> u64 {
        self.answered.load(Ordering::SeqCst) + self.lost.load(Ordering::SeqCst)
    }
}

/// One request on a connection of its own; whether it was answered.
pub(crate) fn request(port: u16) -> bool {
    answer(port).is_some()
}

/// The same; the body of the answer.
pub(crate) fn answer(port: u16) -> Option<String> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let exchange = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    let text = exchange().ok().filter(|text| text.starts_with("HTTP/1.1 200"))?;
    let (_, body) = text.split_once("\r\n\r\n")?;
    Some(body.trim().to_owned())
}
