//! The containers of a node, in memory.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::record::Record;
use super::streams::listeners::Listeners;

/// A container in memory: what is on disk, and its process.
pub(super) struct Entry {
    pub(super) record: Record,
    pub(super) process: Option<Arc<OwnedFd>>,
    pub(super) listeners: Arc<Listeners>,
}

/// All of them, by id.
#[derive(Default)]
pub(super) struct Containers(Mutex<BTreeMap<String, Entry>>);

impl Containers {
    /// Held for a look-up only.
    pub(super) fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        // Entries are replaced as a whole: a panic leaves nothing half-done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
