//! A work queue of object keys: each key at most once, never worked on twice at a time, with back-off per key.
//! It holds no more than one entry per object, so it needs no other bound.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::loops::cache::Cache;
use crate::objects::{Key, Kind, Pod, controller_of};

/// First and last delay after a failure; it doubles in between.
const BACKOFF_FIRST: Duration = Duration::from_millis(10);
const BACKOFF_LAST: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Inner {
    ready: VecDeque<Key>,
    /// Keys in `ready`, or due again once the work in hand is done.
    queued: HashSet<Key>,
    active: HashSet<Key>,
    later: BTreeSet<(Instant, Key)>,
    due: HashMap<Key, Instant>,
    failures: HashMap<Key, u32>,
}

/// The queue of one loop.
#[derive(Default)]
pub(crate) struct Queue {
    inner: Mutex<Inner>,
    wake: Notify,
}

impl Inner {
    fn add(&mut self, key: Key) -> bool {
        if !self.queued.insert(key.clone()) {
            return false;
        }
        if self.active.contains(&key) {
            return false;
        }
        self.ready.push_back(key);
        true
    }

    fn add_at(&mut self, key: Key, at: Instant) {
        if let Some(before) = self.due.get(&key).copied() {
            if before <= at {
                return;
            }
            self.later.remove(&(before, key.clone()));
        }
        self.due.insert(key.clone(), at);
        self.later.insert((at, key));
    }

    fn promote(&mut self, now: Instant) {
        while let Some((at, _)) = self.later.first() {
            if *at > now {
                break;
            }
            if let Some((_, key)) = self.later.pop_first() {
                self.due.remove(&key);
                self.add(key);
            }
        }
    }
}

impl Queue {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a key, unless it waits already.
    pub(crate) fn add(&self, key: Key) {
        if self.lock().add(key) {
            self.wake.notify_one();
        }
    }

    /// Enqueues, for every change in `cache`, the keys that `keys` names. Ends with the queue.
    pub(crate) fn follow<K, I>(self: &Arc<Self>, cache: &Cache<K>, keys: impl Fn(&K) -> I + Send + Sync + 'static)
    where
        K: Kind,
        I: IntoIterator<Item = Key>,
    {
        let queue = Arc::downgrade(self);
        cache.subscribe(move |change| {
            let Some(queue) = queue.upgrade() else { return false };
            for object in change.each() {
                for key in keys(object) {
                    queue.add(key);
                }
            }
            true
        });
    }

    /// Enqueues the owner of every pod that changes, where a `K` controls it.
    pub(crate) fn follow_pods_of<K: Kind>(self: &Arc<Self>, pods: &Cache<Pod>) {
        self.follow(pods, move |pod| {
            let owner = controller_of(&pod.metadata).filter(|owner| owner.kind == K::kind(&()))?;
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            Some(Key::new(namespace, &owner.name))
        });
    }

    /// The next key. Give it back with [`Self::done`].
    async fn next(&self) -> Key {
        loop {
            let until = {
                let mut inner = self.lock();
                inner.promote(Instant::now());
                if let Some(key) = inner.ready.pop_front() {
                    inner.queued.remove(&key);
                    inner.active.insert(key.clone());
                    return key;
                }
                inner.later.first().map(|(at, _)| *at)
            };
            let woken = self.wake.notified();
            match until {
                Some(at) => {
                    let _ = tokio::time::timeout_at(at, woken).await;
                }
                None => woken.await,
            }
        }
    }

    fn done(&self, key: Key, failed: bool, again: Option<Duration>) {
        let mut inner = self.lock();
        inner.active.remove(&key);
        if failed {
            let count = inner.failures.entry(key.clone()).or_default();
            *count = count.saturating_add(1);
            let delay = BACKOFF_FIRST
                .saturating_mul(1_u32 << (*count - 1).min(16))
                .min(BACKOFF_LAST);
            inner.add_at(key.clone(), Instant::now() + delay);
        } else {
            inner.failures.remove(&key);
        }
        if let Some(delay) = again {
            inner.add_at(key.clone(), Instant::now() + delay);
        }
        // Asked for while it was worked on.
        if inner.queued.contains(&key) {
            inner.ready.push_back(key);
        }
        drop(inner);
        self.wake.notify_one();
    }

    /// Works off keys, `width` at a time, until shutdown. `work` says when to look at the key again without being asked.
    pub(crate) async fn run<F, Fut>(&self, name: &str, width: usize, shutdown: &CancellationToken, work: F)
    where
        F: Fn(Key) -> Fut,
        Fut: Future<Output = Result<Option<Duration>, Error>>,
    {
        let mut active = FuturesUnordered::new();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                key = self.next(), if active.len() < width => {
                    let future = work(key.clone());
                    active.push(async move { (key, future.await) });
                }
                Some((key, result)) = active.next(), if !active.is_empty() => match result {
                    Ok(again) => self.done(key, false, again),
                    Err(error) => {
                        if error.is_conflict() {
                            tracing::debug!(controller = name, ?key, error = error.told(), "decided on an older state, will decide again");
                        } else {
                            tracing::warn!(controller = name, ?key, error = error.told(), "will try again");
                        }
                        self.done(key, true, None);
                    }
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn a_key_is_worked_once_and_again_if_asked_meanwhile() {
        let queue = Queue::new();
        let key = Key::new("a", "b");
        queue.add(key.clone());
        queue.add(key.clone());
        assert_eq!(queue.next().await, key);
        queue.add(key.clone());
        assert!(
            tokio::time::timeout(Duration::from_millis(1), queue.next())
                .await
                .is_err()
        );
        queue.done(key.clone(), false, None);
        assert_eq!(queue.next().await, key);
        queue.done(key.clone(), false, None);
        assert!(
            tokio::time::timeout(Duration::from_millis(20), queue.next())
                .await
                .is_err()
        );
    }

    #[tokio::test]
    async fn failures_back_off_and_end() {
        let queue = Queue::new();
        queue.add(Key::new("", "x"));
        let tries = AtomicUsize::new(0);
        let shutdown = CancellationToken::new();
        let run = queue.run("test", 2, &shutdown, |_| async {
            if tries.fetch_add(1, Ordering::SeqCst) < 4 {
                Err(Error::Stale("x"))
            } else {
                Ok(None)
            }
        });
        let _ = tokio::time::timeout(Duration::from_millis(600), run).await;
        assert_eq!(tries.load(Ordering::SeqCst), 5);
        assert!(queue.lock().failures.is_empty());
    }
}
