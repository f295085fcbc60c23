//! A work queue: each item at most once, never with two workers at a time, what changed before what is only looked at again,
//! with delays and back-off per item and a limit on failures of all items together. It holds no more than one entry per item,
//! so it needs no other bound.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use afloat_words::key::Key;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::cache::{Cache, Watchable};

/// First pause after a failure; doubled with each further one.
const BACKOFF_MIN: Duration = Duration::from_millis(10);
/// Longest pause.
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// All items together: after [`BURST`] failures at once, one more in this time, as in client-go.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// Failures that are tried again without regard to each other.
const BURST: u32 = 100;

/// How soon an item is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// After everything that changed: it was listed (anew), and most likely nothing is to be done.
    Calm,
    /// Something changed.
    Now,
}

/// What a queue may hold.
pub trait Item: Clone + Ord + Hash + Send + 'static {}

impl<T: Clone + Ord + Hash + Send + 'static> Item for T {}

/// An item that was worked on, and what came of it: when to look at it again without being asked.
type Worked<T, E> = (T, Result<Option<Duration>, E>);

/// The queue of one loop.
pub struct Queue<T = Key> {
    state: Mutex<State<T>>,
    wake: Notify,
}

struct State<T> {
    ready: VecDeque<T>,
    /// Handled when nothing is ready. May hold items that have become urgent meanwhile.
    calm: VecDeque<T>,
    /// In `ready` or `calm`, or to be put there once its worker is done.
    wanted: HashMap<T, Urgency>,
    running: HashSet<T>,
    /// To be handled at that time: the earliest that was asked for.
    later: BTreeSet<(Instant, T)>,
    due: HashMap<T, Instant>,
    failures: HashMap<T, u32>,
    /// Not before that time.
    resting: HashMap<T, Instant>,
    /// When all failures so far would be worked off at one in [`RETRY_INTERVAL`].
    worked_off: Option<Instant>,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        let state = State {
            ready: VecDeque::new(),
            calm: VecDeque::new(),
            wanted: HashMap::new(),
            running: HashSet::new(),
            later: BTreeSet::new(),
            due: HashMap::new(),
            failures: HashMap::new(),
            resting: HashMap::new(),
            worked_off: None,
        };
        Self {
            state: Mutex::new(state),
            wake: Notify::new(),
        }
    }
}

impl<T: Item> State<T> {
    fn add(&mut self, item: T, urgency: Urgency, now: Instant) {
        if let Some(until) = self.resting.get(&item).copied() {
            if until > now {
                self.add_at(item, until);
                return;
            }
            self.resting.remove(&item);
        }
        let before = self.wanted.get(&item).copied();
        if before.is_some_and(|before| before >= urgency) {
            return;
        }
        self.wanted.insert(item.clone(), urgency);
        if !self.running.contains(&item) {
            match urgency {
                Urgency::Now => self.ready.push_back(item),
                Urgency::Calm => self.calm.push_back(item),
            }
        }
    }

    fn add_at(&mut self, item: T, at: Instant) {
        if let Some(before) = self.due.get(&item).copied() {
            if before <= at {
                return;
            }
            self.later.remove(&(before, item.clone()));
        }
        self.due.insert(item.clone(), at);
        self.later.insert((at, item));
    }

    fn forget_due(&mut self, item: &T) {
        if let Some(at) = self.due.remove(item) {
            self.later.remove(&(at, item.clone()));
        }
    }

    /// Moves what is due by now to what is to be handled.
    fn promote(&mut self, now: Instant) {
        while self.later.first().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, item)) = self.later.pop_first() {
                self.due.remove(&item);
                self.add(item, Urgency::Now, now);
            }
        }
    }

    fn next(&mut self) -> Option<T> {
        while let Some(item) = self.ready.pop_front() {
            if self.wanted.get(&item) == Some(&Urgency::Now) {
                return Some(item);
            }
        }
        while let Some(item) = self.calm.pop_front() {
            if self.wanted.get(&item) == Some(&Urgency::Calm) {
                return Some(item);
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

    fn finish(&mut self, item: &T, again: Option<Duration>, rest: Duration, now: Instant) {
        self.running.remove(item);
        self.resting.remove(item);
        self.resting.retain(|_, until| *until > now);
        if !rest.is_zero() {
            self.resting.insert(item.clone(), now + rest);
        }
        if let Some(urgency) = self.wanted.remove(item) {
            self.add(item.clone(), urgency, now);
        }
        // Also if it is wanted at once: what it is to wake up for may not be due then.
        if let Some(pause) = again {
            self.add_at(item.clone(), now + pause);
        }
    }
}

impl<T: Item> Queue<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for the item to be handled.
    pub fn add(&self, item: T, urgency: Urgency) {
        self.lock().add(item, urgency, Instant::now());
        self.wake.notify_one();
    }

    /// Items that wait to be handled now, for the metrics.
    pub fn waiting(&self) -> usize {
        self.lock().wanted.len()
    }

    /// The next item; waits for it. Give it back with [`Queue::done`] or [`Queue::retry`].
    pub async fn take(&self) -> T {
        loop {
            let notified = self.wake.notified();
            let next = {
                let mut state = self.lock();
                state.promote(Instant::now());
                if let Some(item) = state.next() {
                    state.wanted.remove(&item);
                    state.running.insert(item.clone());
                    // Whoever handles it looks at everything: it need not wake up for what was to come, but says so anew.
                    state.forget_due(&item);
                    // More may be ready than wake-ups are stored.
                    if !(state.ready.is_empty() && state.calm.is_empty()) {
                        self.wake.notify_one();
                    }
                    return item;
                }
                state.later.first().map(|(at, _)| *at)
            };
            match next {
                Some(at) => tokio::select! { () = notified => {}, () = sleep_until(at) => {} },
                None => notified.await,
            }
        }
    }

    /// Handled; once more after `again`, if given, and not before `rest` is over, so that an item whose handling is costly
    /// is not handled once for each of a thousand changes.
    pub fn done(&self, item: &T, again: Option<Duration>, rest: Duration) {
        let mut state = self.lock();
        state.failures.remove(item);
        state.finish(item, again, rest, Instant::now());
        drop(state);
        self.wake.notify_one();
    }

    /// Failed; once more after a pause that grows.
    pub fn retry(&self, item: &T) {
        let now = Instant::now();
        let mut state = self.lock();
        let failures = state.failures.entry(item.clone()).or_default();
        let pause = BACKOFF_MIN.saturating_mul(1 << (*failures).min(16)).min(BACKOFF_MAX);
        *failures = failures.saturating_add(1);
        let pause = pause.max(state.crowded(now));
        state.finish(item, Some(pause), Duration::ZERO, now);
        drop(state);
        self.wake.notify_one();
    }

    /// Asks, for every change in `cache`, for the items that `items` names. Ends with the queue.
    pub fn follow<K, N>(self: &Arc<Self>, cache: &Cache<K>, items: impl Fn(&K::Kept) -> N + Send + Sync + 'static)
    where
        K: Watchable,
        N: IntoIterator<Item = T>,
    {
        self.follow_news(cache, items, |_, _| false, |_| false);
    }

    /// The same, but not for changes that say nothing new (`same`), as to an object of which little is kept many do not. An item
    /// that is at work is asked for all the same, and so is one that `waits`: for the sight of its own writes, which any change may
    /// bring.
    pub fn follow_news<K, N>(
        self: &Arc<Self>,
        cache: &Cache<K>,
        items: impl Fn(&K::Kept) -> N + Send + Sync + 'static,
        same: impl Fn(&K::Kept, &K::Kept) -> bool + Send + Sync + 'static,
        waits: impl Fn(&T) -> bool + Send + Sync + 'static,
    ) where
        K: Watchable,
        N: IntoIterator<Item = T>,
    {
        let queue = Arc::downgrade(self);
        cache.subscribe(move |change| {
            let Some(queue) = queue.upgrade() else { return false };
            let urgency = if change.calm { Urgency::Calm } else { Urgency::Now };
            let old = change
                .old
                .as_ref()
                .zip(change.new.as_ref())
                .is_some_and(|(old, new)| same(old, new));
            for item in change.each().flat_map(&items) {
                if !old || queue.lock().running.contains(&item) || waits(&item) {
                    queue.add(item, urgency);
                }
            }
            true
        });
    }

    /// Works off items, `width` at a time, until `shutdown`, which drops what is at work. `work` says when to look at the
    /// item again without being asked, or that it failed; `failed` is told why, and the item comes again after a pause.
    pub async fn work_off<F, Fut, E>(
        &self,
        width: usize,
        shutdown: &CancellationToken,
        work: F,
        failed: impl Fn(&T, E) + Sync,
    ) where
        F: Fn(T) -> Fut + Sync,
        Fut: Future<Output = Result<Option<Duration>, E>> + Send,
    {
        let boxed = |item: T| {
            let future = work(item.clone());
            async move { (item, future.await) }.boxed()
        };
        self.work_off_any(width, shutdown, &boxed, &failed).await;
    }

    /// The same for work of every kind, so that it is compiled once and not for each loop.
    async fn work_off_any<'w, E>(
        &self,
        width: usize,
        shutdown: &CancellationToken,
        work: &(dyn Fn(T) -> BoxFuture<'w, Worked<T, E>> + Sync),
        failed: &(dyn Fn(&T, E) + Sync),
    ) {
        let mut active = FuturesUnordered::new();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                item = self.take(), if active.len() < width => active.push(work(item)),
                Some((item, result)) = active.next(), if !active.is_empty() => match result {
                    Ok(again) => self.done(&item, again, Duration::ZERO),
                    Err(error) => {
                        failed(&item, error);
                        self.retry(&item);
                    }
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::runtime::watcher;

    use super::*;
    use crate::kind::Kind;

    fn key(name: &str) -> Key {
        Key::new("n", name)
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
        assert_eq!(queue.waiting(), 0);
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

    #[tokio::test(start_paused = true)]
    async fn what_fails_is_worked_off_again_until_it_succeeds() {
        let queue = Queue::default();
        queue.add(key("x"), Urgency::Now);
        let (tries, told) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let shutdown = CancellationToken::new();
        let work = |_| async {
            if tries.fetch_add(1, Ordering::SeqCst) < 4 {
                Err("not yet")
            } else {
                shutdown.cancel();
                Ok(None)
            }
        };
        let failed = |_: &Key, _| {
            told.fetch_add(1, Ordering::SeqCst);
        };
        queue.work_off(2, &shutdown, work, failed).await;
        assert_eq!((tries.into_inner(), told.into_inner()), (5, 4));
    }

    #[tokio::test(start_paused = true)]
    async fn the_earliest_wake_up_counts_and_a_round_forgets_it() {
        let queue = Queue::default();
        queue.add(key("a"), Urgency::Now);
        queue.take().await;
        queue.done(&key("a"), Some(Duration::from_secs(5)), Duration::ZERO);
        queue.add(key("a"), Urgency::Now);
        queue.take().await;
        queue.done(&key("a"), None, Duration::ZERO);
        let limit = Duration::from_secs(60);
        assert!(tokio::time::timeout(limit, queue.take()).await.is_err());
    }

    /// Stands for ConfigMaps.
    struct Maps;

    impl Kind for Maps {
        type Wire = ConfigMap;
        type Kept = ConfigMap;
        type Index = ();
        fn keep(wire: ConfigMap) -> ConfigMap {
            wire
        }
        fn key(object: &ConfigMap) -> Key {
            Key::of(&object.metadata)
        }
        fn uid(object: &ConfigMap) -> &str {
            object.metadata.uid.as_deref().unwrap_or_default()
        }
        fn deleting(_: &ConfigMap) -> bool {
            false
        }
        fn indexes(_: &ConfigMap) -> Vec<()> {
            vec![()]
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_says_nothing_new_is_no_reason_unless_somebody_waits_or_is_at_work() {
        let (cache, queue) = (Cache::<Maps>::new(), Arc::new(Queue::default()));
        let waits = Arc::new(AtomicUsize::new(0));
        let waiting = waits.clone();
        queue.follow_news(
            &cache,
            |map| [Key::of(&map.metadata)],
            |old, new| old.data == new.data,
            move |_| waiting.load(Ordering::SeqCst) > 0,
        );
        let change = |version: u32, text: &str| {
            let mut map = ConfigMap::default();
            (map.metadata.namespace, map.metadata.name) = (Some("n".into()), Some("a".into()));
            map.metadata.resource_version = Some(version.to_string());
            map.data = Some([("x".to_owned(), text.to_owned())].into());
            cache.take(watcher::Event::Apply(map));
            queue.waiting()
        };
        assert_eq!(change(1, "new"), 1);
        queue.take().await;
        queue.done(&Key::new("n", "a"), None, Duration::ZERO);
        assert_eq!(change(2, "new"), 0, "nothing new");
        assert_eq!(change(3, "other"), 1);
        queue.take().await;
        assert_eq!(change(4, "other"), 1, "who is at work may have looked before");
        queue.done(&Key::new("n", "a"), None, Duration::ZERO);
        queue.take().await;
        queue.done(&Key::new("n", "a"), None, Duration::ZERO);
        waits.store(1, Ordering::SeqCst);
        assert_eq!(change(5, "other"), 1, "it may be what is waited for");
    }
}
