//! Which endpoint the next connection goes to, and what became of those before.
//!
//! Choosing and counting happen under one lock, and so does the replacement of the endpoints: once
//! [`Backend::replace`] has returned, every connection that was ever given to an endpoint which left is in its count.
//! That is what makes "no proxy sends there any more and nothing is open" a fact and not a hope.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddrV4};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// Clients remembered for session affinity, per route; beyond that the oldest are forgotten.
const STICKY_MAX: usize = 16_384;

/// What happened at one endpoint of one Service port. All but `open` only grow.
#[derive(Debug)]
pub(crate) struct Counters {
    pub(crate) address: SocketAddrV4,
    pub(crate) opened: AtomicU64,
    pub(crate) open: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) reset: AtomicU64,
    pub(crate) timed_out: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) bytes_to_endpoint: AtomicU64,
    pub(crate) bytes_from_endpoint: AtomicU64,
    /// Told of every loss.
    news: watch::Sender<u64>,
}

impl Counters {
    pub(crate) fn new(address: SocketAddrV4, news: watch::Sender<u64>) -> Counters {
        let zero = AtomicU64::default;
        Counters {
            address,
            opened: zero(),
            open: zero(),
            refused: zero(),
            reset: zero(),
            timed_out: zero(),
            failed: zero(),
            bytes_to_endpoint: zero(),
            bytes_from_endpoint: zero(),
            news,
        }
    }
}

pub(crate) fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

impl Counters {
    /// Counts a connection that was lost, by what the kernel says about it.
    pub(crate) fn lost(&self, error: &io::Error) {
        let counter = match error.kind() {
            ErrorKind::TimedOut => &self.timed_out,
            // Also when it comes so early that it looks like a failed connect.
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted => &self.reset,
            ErrorKind::ConnectionRefused | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => &self.refused,
            _ => &self.failed,
        };
        add(counter, 1);
        self.news.send_modify(|count| *count += 1);
    }
}

/// One connection given to an endpoint; it counts as open until this is dropped.
#[derive(Debug)]
pub(crate) struct Lease(Arc<Counters>);

impl Lease {
    fn new(counters: &Arc<Counters>) -> Lease {
        counters.open.fetch_add(1, Ordering::SeqCst);
        Lease(counters.clone())
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.0
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The endpoints of one open frontend.
#[derive(Debug, Default)]
pub(crate) struct Backend {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    endpoints: Vec<Arc<Counters>>,
    next: usize,
    affinity: Option<Duration>,
    sticky: HashMap<IpAddr, (SocketAddrV4, Instant)>,
}

impl Backend {
    /// Round robin starts anywhere, lest all nodes send their first connections to the same endpoint.
    pub(crate) fn new() -> Backend {
        let backend = Backend::default();
        backend.lock().next = usize::from(rand::random::<u16>());
        backend
    }

    /// From now on, these and no others.
    pub(crate) fn replace(&self, endpoints: Vec<Arc<Counters>>, affinity: Option<Duration>) {
        let mut state = self.lock();
        state.endpoints = endpoints;
        state.affinity = affinity;
        if affinity.is_none() {
            state.sticky = HashMap::new();
        }
    }

    /// The endpoint for a new connection of this client; None where there is none.
    pub(crate) fn pick(&self, client: IpAddr, now: Instant) -> Option<Lease> {
        let mut state = self.lock();
        let state = &mut *state;
        let Some(timeout) = state.affinity else {
            return state.rotate().map(|found| Lease::new(&found));
        };
        let known = state
            .sticky
            .get(&client)
            .filter(|(_, used)| now.duration_since(*used) < timeout);
        let kept = known.and_then(|(address, _)| state.endpoints.iter().find(|e| e.address == *address).cloned());
        let found = match kept {
            Some(found) => found,
            None => state.rotate()?,
        };
        state.remember(client, found.address, now, timeout);
        Some(Lease::new(&found))
    }

    /// Whether new connections may go to this address.
    pub(crate) fn has(&self, address: SocketAddrV4) -> bool {
        self.lock().endpoints.iter().any(|e| e.address == address)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn rotate(&mut self) -> Option<Arc<Counters>> {
        self.next = self.next.wrapping_add(1);
        let index = self.next.checked_rem(self.endpoints.len())?;
        self.endpoints.get(index).cloned()
    }

    fn remember(&mut self, client: IpAddr, address: SocketAddrV4, now: Instant, timeout: Duration) {
        if self.sticky.len() >= STICKY_MAX && !self.sticky.contains_key(&client) {
            self.sticky.retain(|_, (_, used)| now.duration_since(*used) < timeout);
            if self.sticky.len() >= STICKY_MAX {
                let mut ages: Vec<Instant> = self.sticky.values().map(|(_, used)| *used).collect();
                let middle = ages.len() / 2;
                let (_, median, _) = ages.select_nth_unstable(middle);
                let median = *median;
                self.sticky.retain(|_, (_, used)| *used > median);
            }
        }
        self.sticky.insert(client, (address, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend(ports: &[u16], affinity: Option<Duration>) -> (Backend, Vec<Arc<Counters>>) {
        let endpoints: Vec<_> = ports
            .iter()
            .map(|port| {
                Arc::new(Counters::new(
                    SocketAddrV4::new([10, 244, 0, 2].into(), *port),
                    watch::Sender::new(0),
                ))
            })
            .collect();
        let backend = Backend::new();
        backend.replace(endpoints.clone(), affinity);
        (backend, endpoints)
    }

    fn client(last: u8) -> IpAddr {
        IpAddr::from([10, 244, 0, last])
    }

    #[test]
    fn connections_are_spread_evenly_and_counted_until_dropped() {
        let (backend, endpoints) = backend(&[1, 2, 3], None);
        let leases: Vec<_> = (0..9).map(|_| backend.pick(client(9), Instant::now())).collect();
        assert!(leases.iter().all(Option::is_some));
        let open = || {
            endpoints
                .iter()
                .map(|e| e.open.load(Ordering::SeqCst))
                .collect::<Vec<_>>()
        };
        assert_eq!(open(), [3, 3, 3]);
        drop(leases);
        assert_eq!(open(), [0, 0, 0]);
    }

    #[test]
    fn without_endpoints_there_is_nothing_to_pick() {
        assert!(Backend::new().pick(client(1), Instant::now()).is_none());
    }

    #[test]
    fn a_client_stays_with_its_endpoint_until_the_timeout_or_the_endpoint_leaves() {
        let (backend, endpoints) = backend(&[1, 2], Some(Duration::from_secs(10)));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let pick = |now| {
            backend
                .pick(client(1), now)
                .map(|lease| lease.counters().address.port())
        };
        let first = pick(start);
        assert_eq!([pick(at(5)), pick(at(14))], [first, first], "each connection renews it");
        assert_ne!(pick(at(30)), first, "forgotten, so the next in turn");
        let stuck = pick(at(31));
        let others: Vec<_> = endpoints
            .into_iter()
            .filter(|e| Some(e.address.port()) != stuck)
            .collect();
        backend.replace(others, Some(Duration::from_secs(10)));
        assert_ne!(pick(at(32)), stuck);
    }

    #[test]
    fn memory_for_affinity_is_bounded() {
        let (backend, _) = backend(&[1, 2], Some(Duration::from_secs(10)));
        let start = Instant::now();
        for i in 0..(STICKY_MAX as u32 + 10) {
            let client = IpAddr::V4((0x0a00_0000 + i).into());
            let _ = backend.pick(client, start + Duration::from_micros(i.into()));
        }
        assert!(backend.lock().sticky.len() <= STICKY_MAX);
    }
}
