//! Bytes with revisions: the only thing that knows how objects reach the disk.
//!
//! A log keyed by revision with the current state derived from it, the shape that etcd and kine have. One writer gives
//! each write the next revision, commits many waiting writes in one transaction (group commit) and only then makes them
//! visible and acknowledges them, so that whatever a reader or a watcher has seen survives `kill -9`.
//!
//! ```text
//! put/delete ─► queue ─► writer thread ─► disk (one transaction, fsync) ─► state in memory ─► watchers ─► acknowledgement
//! get/list   ◄──────────────────────────────────────────────────────────── state
//! ```
//!
//! What holds, and what the tests check:
//! - Revisions are dense: every revision from 1 on is exactly one change.
//! - An acknowledged write survives `kill -9` and, if the disk keeps what it has synced, a power cut. A write that was not
//!   acknowledged may or may not survive, but never without all writes before it.
//! - A watcher gets every change after its revision, once, in order; or an error which says that it cannot.
//! - After a failure of the disk (a full one, for example) nothing is written until the file could be opened again, which is
//!   tried with the writes that come, once a second. Reads and watches go on meanwhile.
//! - Live objects are kept in memory as well as on disk; the history of changes is bounded (see [`Store::compact`]).
//!
//! It must never know what the bytes mean.

mod disk;
mod row;
mod shared;
mod state;
mod store;
mod watch;
mod watchers;
mod writer;

use std::sync::Arc;

use bytes::Bytes;

pub use store::Store;
pub use watch::Watch;

/// A position in the log. The first write has revision 1; it never goes back, not even across restarts.
pub type Revision = u64;

/// Makes the bytes of an object once its revision is known (the API server writes `metadata.resourceVersion`).
pub type Stamp = Box<dyn FnOnce(Revision) -> Bytes + Send>;

/// One live object.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Full key, for example `/pods/default/web-0`.
    pub key: Arc<str>,
    /// What [`Stamp`] made.
    pub value: Bytes,
    /// Revision of its last write.
    pub revision: Revision,
    /// Revision of the write that created it.
    pub created: Revision,
}

/// What must hold for a write to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// No object has the key.
    Absent,
    /// The object exists and was last written at this revision.
    Revision(Revision),
}

/// One change as a watcher sees it.
#[derive(Clone, Debug)]
pub struct Change {
    /// When it happened.
    pub revision: Revision,
    /// Which object.
    pub key: Arc<str>,
    /// The bytes after the change; for a deletion the bytes that the deletion's stamp made.
    pub value: Bytes,
    /// The bytes before the change; None for a creation.
    pub previous: Option<Bytes>,
    /// Whether the object is gone after it.
    pub deleted: bool,
}

/// A page of a listing.
#[derive(Clone, Debug)]
pub struct Page {
    /// Revision of the state that was read.
    pub revision: Revision,
    /// In key order.
    pub entries: Vec<Entry>,
    /// How many more there are behind the last entry.
    pub remaining: usize,
}

/// Why the store did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A write expected that the key is free, and it is not.
    #[error("{key} exists already")]
    Exists {
        /// The key that was written to.
        key: Arc<str>,
    },
    /// A write or deletion expected an object, and there is none.
    #[error("{key} does not exist")]
    NotFound {
        /// The key that was written to.
        key: Arc<str>,
    },
    /// The object was written since the caller read it.
    #[error("{key} was last written at revision {actual}, not at the one expected: read it again and decide anew")]
    Conflict {
        /// The key that was written to.
        key: Arc<str>,
        /// Revision of its last write.
        actual: Revision,
    },
    /// A watch asked for changes that have been forgotten.
    #[error(
        "changes after revision {requested} are forgotten, the oldest revision to watch from is {oldest}: list again"
    )]
    Compacted {
        /// Where the watch wanted to start.
        requested: Revision,
        /// Where it could have started.
        oldest: Revision,
    },
    /// A watcher read so slowly that changes which it had not read are forgotten. The watch has ended.
    #[error("the watcher was too slow, changes that it had not read are forgotten: list again")]
    Lagged,
    /// The disk failed. Whether the write is on it shows when the store is opened again; nobody has seen it until then.
    #[error("storage failed: {0}")]
    Backend(String),
    /// There is no room on the disk. Nothing can be written until there is; it is tried again by itself.
    #[error("the disk of the store is full ({0}): nothing can be written until there is room")]
    Full(String),
    /// Another process has the file open.
    #[error("another process has it open")]
    InUse,
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}
