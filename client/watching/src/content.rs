//! What a cache holds, and how far it has seen, as one value: whoever looks at it sees both as they were at the same moment.
//! Pure: it is told what the watch says, and tells what has changed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use afloat_words::key::Key;
use afloat_words::texts::Pool;

use crate::kind::Kind;
use crate::members::Members;

/// What the watch says: an object, and the version that it has (0 where it says none).
#[derive(Clone, Debug)]
pub enum Event<K> {
    /// It is new, or has changed.
    Applied(K, u64),
    /// It is gone, or no longer among those that are followed. The version is that of its end.
    Gone(K, u64),
    /// A listing begins. Its content is what there is at some moment after this.
    ListBegins,
    /// One object of the listing, which may come in many pages.
    Listed(K, u64),
    /// The listing is complete, and takes the place of everything before.
    ListEnds,
}

/// What happened to an object: `new` is none when it is gone, `old` is none when it was unknown.
#[derive(Clone, Debug)]
pub struct Change<K> {
    /// What it was.
    pub old: Option<Arc<K>>,
    /// What it is.
    pub new: Option<Arc<K>>,
    /// Only listed (anew): most likely it is as it was.
    pub calm: bool,
    /// The object has the version that it had before.
    pub same: bool,
}

impl<K> Change<K> {
    /// The object before and after, whichever exist.
    pub fn each(&self) -> impl Iterator<Item = &K> {
        self.old.as_deref().into_iter().chain(self.new.as_deref())
    }

    /// The object as it is, or was last.
    pub fn last(&self) -> Option<&K> {
        self.new.as_deref().or(self.old.as_deref())
    }
}

/// How far a cache has seen. It says nothing that its content does not show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Progress {
    /// Highest version that the content shows the effect of. An API server sends the events of one kind in this order.
    pub revision: u64,
    /// Listings begun so far; the first is number 1.
    pub begun: u64,
    /// Number of the last listing that was completed; 0: none.
    pub done: u64,
}

/// How far somebody has followed the objects under some indexes.
#[derive(Clone, Debug)]
pub struct Follower<I> {
    indexes: Vec<I>,
    /// None: it has not asked yet.
    seen: Option<u64>,
}

impl<I> Follower<I> {
    /// Somebody who knows nothing yet.
    pub fn new(indexes: Vec<I>) -> Self {
        Self { indexes, seen: None }
    }
}

/// What has happened to objects since somebody asked last.
#[derive(Clone, Debug)]
pub enum News<T> {
    /// More than is remembered: these are all that there are.
    All(Vec<Arc<T>>),
    /// These are not as they were; None: it is gone, or under none of the indexes any more.
    Changes(BTreeMap<Key, Option<Arc<T>>>),
}

/// A listing that is not complete: nothing of it is seen yet, neither objects nor versions.
#[derive(Clone)]
struct Listing<T> {
    objects: Vec<(Arc<T>, u64)>,
    /// Highest version in it, also of objects that are not kept.
    revision: u64,
}

struct Stored<K: Kind> {
    object: Arc<K::Kept>,
    revision: u64,
    indexes: Box<[K::Index]>,
}

/// Objects of one kind under their keys and indexes. An object without an index is not kept.
pub struct Content<K: Kind> {
    objects: HashMap<Key, Stored<K>>,
    by_index: HashMap<K::Index, Members<K::Kept>>,
    /// Changes so far.
    changes: u64,
    /// How many there were when an index was left without objects, or everything was listed anew.
    emptied: u64,
    /// Texts that many keys and objects share.
    texts: Pool,
    progress: Progress,
    listing: Option<Listing<K::Kept>>,
}

impl<K: Kind> Clone for Stored<K> {
    fn clone(&self) -> Self {
        Self {
            object: self.object.clone(),
            revision: self.revision,
            indexes: self.indexes.clone(),
        }
    }
}

/// So that one moment can go on in more than one way.
impl<K: Kind<Kept: Clone>> Clone for Content<K> {
    fn clone(&self) -> Self {
        Self {
            objects: self.objects.clone(),
            by_index: self.by_index.clone(),
            changes: self.changes,
            emptied: self.emptied,
            texts: self.texts.clone(),
            progress: self.progress,
            listing: self.listing.clone(),
        }
    }
}

impl<K: Kind> Default for Content<K> {
    /// Nothing, and nothing seen.
    fn default() -> Self {
        Self {
            objects: HashMap::new(),
            by_index: HashMap::new(),
            changes: 0,
            emptied: 0,
            texts: Pool::default(),
            progress: Progress::default(),
            listing: None,
        }
    }
}

impl<K: Kind> Content<K> {
    /// How far it has seen.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// One object.
    pub fn get(&self, key: &Key) -> Option<&Arc<K::Kept>> {
        self.objects.get(key).map(|stored| &stored.object)
    }

    /// Everything, in no order.
    pub fn all(&self) -> impl Iterator<Item = &Arc<K::Kept>> {
        self.objects.values().map(|stored| &stored.object)
    }

    /// What is under an index, in order of namespace and name.
    pub fn group(&self, index: &K::Index) -> impl Iterator<Item = &Arc<K::Kept>> {
        self.by_index.get(index).into_iter().flat_map(Members::all)
    }

    /// What has happened to the objects under some indexes since `follower` asked last.
    pub fn news(&mut self, follower: &mut Follower<K::Index>) -> News<K::Kept> {
        let since = follower.seen.replace(self.changes);
        let mut keys = BTreeSet::new();
        let mut known = since.is_some();
        for index in &follower.indexes {
            let since = since.unwrap_or_default();
            known &= match self.by_index.get_mut(index) {
                Some(members) => members.since(since, self.changes, &mut keys),
                None => since >= self.emptied,
            };
        }
        if !known {
            let all = follower.indexes.iter().flat_map(|index| self.group(index));
            return News::All(all.cloned().collect());
        }
        let shown = |stored: &&Stored<K>| stored.indexes.iter().any(|index| follower.indexes.contains(index));
        let present = |key: Key| {
            let object = self.objects.get(&key).filter(shown);
            let object = object.map(|stored| stored.object.clone());
            (key, object)
        };
        News::Changes(keys.into_iter().map(present).collect())
    }

    /// Whether the object with that UID is here, and nobody has deleted it.
    pub fn shows(&self, key: &Key, uid: &str) -> bool {
        self.get(key)
            .is_some_and(|object| K::uid(object) == uid && !K::deleting(object))
    }

    /// Takes what the watch says; returns what has changed by it.
    pub fn take(&mut self, event: Event<K::Kept>) -> Vec<Change<K::Kept>> {
        match event {
            Event::Applied(object, revision) => {
                self.progress.revision = self.progress.revision.max(revision);
                self.set(object, revision).into_iter().collect()
            }
            Event::Gone(object, revision) => {
                self.progress.revision = self.progress.revision.max(revision);
                let old = self.remove(&K::key(&object));
                old.map(|old| gone::<K>(old, false)).into_iter().collect()
            }
            Event::ListBegins => {
                self.progress.begun += 1;
                self.listing = Some(Listing {
                    objects: Vec::new(),
                    revision: 0,
                });
                Vec::new()
            }
            Event::Listed(mut object, revision) => {
                if let Some(listing) = &mut self.listing {
                    listing.revision = listing.revision.max(revision);
                    if !K::indexes(&object).is_empty() {
                        let before = self.objects.get(&K::key(&object));
                        let same = |before: &&Stored<K>| before.revision == revision && revision != 0;
                        let object = match before.filter(same) {
                            // Nearly all are as they were, and the memory has no room for all of them twice.
                            Some(before) => before.object.clone(),
                            None => {
                                K::share(&mut object, before.map(|before| &*before.object), &mut self.texts);
                                Arc::new(object)
                            }
                        };
                        listing.objects.push((object, revision));
                    }
                }
                Vec::new()
            }
            Event::ListEnds => self.replace(),
        }
    }

    /// Makes the listing the content.
    fn replace(&mut self) -> Vec<Change<K::Kept>> {
        let Some(listing) = self.listing.take() else {
            return Vec::new();
        };
        self.progress.done = self.progress.begun;
        self.progress.revision = self.progress.revision.max(listing.revision);
        let mut before = std::mem::take(&mut self.objects);
        self.by_index.clear();
        self.changes += 1;
        self.emptied = self.changes;
        let mut changes = Vec::with_capacity(listing.objects.len());
        for (object, revision) in listing.objects {
            let old = before.remove(&K::key(&object));
            let was = old.as_ref().map(|old| old.revision);
            let new = self.insert(object, revision);
            if old.is_none() && new.is_none() {
                continue;
            }
            changes.push(Change {
                same: new.is_some() && was == Some(revision) && revision != 0,
                old: old.map(|old| old.object),
                new,
                calm: true,
            });
        }
        changes.extend(before.into_values().map(|old| gone::<K>(old, true)));
        changes
    }

    fn set(&mut self, mut object: K::Kept, revision: u64) -> Option<Change<K::Kept>> {
        let (key, indexes) = (K::key(&object), K::indexes(&object));
        if let Some(stored) = self.objects.get_mut(&key).filter(|stored| *stored.indexes == *indexes) {
            // In its place, as nearly always.
            K::share(&mut object, Some(&stored.object), &mut self.texts);
            let object = Arc::new(object);
            let old = std::mem::replace(&mut stored.object, object.clone());
            let was = std::mem::replace(&mut stored.revision, revision);
            for index in &stored.indexes {
                self.changes += 1;
                if let Some(members) = self.by_index.get_mut(index) {
                    members.replace(&key, object.clone(), self.changes);
                }
            }
            return Some(Change {
                same: was == revision && revision != 0,
                old: Some(old),
                new: Some(object),
                calm: false,
            });
        }
        let old = self.remove(&K::key(&object));
        K::share(&mut object, old.as_ref().map(|old| &*old.object), &mut self.texts);
        let was = old.as_ref().map(|old| old.revision);
        let new = self.insert(Arc::new(object), revision);
        (old.is_some() || new.is_some()).then(|| Change {
            same: new.is_some() && was == Some(revision) && revision != 0,
            old: old.map(|old| old.object),
            new,
            calm: false,
        })
    }

    /// Puts an object where nothing is; none if it is not to be kept.
    fn insert(&mut self, object: Arc<K::Kept>, revision: u64) -> Option<Arc<K::Kept>> {
        let indexes = K::indexes(&object);
        if indexes.is_empty() {
            return None;
        }
        let mut key = K::key(&object);
        key.namespace = self.texts.share(&key.namespace);
        let indexes = indexes.into_iter().map(|index| self.file(index, &key, &object));
        let indexes = indexes.collect();
        let stored = Stored {
            object: object.clone(),
            revision,
            indexes,
        };
        self.objects.insert(key, stored);
        Some(object)
    }

    /// Puts it under an index. Texts in it are those that the map has already.
    fn file(&mut self, index: K::Index, key: &Key, object: &Arc<K::Kept>) -> K::Index {
        let index = match self.by_index.get_key_value(&index) {
            Some((known, _)) => known.clone(),
            None => index,
        };
        self.changes += 1;
        let members = self.by_index.entry(index.clone()).or_insert_with(Members::new);
        members.insert(key, object.clone(), self.changes);
        index
    }

    fn remove(&mut self, key: &Key) -> Option<Stored<K>> {
        let old = self.objects.remove(key)?;
        for index in &old.indexes {
            if let Some(members) = self.by_index.get_mut(index) {
                self.changes += 1;
                members.remove(key, self.changes);
                if members.is_empty() {
                    self.by_index.remove(index);
                    self.emptied = self.changes;
                }
            }
        }
        Some(old)
    }
}

fn gone<K: Kind>(old: Stored<K>, calm: bool) -> Change<K::Kept> {
    Change {
        old: Some(old.object),
        new: None,
        calm,
        same: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    struct Thing {
        name: &'static str,
        owner: Option<&'static str>,
    }

    impl Kind for Thing {
        type Wire = Self;
        type Kept = Self;
        type Index = &'static str;
        fn keep(wire: Self) -> Self {
            wire
        }
        fn key(object: &Self) -> Key {
            Key::new("n", object.name)
        }
        fn uid(object: &Self) -> &str {
            object.name
        }
        fn deleting(_: &Self) -> bool {
            false
        }
        fn indexes(object: &Self) -> Vec<&'static str> {
            object.owner.into_iter().collect()
        }
    }

    fn thing(name: &'static str, owner: Option<&'static str>) -> Thing {
        Thing { name, owner }
    }

    #[test]
    fn indexes_follow_changes_and_leave_nothing() {
        let mut content = Content::<Thing>::default();
        content.take(Event::Applied(thing("b", Some("x")), 1));
        content.take(Event::Applied(thing("a", Some("x")), 2));
        let names = |content: &Content<Thing>, index| -> Vec<_> { content.group(index).map(|t| t.name).collect() };
        assert_eq!(names(&content, &"x"), ["a", "b"]);
        content.take(Event::Applied(thing("a", Some("y")), 3));
        assert_eq!((names(&content, &"x"), names(&content, &"y")), (vec!["b"], vec!["a"]));
        // Without an index it is not kept, but it was seen.
        let change = content.take(Event::Applied(thing("a", None), 4)).remove(0);
        assert!(change.new.is_none() && change.old.is_some());
        assert_eq!(content.progress().revision, 4);
        content.take(Event::ListBegins);
        let changes = content.take(Event::ListEnds);
        assert!(changes.len() == 1 && changes[0].calm && changes[0].new.is_none());
        assert!(content.objects.is_empty() && content.by_index.is_empty());
    }

    /// A follower knows what is there after any changes, however many it missed, and so do two of one group.
    #[test]
    fn whoever_follows_knows_what_is_there() {
        let names: Vec<&'static str> = (0..3000).map(|number| &*number.to_string().leak()).collect();
        for seed in 0..32_u64 {
            let mut dice = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let mut roll = |sides: u64| {
                dice ^= dice << 13;
                dice ^= dice >> 7;
                dice ^= dice << 17;
                dice % sides
            };
            let mut content = Content::<Thing>::default();
            let mut follower = Follower::new(vec!["x", "y"]);
            let mut known: BTreeMap<Key, Arc<Thing>> = BTreeMap::new();
            for revision in 1..if seed > 29 { 8 } else { 60 } {
                // The last worlds have more changes between two looks than are remembered.
                for _ in 0..roll(if seed > 29 { 3000 } else { 6 }) {
                    let things = if seed > 29 { 3000 } else { 5 };
                    let name = names[usize::try_from(roll(things)).unwrap()];
                    let owner = [None, Some("x"), Some("x"), Some("y"), Some("z")][usize::try_from(roll(5)).unwrap()];
                    match roll(if seed > 29 { 4000 } else { 30 }) {
                        // Seldom, as it makes everybody look at all.
                        0 => {
                            content.take(Event::ListBegins);
                            for name in &names[..usize::try_from(roll(things)).unwrap()] {
                                content.take(Event::Listed(thing(name, owner), revision));
                            }
                            content.take(Event::ListEnds);
                        }
                        roll if roll % 4 == 1 => drop(content.take(Event::Gone(thing(name, owner), revision))),
                        _ => drop(content.take(Event::Applied(thing(name, owner), revision))),
                    }
                }
                match content.news(&mut follower) {
                    News::All(all) => {
                        known = all.into_iter().map(|object| (Thing::key(&object), object)).collect();
                    }
                    News::Changes(changes) => {
                        for (key, object) in changes {
                            match object {
                                Some(object) => drop(known.insert(key, object)),
                                None => drop(known.remove(&key)),
                            }
                        }
                    }
                }
                let there: BTreeMap<Key, Arc<Thing>> = ["x", "y"]
                    .iter()
                    .flat_map(|index| content.group(index))
                    .map(|object| (Thing::key(object), object.clone()))
                    .collect();
                assert_eq!(known, there, "seed {seed}, round {revision}");
            }
        }
    }

    #[test]
    fn who_has_seen_everything_is_told_nothing() {
        let mut content = Content::<Thing>::default();
        content.take(Event::Applied(thing("a", Some("x")), 1));
        let mut follower = Follower::new(vec!["x", "none"]);
        assert!(matches!(content.news(&mut follower), News::All(all) if all.len() == 1));
        let told = |content: &mut Content<Thing>, follower: &mut Follower<&'static str>| match content.news(follower) {
            News::All(_) => usize::MAX,
            News::Changes(changes) => changes.len(),
        };
        assert_eq!(told(&mut content, &mut follower), 0);
        content.take(Event::Applied(thing("b", Some("z")), 2));
        assert_eq!(told(&mut content, &mut follower), 0, "it is of another index");
        content.take(Event::Applied(thing("a", Some("x")), 3));
        assert_eq!(told(&mut content, &mut follower), 1);
    }

    #[test]
    fn a_listing_is_seen_when_it_is_complete_and_not_before() {
        let mut content = Content::<Thing>::default();
        content.take(Event::ListBegins);
        content.take(Event::Listed(thing("a", Some("x")), 7));
        content.take(Event::Listed(thing("b", None), 9));
        assert_eq!((content.progress().revision, content.all().count()), (0, 0));
        content.take(Event::ListEnds);
        assert_eq!((content.progress().revision, content.all().count()), (9, 1));
        content.take(Event::ListBegins);
        content.take(Event::Listed(thing("a", Some("x")), 7));
        let changes = content.take(Event::ListEnds);
        assert!(changes.len() == 1 && changes[0].same, "{changes:?}");
        assert_eq!(
            content.progress(),
            Progress {
                revision: 9,
                begun: 2,
                done: 2
            }
        );
    }

    #[test]
    fn a_listing_that_broke_off_is_forgotten() {
        let mut content = Content::<Thing>::default();
        content.take(Event::ListBegins);
        content.take(Event::Listed(thing("a", Some("x")), 7));
        content.take(Event::ListBegins);
        content.take(Event::ListEnds);
        assert_eq!(
            content.progress(),
            Progress {
                revision: 0,
                begun: 2,
                done: 2
            }
        );
    }
}
