//! What the writer, the readers and the watchers share.

use std::sync::atomic::AtomicU64;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::task::Waker;

use tokio_util::sync::CancellationToken;

use crate::row::Row;
use crate::state::State;
use crate::watchers::Watchers;
use crate::{Error, Revision};

/// The committed state, and who waits for more.
#[derive(Default)]
pub(crate) struct Shared {
    state: RwLock<State>,
    pub(crate) watchers: Watchers,
    /// Up to which revision callers want history to be forgotten.
    pub(crate) forget: AtomicU64,
    /// Why nothing can be written at present.
    pub(crate) failure: RwLock<Option<Error>>,
    /// Cancelled when nothing will be written any more and the file is closed.
    pub(crate) ended: CancellationToken,
}

impl Shared {
    /// Of a store that begins with this state.
    pub(crate) fn new(state: State) -> Self {
        Self {
            state: RwLock::new(state),
            ..Self::default()
        }
    }

    /// For a moment only: the writer waits meanwhile.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why nothing can be written at present; None if it can.
    pub(crate) fn failure(&self) -> Option<Error> {
        self.failure.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_failure(&self, failure: Option<Error>) {
        *self.failure.write().unwrap_or_else(PoisonError::into_inner) = failure;
    }

    /// Shows committed rows to readers and watchers at once: whoever has read a revision finds that every watch has a
    /// mark for the changes up to it, so that a watch with nothing left to read is as far as that revision.
    pub(crate) fn publish(&self, rows: &[Row], floor: Revision) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.publish(rows, floor);
        // Nobody who holds the watchers' lock waits for this one.
        let wakers = self.watchers.mark(rows);
        drop(state);
        // Without any lock: a waker may run, or drop, whatever it likes, a Watch for example.
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Tells everybody that nothing will be written any more.
    pub(crate) fn end(&self) {
        self.ended.cancel();
        self.watchers.wake_all();
    }
}
