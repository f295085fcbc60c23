//! Somebody who has nothing to do with it: small and larger requests, some on new connections, and how long each took.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::json;

use super::door::{Door, Line};

/// Between two rounds. Not a wait for anything: the rate.
const PAUSE: Duration = Duration::from_millis(50);
/// Who waits for so long gets no answer any more.
const PATIENCE: Duration = Duration::from_secs(60);
/// What is long enough that the server reads it as such.
const LARGE: usize = 100_000;
const MAP: &str = "/api/v1/namespaces/default/configmaps/bystander";

/// Asks until it is told to stop.
pub(super) struct Bystander {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicUsize>,
    thread: JoinHandle<Seen>,
}

/// What came of it.
#[derive(Default)]
pub(super) struct Seen {
    /// The longest that one of each kind took.
    pub(super) read: Duration,
    pub(super) write: Duration,
    pub(super) large: Duration,
    pub(super) new: Duration,
    pub(super) answered: usize,
    /// What was not answered, or not with a yes.
    pub(super) failed: Vec<String>,
}

impl Seen {
    pub(super) fn longest(&self) -> Duration {
        self.read.max(self.write).max(self.large).max(self.new)
    }
}

impl Bystander {
    pub(super) fn start(door: &Door) -> Self {
        let (stop, rounds) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (door, told, counted) = (door.clone(), Arc::clone(&stop), Arc::clone(&rounds));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(stand_by(&door, &told, &counted))
        });
        Self { stop, rounds, thread }
    }

    /// Returns when it has been served so many times more: for attacks that consist of waiting.
    pub(super) async fn rounds(&self, more: usize) {
        let end = self.rounds.load(Ordering::Relaxed) + more;
        let began = Instant::now();
        while self.rounds.load(Ordering::Relaxed) < end && began.elapsed() < PATIENCE {
            tokio::time::sleep(PAUSE).await;
        }
    }

    pub(super) fn finish(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("it does not panic")
    }
}

/// One request, timed and counted. On a broken line there is another one next time.
async fn timed(
    seen: &mut Seen,
    what: &str,
    longest: fn(&mut Seen) -> &mut Duration,
    asked: impl Future<Output = io::Result<(u16, Bytes)>>,
) -> bool {
    let began = Instant::now();
    let outcome = tokio::time::timeout(PATIENCE, asked).await;
    let took = began.elapsed();
    let longest = longest(seen);
    *longest = took.max(*longest);
    match outcome {
        Ok(Ok((200..=299, _))) => {
            seen.answered += 1;
            return true;
        }
        Ok(Ok((code, text))) => seen
            .failed
            .push(format!("{what}: {code} {}", String::from_utf8_lossy(&text))),
        Ok(Err(error)) => seen.failed.push(format!("{what} after {took:?}: {error}")),
        Err(_) => seen.failed.push(format!("{what}: nothing came")),
    }
    false
}

async fn stand_by(door: &Door, stop: &AtomicBool, rounds: &AtomicUsize) -> Seen {
    let mut seen = Seen::default();
    let patch = |text: &str| Bytes::from(json!({"data": {"text": text}}).to_string());
    let (small, large) = (patch("small"), patch(&"x".repeat(LARGE)));
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "bystander"}});
    let maps = MAP.rsplit_once('/').expect("a name").0;
    let _ = door
        .ask("POST", maps, "application/json", &Bytes::from(map.to_string()))
        .await;
    let merge = "application/merge-patch+json";
    let mut line: Option<Line> = None;
    while !stop.load(Ordering::Relaxed) {
        let mut whole = true;
        if line.is_none() {
            line = door
                .line()
                .await
                .map_err(|error| seen.failed.push(format!("a connection: {error}")))
                .ok();
        }
        if let Some(line) = &mut line {
            whole &= timed(
                &mut seen,
                "get",
                |seen| &mut seen.read,
                line.ask("GET", MAP, "", &Bytes::new()),
            )
            .await;
            whole &= timed(
                &mut seen,
                "patch",
                |seen| &mut seen.write,
                line.ask("PATCH", MAP, merge, &small),
            )
            .await;
            whole &= timed(
                &mut seen,
                "large patch",
                |seen| &mut seen.large,
                line.ask("PATCH", MAP, merge, &large),
            )
            .await;
        }
        if !whole {
            line = None;
        }
        let nothing = Bytes::new();
        let asked = door.ask("GET", "/readyz", "", &nothing);
        timed(&mut seen, "get on a new connection", |seen| &mut seen.new, asked).await;
        rounds.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(PAUSE).await;
    }
    seen
}
