//! A change as the log has it.

use crate::{Change, Entry, Revision};

/// A row of the log that nobody needs once history starts at `at` or later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Superseded {
    /// Revision of the change that made the row superfluous.
    pub(crate) at: Revision,
    /// The row.
    pub(crate) row: Revision,
}

/// A change with what the log stores beyond it.
#[derive(Debug)]
pub(crate) struct Row {
    /// What watchers see.
    pub(crate) change: Change,
    /// Revision of the object's creation.
    pub(crate) created: Revision,
    /// The row of the same key before this one.
    pub(crate) before: Option<Revision>,
}

impl Row {
    /// The row that makes of `before`, what there was of the key, what `now` says, or its end.
    pub(crate) fn after(before: Option<Entry>, now: Entry, deleted: bool) -> Self {
        let (before, previous) = before.map(|entry| (entry.revision, entry.value)).unzip();
        Self {
            change: Change {
                revision: now.revision,
                key: now.key,
                value: now.value,
                previous,
                deleted,
            },
            created: now.created,
            before,
        }
    }

    /// The rows that this one makes superfluous. The order matters: they are removed in it, and if the row of a deletion
    /// went before the row that it deletes, a crash in between would bring the object back.
    pub(crate) fn supersedes(&self) -> impl Iterator<Item = Superseded> + use<> {
        let at = self.change.revision;
        let own = self.change.deleted.then_some(at);
        self.before
            .into_iter()
            .chain(own)
            .map(move |row| Superseded { at, row })
    }
}
