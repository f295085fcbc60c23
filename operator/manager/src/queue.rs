//! A work queue: each key at most once, never by two workers at a time, what changed before what is only looked at again,
//! with delays and back-off per key and a limit on failures of all keys together.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::observe::Key;

/// First pause after a failure; doubled with each further one.
const BACKOFF_MIN: Duration = Duration::from_millis(20);
/// Longest pause.
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// All keys together: after [`BURST`] failures at once, one more in this time, as in client-go.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// Failures that are tried again without regard to each other.
const BURST: u32 = 100;

/// How soon a key is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Urgency {
    /// After everything that changed: it was listed (anew), and most likely nothing is to be done.
    Calm,
    /// Something changed.
    Now,
}

/// The queue. Its size is bounded by the number of keys.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Default)]
struct State {
    ready: VecDeque<Key>,
    /// Handled when nothing is ready. May hold keys that have become urgent meanwhile.
    calm: VecDeque<Key>,
    /// In `ready` or `calm`, or to be put there once its worker is done.
    wanted: HashMap<Key, Urgency>,
    running: HashSet<Key>,
    later: BTreeSet<(Instant, Key)>,
    failures: HashMap<Key, u32>,
    /// Not before that time.
    resting: HashMap<Key, Instant>,
    /// When all failures so far would be worked off at one in [`RETRY_INTERVAL`].
    worked_off: Option<Instant>,
}

impl State {
    fn add(&mut self, key: Key, urgency: Urgency) {
        if let Some(until) = self.resting.get(&key).copied() {
            if until > Instant::now() {
                self.later.insert((until, key));
                return;
            }
            self.resting.remove(&key);
        }
        let before = self.wanted.get(&key).copied();
        if before.is_some_and(|before| before >= urgency) {
            return;
        }
        self.wanted.insert(key.clone(), urgency);
        if !self.running.contains(&key) {
            match urgency {
                Urgency::Now => self.ready.push_back(key),
                Urgency::Calm => self.calm.push_back(key),
            }
        }
    }

    fn next(&mut self) -> Option<Key> {
        while let Some(key) = self.ready.pop_front() {
            if self.wanted.get(&key) == Some(&Urgency::Now) {
                return Some(key);
            }
        }
        while let Some(key) = self.calm.pop_front() {
            if self.wanted.get(&key) == Some(&Urgency::Calm) {
                return Some(key);
            }
        }
        None
    }

    /// How long a failure has to wait because there were so many.
    fn crowded(&mut self, now: Instant) -> Duration {
        let free = self.worked_off.map_or(now, |at| at.max(now));
        self.worked_off = Some(free + RETRY_INTERVAL);
        free.duration_since(now).saturating_sub(RETRY_INTERVAL * BURST)
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for the key to be handled.
    pub(crate) fn add(&self, key: Key, urgency: Urgency) {
        self.lock().add(key, urgency);
        self.wake.notify_one();
    }

    /// Keys that wait to be handled now, for the metrics.
    pub(crate) fn len(&self) -> usize {
        self.lock().wanted.len()
    }

    /// The next key; wait for it. Give it back with [`Queue::done`] or [`Queue::retry`].
    pub(crate) async fn take(&self) -> Key {
        loop {
            let notified = self.wake.notified();
            let next = {
                let mut state = self.lock();
                let now = Instant::now();
                while let Some((at, _)) = state.later.first() {
                    if *at > now {
                        break;
                    }
                    if let Some((_, key)) = state.later.pop_first() {
                        state.add(key, Urgency::Now);
                    }
                }
                if let Some(key) = state.next() {
                    state.wanted.remove(&key);
                    state.running.insert(key.clone());
                    // More may be ready than wake-ups are stored.
                    if !(state.ready.is_empty() && state.calm.is_empty()) {
                        self.wake.notify_one();
                    }
                    return key;
                }
                state.later.first().map(|(at, _)| *at)
            };
            match next {
                Some(at) => tokio::select! { () = notified => {}, () = sleep_until(at) => {} },
                None => notified.await,
            }
        }
    }

    /// Handled; once more after `again`, if given, and not before `rest` is over, so that a key whose handling is costly
    /// is not handled once for each of a thousand changes.
    pub(crate) fn done(&self, key: &Key, again: Option<Duration>, rest: Duration) {
        let mut state = self.lock();
        state.failures.remove(key);
        Self::finish(&mut state, key, again, rest);
        drop(state);
        self.wake.notify_one();
    }

    /// Failed; once more after a pause that grows.
    pub(crate) fn retry(&self, key: &Key) {
        let mut state = self.lock();
        let failures = state.failures.entry(key.clone()).or_default();
        let pause = BACKOFF_MIN.saturating_mul(1 << (*failures).min(16)).min(BACKOFF_MAX);
        *failures = failures.saturating_add(1);
        let pause = pause.max(state.crowded(Instant::now()));
        Self::finish(&mut state, key, Some(pause), Duration::ZERO);
        drop(state);
        self.wake.notify_one();
    }

    fn finish(state: &mut State, key: &Key, again: Option<Duration>, rest: Duration) {
        state.running.remove(key);
        state.later.retain(|(_, other)| other != key);
        state.resting.remove(key);
        if !rest.is_zero() {
            state.resting.insert(key.clone(), Instant::now() + rest);
        }
        if let Some(urgency) = state.wanted.remove(key) {
            state.add(key.clone(), urgency);
        }
        // Also if it is wanted at once: what it is to wake up for may not be due then.
        if let Some(pause) = again {
            state.later.insert((Instant::now() + pause, key.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key {
            namespace: "n".into(),
            name: name.into(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_never_with_two_workers() {
        let queue = Queue::default();
        queue.add(key("a"), Urgency::Now);
        queue.add(key("a"), Urgency::Now);
        assert_eq!(queue.take().await, key("a"));
        queue.add(key("a"), Urgency::Now);
        queue.add(key("b"), Urgency::Now);
        assert_eq!(queue.take().await, key("b"), "a is at work");
        queue.done(&key("a"), None, Duration::ZERO);
        assert_eq!(queue.take().await, key("a"), "it was asked for meanwhile");
        queue.done(&key("a"), None, Duration::ZERO);
        queue.done(&key("b"), None, Duration::ZERO);
        assert!(
            tokio::time::timeout(Duration::from_secs(60), queue.take())
                .await
                .is_err()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_changed_goes_first() {
        let queue = Queue::default();
        for name in ["a", "b", "c"] {
            queue.add(key(name), Urgency::Calm);
        }
        queue.add(key("c"), Urgency::Now);
        queue.add(key("c"), Urgency::Calm);
        for name in ["c", "a", "b"] {
            assert_eq!(queue.take().await, key(name));
        }
        assert_eq!(queue.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn many_failures_at_once_are_spread() {
        let queue = Queue::default();
        let keys = || (0..300).map(|number| key(&number.to_string()));
        for key in keys() {
            queue.add(key, Urgency::Now);
            let taken = queue.take().await;
            queue.retry(&taken);
        }
        let start = Instant::now();
        for _ in keys() {
            queue.take().await;
        }
        let seconds = start.elapsed().as_secs();
        assert!(
            (15..=25).contains(&seconds),
            "200 beyond the burst, ten a second: {seconds}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn failures_wait_longer_each_time() {
        let queue = Queue::default();
        queue.add(key("a"), Urgency::Now);
        let mut pauses = Vec::new();
        for _ in 0..4 {
            let start = Instant::now();
            queue.take().await;
            pauses.push(start.elapsed().as_millis());
            queue.retry(&key("a"));
        }
        assert_eq!(pauses[0], 0);
        assert!(pauses.windows(2).all(|pair| pair[0] < pair[1]), "{pauses:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_wake_up_comes_in_time() {
        let queue = Queue::default();
        queue.add(key("a"), Urgency::Now);
        queue.take().await;
        queue.done(&key("a"), Some(Duration::from_secs(5)), Duration::ZERO);
        let start = Instant::now();
        queue.take().await;
        assert_eq!(start.elapsed().as_secs(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn many_changes_while_resting_are_one() {
        let queue = Queue::default();
        queue.add(key("a"), Urgency::Now);
        queue.take().await;
        queue.add(key("a"), Urgency::Now);
        queue.done(&key("a"), None, Duration::from_secs(1));
        queue.add(key("a"), Urgency::Now);
        let start = Instant::now();
        queue.take().await;
        assert_eq!(start.elapsed().as_secs(), 1);
        queue.done(&key("a"), None, Duration::ZERO);
        assert!(
            tokio::time::timeout(Duration::from_secs(60), queue.take())
                .await
                .is_err()
        );
    }
}
