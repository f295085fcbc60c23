//! How far a pull is.

use std::sync::atomic::{AtomicU64, Ordering};

/// How far a pull is, for whoever shows it.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes to fetch, once that is known.
    pub total: AtomicU64,
    /// Bytes fetched.
    pub done: AtomicU64,
}

impl Progress {
    pub(super) fn add(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }
}
