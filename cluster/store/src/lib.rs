//! Bytes with revisions: the only thing that knows how objects reach the disk.
//!
//! A log keyed by revision with the current state derived from it, the shape that etcd and kine have. One writer gives
//! each write the next revision, commits many waiting writes in one transaction (group commit) and only then makes them
//! visible and acknowledges them, so that whatever a reader or a watcher has seen survives `kill -9`.

use std::sync::Arc;

use bytes::Bytes;

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
