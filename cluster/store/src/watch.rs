//! The stream that a watcher reads.
//!
//! The writer only tells a watcher from which revision on there is something for it, and wakes it; the watcher fetches the
//! changes from the shared history itself. So a slow watcher costs the writer nothing, and one for which nothing happens is
//! neither woken nor ever too slow.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use futures::Stream;

use crate::shared::Shared;
use crate::watchers::Slot;
use crate::{Change, Error, Revision};

/// How many changes a watcher takes out of the history at once: bounds the time that it keeps the writer waiting.
const FETCH: usize = 64;
/// Bytes of them, about: what a watcher holds that nobody reads is kept although the history has forgotten it.
const FETCH_BYTES: usize = 128 << 10;

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
        let mut bytes = 0;
        for change in changes {
            if self.fetched.len() == FETCH || bytes > FETCH_BYTES {
                self.unread = true;
                break;
            }
            self.seen = change.revision;
            if change.key.starts_with(&*self.prefix) {
                bytes += change.value.len() + change.previous.as_ref().map_or(0, |previous| previous.len());
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
