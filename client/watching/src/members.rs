//! Objects under one index, and which of them have changed lately: whoever keeps something about each of thousands is told of the few
//! that are not as they were. Pure.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use afloat_words::key::Key;

/// Changes that are known at least; otherwise as many as there are objects. Who has missed more looks at all of them.
const KNOWN: usize = 1024;

/// See the module.
#[derive(Debug)]
pub(crate) struct Members<T> {
    objects: BTreeMap<Key, Arc<T>>,
    /// What has changed after `known_from`, oldest first, with the number of the change.
    changes: VecDeque<(u64, Key)>,
    known_from: u64,
    /// Somebody asks for changes. They are not kept for nobody.
    followed: bool,
}

impl<T> Clone for Members<T> {
    fn clone(&self) -> Self {
        Self {
            objects: self.objects.clone(),
            changes: self.changes.clone(),
            known_from: self.known_from,
            followed: self.followed,
        }
    }
}

impl<T> Members<T> {
    pub(crate) fn new() -> Self {
        Self {
            objects: BTreeMap::new(),
            changes: VecDeque::new(),
            known_from: 0,
            followed: false,
        }
    }

    /// In order of namespace and name.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<T>> {
        self.objects.values()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    pub(crate) fn insert(&mut self, key: &Key, object: Arc<T>, number: u64) {
        self.objects.insert(key.clone(), object);
        self.note(key, number);
    }

    /// An object that is there is another now.
    pub(crate) fn replace(&mut self, key: &Key, object: Arc<T>, number: u64) {
        if let Some(place) = self.objects.get_mut(key) {
            *place = object;
        }
        self.note(key, number);
    }

    pub(crate) fn remove(&mut self, key: &Key, number: u64) {
        self.objects.remove(key);
        self.note(key, number);
    }

    fn note(&mut self, key: &Key, number: u64) {
        if !self.followed {
            return;
        }
        if let Some(last) = self.changes.back_mut().filter(|(_, last)| last == key) {
            last.0 = number;
            return;
        }
        if self.changes.len() >= self.objects.len().max(KNOWN) {
            // Half of them is not worth the while: who is that late looks at all.
            self.changes = VecDeque::new();
            self.known_from = number - 1;
        }
        self.changes.push_back((number, key.clone()));
    }

    /// Adds what has changed since that number; false if it is not known any more. From now on, which is `now`, changes are kept.
    pub(crate) fn since(&mut self, number: u64, now: u64, into: &mut BTreeSet<Key>) -> bool {
        if !self.followed {
            (self.followed, self.known_from) = (true, now);
        }
        let known = number >= self.known_from;
        if known {
            let first = self.changes.partition_point(|(at, _)| *at <= number);
            into.extend(self.changes.range(first..).map(|(_, key)| key.clone()));
        }
        known
    }
}
