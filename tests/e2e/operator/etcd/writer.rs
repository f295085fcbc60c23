//! Who writes to the store all the time, and remembers what was acknowledged.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

/// Longer than an election; a write that takes longer is not acknowledged.
const PATIENCE: Duration = Duration::from_secs(5);

/// What came of the writes so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Written {
    /// Numbers of the writes that were acknowledged.
    pub(super) acknowledged: BTreeSet<u64>,
    /// How many were not: whether they took effect, nobody can say.
    pub(super) failed: u64,
    /// The longest time without an acknowledgement.
    pub(super) pause: Duration,
}

/// Writes one key after the other, each on a connection of its own, until it is dropped.
pub(super) struct Writer {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    written: Arc<Mutex<Written>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Begins with the key of this number.
    pub(super) fn start(port: u16, first: u64) -> Self {
        let (stop, count) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let written = Arc::<Mutex<Written>>::default();
        let shared = (stop.clone(), count.clone(), written.clone());
        let thread = std::thread::spawn(move || {
            let (stop, count, written) = shared;
            let mut last = Instant::now();
            for number in first.. {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                let acknowledged = put(port, number);
                let mut written = written.lock().expect("nobody panics with it");
                if acknowledged {
                    written.acknowledged.insert(number);
                    written.pause = written.pause.max(last.elapsed());
                    last = Instant::now();
                } else {
                    written.failed += 1;
                }
                drop(written);
                count.fetch_add(1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(2)); // not a wait for anything: the rate
            }
        });
        Self {
            stop,
            count,
            written,
            thread: Some(thread),
        }
    }

    /// Writes that have ended.
    pub(super) fn so_far(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }

    /// Ends it; what came of it.
    pub(super) fn finish(mut self) -> Written {
        self.stop.store(true, Ordering::SeqCst);
        let thread = self.thread.take().expect("not finished yet");
        thread.join().expect("it does not panic");
        self.written.lock().expect("nobody panics with it").clone()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

fn put(port: u16, number: u64) -> bool {
    let encoded = |text: String| BASE64_STANDARD.encode(text);
    let body = json!({"key": encoded(format!("k{number}")), "value": encoded(number.to_string())});
    ask(port, "/v3/kv/put", &body).is_some()
}

/// The numbers of all keys, as a majority of the members has them.
pub(super) fn stored(port: u16) -> Option<BTreeSet<u64>> {
    let encoded = |text: &str| BASE64_STANDARD.encode(text);
    let range = json!({"key": encoded("k"), "range_end": encoded("l"), "keys_only": true});
    let answer = ask(port, "/v3/kv/range", &range)?;
    let keys = answer["kvs"].as_array().cloned().unwrap_or_default();
    let number = |entry: &Value| {
        let key = BASE64_STANDARD.decode(entry["key"].as_str()?).ok()?;
        String::from_utf8(key).ok()?.strip_prefix('k')?.parse().ok()
    };
    Some(keys.iter().filter_map(number).collect())
}

/// The members' ids, sorted.
pub(super) fn members(port: u16) -> Option<Vec<String>> {
    let answer = ask(port, "/v3/cluster/member/list", &json!({}))?;
    let members = answer["members"].as_array().cloned().unwrap_or_default();
    let mut ids: Vec<String> = members.iter().map(|member| member["ID"].to_string()).collect();
    ids.sort();
    Some(ids)
}

/// One question to the store; None if it was not answered with success.
fn ask(port: u16, path: &str, body: &Value) -> Option<Value> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let body = body.to_string();
    let exchange = || -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        // Of version 1.0, so that the answer ends with the connection and comes in one piece.
        let head = format!(
            "POST {path} HTTP/1.0\r\nHost: etcd\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    };
    let answer = String::from_utf8(exchange().ok()?).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let success = head.starts_with("HTTP/1.0 200") || head.starts_with("HTTP/1.1 200");
    // An answer that was cut off is none.
    success.then(|| serde_json::from_str(body).ok())?
}
