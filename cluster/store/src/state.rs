//! The committed state in memory: live objects, the recent history, and where both stand. Pure data, no I/O.
//!
//! History is a ring shared by all watchers rather than a queue for each: a change is held once however many watch, and
//! the bound of the ring is the bound of how far a watcher may fall behind.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use crate::row::Row;
use crate::{Change, Entry, Page, Revision};

/// How much history is kept. The history may grow by an eighth above it before it is cut, so that rows are removed from
/// the disk in batches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Number of changes.
    pub(crate) changes: usize,
    /// Bytes of keys and values, those before each change included.
    pub(crate) bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            changes: 10_000,
            bytes: 32 << 20,
        }
    }
}

/// What readers see.
#[derive(Default)]
pub(crate) struct State {
    live: BTreeMap<Arc<str>, Entry>,
    /// Changes up to this revision are forgotten.
    floor: Revision,
    /// The changes after `floor`, without a hole: the one at index `i` has revision `floor + 1 + i`.
    history: VecDeque<Change>,
    history_bytes: usize,
}

impl State {
    pub(crate) fn new(live: BTreeMap<Arc<str>, Entry>, floor: Revision, history: VecDeque<Change>) -> Self {
        let history_bytes = history.iter().map(bytes_of).sum();
        Self {
            live,
            floor,
            history,
            history_bytes,
        }
    }

    pub(crate) fn revision(&self) -> Revision {
        self.floor + self.history.len() as Revision
    }

    pub(crate) fn floor(&self) -> Revision {
        self.floor
    }

    pub(crate) fn get(&self, key: &str) -> Option<Entry> {
        self.live.get(key).cloned()
    }

    fn below<'a>(&'a self, prefix: &'a str, after_key: Option<&str>) -> impl Iterator<Item = &'a Entry> {
        let start = match after_key {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let range = self.live.range::<str, _>((start, Bound::Unbounded));
        range
            .map(|(_, entry)| entry)
            .take_while(move |entry| entry.key.starts_with(prefix))
    }

    pub(crate) fn list(&self, prefix: &str, after_key: Option<&str>, limit: usize) -> Page {
        let mut matching = self.below(prefix, after_key);
        let limit = if limit == 0 { usize::MAX } else { limit };
        let entries = matching.by_ref().take(limit).cloned().collect();
        Page {
            revision: self.revision(),
            entries,
            remaining: matching.count(),
        }
    }

    /// The next objects below a prefix, and whether there are more behind them: does not look further.
    pub(crate) fn next(&self, prefix: &str, after_key: Option<&str>, limit: usize) -> (Vec<Entry>, bool) {
        let mut matching = self.below(prefix, after_key);
        let entries = matching.by_ref().take(limit).cloned().collect();
        (entries, matching.next().is_some())
    }

    /// The changes from revision `from` on, oldest first; None if some of them are forgotten.
    pub(crate) fn changes_from(&self, from: Revision) -> Option<impl Iterator<Item = &Change>> {
        let skip = from.checked_sub(self.floor + 1)?;
        let skip = usize::try_from(skip).unwrap_or(usize::MAX).min(self.history.len());
        Some(self.history.range(skip..))
    }

    /// Up to which revision to forget, once `rows` are part of the history: what is asked for, or what the limits demand.
    pub(crate) fn next_floor(&self, rows: &[Row], requested: Revision, limits: Limits) -> Revision {
        let mut count = self.history.len() + rows.len();
        let mut bytes = self.history_bytes + rows.iter().map(|row| bytes_of(&row.change)).sum::<usize>();
        let mut floor = self.floor;
        let newest = floor + count as Revision;
        let cut_changes = count > limits.changes + limits.changes / 8;
        let cut_bytes = bytes > limits.bytes + limits.bytes / 8;
        for change in self.history.iter().chain(rows.iter().map(|row| &row.change)) {
            let wanted = floor < requested.min(newest)
                || (cut_changes && count > limits.changes)
                || (cut_bytes && bytes > limits.bytes);
            if !wanted {
                break;
            }
            count -= 1;
            bytes -= bytes_of(change);
            floor = change.revision;
        }
        floor
    }

    /// Takes in rows that are on the disk, and forgets history up to `floor`.
    pub(crate) fn publish(&mut self, rows: &[Row], floor: Revision) {
        for Row { change, created, .. } in rows {
            if change.deleted {
                self.live.remove(&change.key);
            } else {
                let (key, value) = (Arc::clone(&change.key), change.value.clone());
                let entry = Entry {
                    key: Arc::clone(&key),
                    value,
                    revision: change.revision,
                    created: *created,
                };
                self.live.insert(key, entry);
            }
            self.history_bytes += bytes_of(change);
            self.history.push_back(change.clone());
        }
        while self.floor < floor {
            let Some(forgotten) = self.history.pop_front() else {
                break;
            };
            self.history_bytes -= bytes_of(&forgotten);
            self.floor = forgotten.revision;
        }
    }
}

/// What a change costs in memory, about: the bytes before it are counted too, since it may be the last to hold them.
fn bytes_of(change: &Change) -> usize {
    change.key.len() + change.value.len() + change.previous.as_ref().map_or(0, bytes::Bytes::len) + size_of::<Change>()
}
