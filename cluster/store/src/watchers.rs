//! Who waits for which keys: the writer's side of all watches.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use futures::task::AtomicWaker;

use crate::row::Row;

/// The writer's end of a watch.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    /// The oldest revision that concerns this watcher and that it has not looked for yet; 0 if there is none.
    pub(crate) pending: AtomicU64,
    pub(crate) waker: AtomicWaker,
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

    /// A new watch of the keys with this prefix.
    pub(crate) fn add(&self, prefix: &Arc<str>) -> Arc<Slot> {
        let slot = Arc::new(Slot::default());
        self.lock()
            .entry(Arc::clone(prefix))
            .or_default()
            .push(Arc::clone(&slot));
        slot
    }

    /// The watch is dropped.
    pub(crate) fn remove(&self, prefix: &Arc<str>, slot: &Arc<Slot>) {
        let mut by_prefix = self.lock();
        if let Some(slots) = by_prefix.get_mut(prefix) {
            slots.retain(|other| !Arc::ptr_eq(other, slot));
            if slots.is_empty() {
                by_prefix.remove(prefix);
            }
        }
    }
}
