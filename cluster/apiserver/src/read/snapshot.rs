//! What readers of long lists have not been given yet: entries of one moment. Those who read share what is stored; those who do not would
//! keep it, and the list of it, for as long as they like. So there is only so much of it: who has taken nothing for a while loses his.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use afloat_store::Entry;
use tokio::time::Instant;

/// Bytes that all may hold before those who do not read lose theirs. What is stored still is shared and counted all the same.
const BYTES: usize = 48 << 20;
/// Who has taken nothing for so long does not read.
const STALLED: Duration = Duration::from_secs(1);
/// Entries that are taken at once.
const BATCH: usize = 64;
/// Lists that are remembered for those who want the same: many readers, of few collections.
const REMEMBERED: usize = 8;

/// What a reader has still to be given: a list, which he may share with others, from some entry on.
type Rest = Mutex<Option<(Arc<[Entry]>, usize)>>;

/// All that are being read.
pub(crate) struct Snapshots {
    all: Mutex<All>,
    stalled: Duration,
}

impl Default for Snapshots {
    fn default() -> Self {
        Self {
            all: Mutex::default(),
            stalled: STALLED,
        }
    }
}

#[derive(Default)]
struct All {
    /// By the order in which something of them was taken last.
    held: BTreeMap<u64, Held>,
    bytes: usize,
    next: u64,
    /// The last lists that were not like those before them.
    lists: VecDeque<Weak<[Entry]>>,
}

struct Held {
    rest: Weak<Rest>,
    bytes: usize,
    taken: Instant,
}

/// One of them.
pub(crate) struct Snapshot {
    all: Arc<Snapshots>,
    number: u64,
    rest: Arc<Rest>,
    batch: std::vec::IntoIter<Entry>,
}

/// It was not read in time, and is gone.
#[derive(Debug)]
pub(crate) struct Gone;

impl Snapshots {
    /// Holds entries for a reader.
    pub(crate) fn hold(self: &Arc<Self>, entries: Vec<Entry>) -> Snapshot {
        let values: usize = entries.iter().map(|entry| entry.value.len()).sum();
        let bytes = values + entries.capacity() * size_of::<Entry>();
        let mut all = self.all();
        all.bytes += bytes;
        let rest = Arc::new(Mutex::new(Some((all.shared(entries), 0))));
        let number = all.add(Held {
            rest: Arc::downgrade(&rest),
            bytes,
            taken: Instant::now(),
        });
        all.make_room(self.stalled);
        drop(all);
        Snapshot {
            all: Arc::clone(self),
            number,
            rest,
            batch: Vec::new().into_iter(),
        }
    }

    fn all(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl All {
    /// The list, or another one of the same entries, if somebody reads one.
    fn shared(&mut self, entries: Vec<Entry>) -> Arc<[Entry]> {
        let same = |one: &Entry, other: &Entry| {
            one.revision == other.revision && std::ptr::eq(one.value.as_ptr(), other.value.as_ptr())
        };
        let like = |list: &Arc<[Entry]>| {
            list.len() == entries.len() && list.iter().zip(&entries).all(|(one, other)| same(one, other))
        };
        let mut lists = self.lists.iter().filter_map(Weak::upgrade);
        if let Some(list) = lists.find(like) {
            return list;
        }
        drop(lists);
        let list: Arc<[Entry]> = entries.into();
        self.lists.retain(|list| list.strong_count() > 0);
        if self.lists.len() == REMEMBERED {
            self.lists.pop_front();
        }
        self.lists.push_back(Arc::downgrade(&list));
        list
    }

    fn add(&mut self, held: Held) -> u64 {
        self.next += 1;
        self.held.insert(self.next, held);
        self.next
    }

    fn remove(&mut self, number: u64) -> Option<Held> {
        let held = self.held.remove(&number)?;
        self.bytes -= held.bytes;
        Some(held)
    }

    fn make_room(&mut self, stalled: Duration) {
        while self.bytes > BYTES {
            let oldest = self
                .held
                .first_key_value()
                .filter(|(_, held)| held.taken.elapsed() >= stalled);
            let Some(number) = oldest.map(|(number, _)| *number) else {
                return;
            };
            if let Some(rest) = self.remove(number).and_then(|held| held.rest.upgrade()) {
                rest.lock().unwrap_or_else(PoisonError::into_inner).take();
            }
        }
    }
}

impl Snapshot {
    /// The next entry; None after the last.
    ///
    /// # Errors
    /// [`Gone`].
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, Gone> {
        if let Some(entry) = self.batch.next() {
            return Ok(Some(entry));
        }
        let mut all = self.all.all();
        // Its place is that of the last who took something.
        if let Some(held) = all.held.remove(&self.number) {
            self.number = all.add(Held {
                taken: Instant::now(),
                ..held
            });
        }
        let mut rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
        let (entries, given) = rest.as_mut().ok_or(Gone)?;
        let batch = entries.iter().skip(*given).take(BATCH);
        self.batch = batch.cloned().collect::<Vec<_>>().into_iter();
        *given += self.batch.len();
        if *given == entries.len() {
            // Nothing is kept of what was given out.
            (*entries, *given) = (Arc::default(), 0);
            all.remove(self.number);
        }
        Ok(self.batch.next())
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        self.all.all().remove(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(count: usize, bytes: usize) -> Vec<Entry> {
        let entry = |n: usize| Entry {
            key: format!("/{n}").into(),
            value: vec![b' '; bytes].into(),
            revision: 1,
            created: 1,
        };
        (0..count).map(entry).collect()
    }

    #[test]
    fn who_reads_the_same_shares_the_list() {
        let all = Arc::new(Snapshots::default());
        let list = entries(200, 10);
        let held = |entries: Vec<Entry>| {
            let reader = all.hold(entries);
            let list = reader.rest.lock().unwrap().as_ref().map(|(list, _)| Arc::clone(list));
            (reader, list.unwrap())
        };
        let (mut first, one) = held(list.clone());
        let (mut second, other) = held(list.clone());
        assert!(Arc::ptr_eq(&one, &other));
        let (_third, shorter) = held(list[1..].to_vec());
        let (_fourth, written) = held(entries(200, 10));
        assert!(!Arc::ptr_eq(&one, &shorter) && !Arc::ptr_eq(&one, &written));
        drop((one, other));
        assert_eq!(first.next().unwrap().unwrap().key, list[0].key);
        for entry in &list {
            assert_eq!(second.next().unwrap().unwrap().key, entry.key);
        }
        assert!(second.next().unwrap().is_none());
    }

    #[test]
    fn who_does_not_read_loses_what_is_held_for_him() {
        let all = Arc::new(Snapshots {
            stalled: Duration::ZERO,
            ..Snapshots::default()
        });
        let mut reader = all.hold(entries(200, 100_000));
        let mut sleeper = all.hold(entries(200, 100_000));
        assert!(reader.next().unwrap().is_some());
        // There is room for two of them.
        let third = all.hold(entries(200, 100_000));
        assert!(sleeper.next().is_err());
        let mut count = 1;
        while reader.next().unwrap().is_some() {
            count += 1;
        }
        assert_eq!(count, 200);
        drop((reader, sleeper, third));
        let left = all.all();
        assert_eq!((left.bytes, left.held.len()), (0, 0));
    }
}
