//! Open connections: so many at most, of which the one that has been idle longest makes room for a new one; and none is idle for ever.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// Open connections at most.
const LIMIT: usize = 2560;
/// Fewest that are allowed, however few descriptors the process may have.
const LEAST: usize = 16;
/// Of the process's descriptors connections take this part at most: pods, volumes and images need some, too.
const SHARE: usize = 4;
/// How long a connection may have no request. Kubernetes' idle time-out is 90 s, as is that of the clients in Go and of ours: whoever is
/// later loses a request that is sent at that moment, so that it must be the client.
pub(crate) const IDLE_LIMIT: Duration = Duration::from_secs(120);
/// How long one may take to its first request. Kubernetes' `ReadHeaderTimeout`.
const FIRST_LIMIT: Duration = Duration::from_secs(32);

/// All open connections of a server.
pub(crate) struct Connections {
    open: Mutex<BTreeMap<u64, Arc<Open>>>,
    /// Counts connections, and beginnings and ends of requests.
    next: AtomicU64,
    limit: usize,
    began: Instant,
}

/// One of them.
struct Open {
    requests: AtomicUsize,
    /// Of two the larger is of the one whose last request began or ended later.
    order: AtomicU64,
    /// When its last request began or ended, in milliseconds since the server's beginning.
    active: AtomicU64,
    /// Whether it has had a request.
    used: AtomicBool,
    close: CancellationToken,
}

/// A connection's place, until it is dropped.
pub(crate) struct Place {
    connections: Arc<Connections>,
    number: u64,
    open: Arc<Open>,
}

/// A request that is being answered, until it is dropped.
pub(crate) struct Busy {
    connections: Arc<Connections>,
    open: Arc<Open>,
}

impl Connections {
    /// For a process that may have so many descriptors.
    pub(crate) fn new(descriptors: usize) -> Self {
        Self {
            open: Mutex::default(),
            next: AtomicU64::new(0),
            limit: (descriptors / SHARE).clamp(LEAST, LIMIT),
            began: Instant::now(),
        }
    }

    /// A new connection. If there are too many, the one that has been idle longest is closed for it; if none is idle, the one whose
    /// last request is oldest: a watch, most likely, which its client opens again.
    pub(crate) fn enter(self: &Arc<Self>) -> Place {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let open = Arc::new(Open {
            requests: AtomicUsize::new(0),
            order: AtomicU64::new(number),
            active: AtomicU64::new(millis(self.began)),
            used: AtomicBool::new(false),
            close: CancellationToken::new(),
        });
        let mut all = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= self.limit {
            close_oldest(&mut all, true);
        }
        all.insert(number, Arc::clone(&open));
        Place {
            connections: Arc::clone(self),
            number,
            open,
        }
    }

    /// The process is short of descriptors: the one that has been idle longest gives its own back.
    pub(crate) fn relieve(&self) {
        let mut all = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        close_oldest(&mut all, false);
    }

    /// Something begins or ends on a connection.
    fn touch(&self, open: &Open) {
        open.order
            .store(self.next.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        open.active.store(millis(self.began), Ordering::Relaxed);
    }
}

/// Closes the one that has been idle longest; if none is, and `busy` ones may be closed, too, the one whose last request is oldest.
fn close_oldest(all: &mut BTreeMap<u64, Arc<Open>>, busy: bool) {
    let age = |open: &Open| {
        (
            open.requests.load(Ordering::Relaxed) > 0,
            open.order.load(Ordering::Relaxed),
        )
    };
    let oldest = all.iter().map(|(number, open)| (age(open), *number)).min();
    let oldest = oldest.filter(|((is_busy, _), _)| busy || !is_busy);
    if let Some(closed) = oldest.and_then(|(_, number)| all.remove(&number)) {
        closed.close.cancel();
    }
}

impl Place {
    /// Must be closed at once: another one takes its place.
    pub(crate) fn taken(&self) -> CancellationToken {
        self.open.close.clone()
    }

    /// Returns when it has had no request for too long.
    pub(crate) async fn idle(&self) {
        loop {
            let busy = self.open.requests.load(Ordering::Relaxed) > 0;
            let since = Duration::from_millis(self.open.active.load(Ordering::Relaxed));
            let from = if busy {
                Instant::now()
            } else {
                self.connections.began + since
            };
            let limit = if self.open.used.load(Ordering::Relaxed) {
                IDLE_LIMIT
            } else {
                FIRST_LIMIT
            };
            let end = from + limit;
            if end <= Instant::now() {
                return;
            }
            sleep_until(end).await;
        }
    }

    /// A request has come.
    pub(crate) fn busy(&self) -> Busy {
        self.open.requests.fetch_add(1, Ordering::Relaxed);
        self.open.used.store(true, Ordering::Relaxed);
        self.connections.touch(&self.open);
        Busy {
            connections: Arc::clone(&self.connections),
            open: Arc::clone(&self.open),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.connections.open.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(&self.number);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.connections.touch(&self.open);
        self.open.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

fn millis(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_that_is_idle_longest_makes_room() {
        let connections = Arc::new(Connections::new(0));
        let places: Vec<Place> = (0..LEAST).map(|_| connections.enter()).collect();
        let busy = places[0].busy();
        drop(places[1].busy());
        let others = [connections.enter(), connections.enter()];
        let closed =
            |places: &[Place]| -> Vec<bool> { places.iter().map(|place| place.taken().is_cancelled()).collect() };
        assert_eq!(closed(&places[..5]), [false, false, true, true, false]);
        assert_eq!(closed(&others), [false, false]);
        connections.relieve();
        assert_eq!(closed(&places[..6]), [false, false, true, true, true, false]);
        let _all: Vec<Busy> = places.iter().chain(&others).map(Place::busy).collect();
        connections.relieve();
        assert_eq!(closed(&places[5..]), [false; LEAST - 5], "busy ones stay");
        drop(busy);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_one_goes_before_one_that_rests() {
        let connections = Arc::new(Connections::new(0));
        let began = Instant::now();
        let (silent, rests, works) = (connections.enter(), connections.enter(), connections.enter());
        drop(rests.busy());
        let busy = works.busy();
        silent.idle().await;
        assert_eq!(began.elapsed().as_secs(), 32);
        rests.idle().await;
        assert_eq!(began.elapsed().as_secs(), 120);
        let long = tokio::time::timeout(IDLE_LIMIT * 10, works.idle()).await;
        assert!(long.is_err(), "it is not idle");
        drop(busy);
    }
}
