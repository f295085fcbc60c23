//! How far a pull of an image is, told while it goes on.

use std::sync::atomic::{AtomicU64, Ordering};

/// How far a pull is, for whoever shows it.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes to fetch; 0: not known (yet, or at all).
    pub total: AtomicU64,
    /// Bytes fetched.
    pub done: AtomicU64,
}

impl Progress {
    /// More bytes have come.
    pub fn add(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }
}
