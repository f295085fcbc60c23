//! Watchers: who waits for which keys, and the stream that each reads.
//!
//! The writer only tells a watcher from which revision on there is something for it, and wakes it; the watcher fetches the
//! changes from the shared history itself. So a slow watcher costs the writer nothing, and one for which nothing happens is
//! neither woken nor ever too slow.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures::Stream;
use futures::task::AtomicWaker;

use crate::disk::Row;
use crate::store::Shared;
use crate::{Change, Error, Revision};

/// How many changes a watcher takes out of the history at once: bounds the time that it keeps the writer waiting.
const FETCH: usize = 64;

/// The writer's end of a watch.
#[derive(Debug, Default)]
struct Slot {
    /// The oldest revision that concerns this watcher and that it has not looked for yet; 0 if there is none.
    pending: AtomicU64,
    waker: AtomicWaker,
}

/// All watchers by prefix; many have the same one.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    by_prefix: Mutex<BTreeMap<Arc<str>, Vec<Arc<Slot>>>>,
}

impl Watchers {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Vec<Arc<Slot>>>> {
        self.by_prefix.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks the watches that one of the rows concerns, and gives those to be woken. The rows must be in the history already.
    pub(crate) fn mark(&self, rows: &[Row]) -> Vec<Waker> {
        let mut wakers = Vec::new();
        for (prefix, slots) in self.lock().iter() {
            let concerned = rows
                .iter()
                .map(|row| &row.change)
                .find(|change| change.key.starts_with(&**prefix));
            let Some(first) = concerned else { continue };
            for slot in slots {
                // If an older one is still pending it stays: the watcher reads on from there.
                let _ = slot
                    .pending
                    .compare_exchange(0, first.revision, Ordering::AcqRel, Ordering::Acquire);
                wakers.extend(slot.waker.take());
            }
        }
        wakers
    }

    /// Wakes everybody, so that they see the store's end.
    pub(crate) fn wake_all(&self) {
        let wakers: Vec<Waker> = self
            .lock()
            .values()
            .flatten()
            .filter_map(|slot| slot.waker.take())
            .collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    fn add(&self, prefix: &Arc<str>) -> Arc<Slot> {
        let slot = Arc::new(Slot::default());
        self.lock()
            .entry(Arc::clone(prefix))
            .or_default()
            .push(Arc::clone(&slot));
        slot
    }

    fn remove(&self, prefix: &Arc<str>, slot: &Arc<Slot>) {
        let mut by_prefix = self.lock();
        if let Some(slots) = by_prefix.get_mut(prefix) {
            slots.retain(|other| !Arc::ptr_eq(other, slot));
            if slots.is_empty() {
                by_prefix.remove(prefix);
            }
        }
    }
}

/// Every change to the keys with a prefix, from a revision on, in order and without a gap.
///
/// Ends after an error. [`Error::Lagged`]: the reader was slower than the history is long. [`Error::Closed`]: the store was
/// closed; all changes before that have been delivered.
pub struct Watch {
    shared: Arc<Shared>,
    prefix: Arc<str>,
    slot: Arc<Slot>,
    /// All changes up to this revision have been looked at.
    seen: Revision,
    /// Whether the history after `seen` is known to hold something unread.
    unread: bool,
    fetched: VecDeque<Change>,
    ended: bool,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            prefix, seen, ended, ..
        } = self;
        let mut debug = formatter.debug_struct("Watch");
        debug
            .field("prefix", prefix)
            .field("seen", seen)
            .field("ended", ended)
            .finish_non_exhaustive()
    }
}

impl Watch {
    pub(crate) fn new(shared: Arc<Shared>, prefix: &str, after: Revision) -> Result<Self, Error> {
        let prefix = Arc::from(prefix);
        // First the slot, then the look at the history: what is committed in between is seen twice rather than never.
        let slot = shared.watchers.add(&prefix);
        let watch = Self {
            shared,
            prefix,
            slot,
            seen: after,
            unread: true,
            fetched: VecDeque::new(),
            ended: false,
        };
        let oldest = watch.shared.read().floor();
        if after < oldest {
            return Err(Error::Compacted {
                requested: after,
                oldest,
            });
        }
        Ok(watch)
    }

    /// The next change; None after the end. Safe to drop while it waits.
    pub async fn next_change(&mut self) -> Option<Result<Change, Error>> {
        poll_fn(|context| self.poll_change(context)).await
    }

    fn poll_change(&mut self, context: &Context<'_>) -> Poll<Option<Result<Change, Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        loop {
            if let Some(change) = self.fetched.pop_front() {
                return Poll::Ready(Some(Ok(change)));
            }
            self.slot.waker.register(context.waker());
            // Read before the history: nothing is committed after the end, so what is fetched below is then complete.
            let closed = self.shared.ended.is_cancelled();
            if !self.fetch() {
                self.ended = true;
                return Poll::Ready(Some(Err(Error::Lagged)));
            }
            if !self.fetched.is_empty() || self.unread {
                continue;
            }
            if !closed {
                return Poll::Pending;
            }
            self.ended = true;
            return Poll::Ready(Some(Err(Error::Closed)));
        }
    }

    /// Takes the next changes out of the history, if there are any for this watcher; false if they are forgotten.
    fn fetch(&mut self) -> bool {
        if !self.unread {
            match self.slot.pending.swap(0, Ordering::AcqRel) {
                0 => return true,
                // What lies before it does not concern this watcher.
                first => self.seen = self.seen.max(first - 1),
            }
        }
        self.unread = false;
        let state = self.shared.read();
        let Some(changes) = state.changes_from(self.seen + 1) else {
            return false;
        };
        for change in changes {
            if self.fetched.len() == FETCH {
                self.unread = true;
                break;
            }
            self.seen = change.revision;
            if change.key.starts_with(&*self.prefix) {
                self.fetched.push_back(change.clone());
            }
        }
        true
    }
}

impl Stream for Watch {
    type Item = Result<Change, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_change(context)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.watchers.remove(&self.prefix, &self.slot);
    }
}
