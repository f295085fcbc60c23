//! What an author has written, and whether a cache shows it. Pure.

use std::time::Instant;

use afloat_words::key::Key;

use crate::content::Progress;

/// A write, as it should appear.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Written {
    /// A creation or change that was answered with this version.
    Version(u64),
    /// A deletion: seen when the object is gone, replaced or marked. Of an object that is marked already it says nothing: to
    /// a planner such a one is as good as gone.
    Gone {
        /// Where it was.
        key: Key,
        /// Which of that name.
        uid: String,
    },
    /// It was not answered and may or may not have taken effect: only a listing begun later can tell.
    Unknown,
}

/// What one cache can say to a write.
pub trait Sight {
    /// How far it has seen.
    fn progress(&self) -> Progress;
    /// Whether it shows the object of that UID, and not as deleted.
    fn shows(&self, key: &Key, uid: &str) -> bool;
}

/// One write that is still to be seen.
#[derive(Clone, Debug)]
pub struct Expected {
    /// What.
    pub written: Written,
    /// Listings that had begun when it was answered: the next one shows it in any case.
    pub begun: u64,
    /// Whether the last of these was not complete yet when its author began to write.
    pub amid: bool,
    /// When it was answered.
    pub since: Instant,
}

impl Expected {
    /// `written` was answered at `since`; `before` and `now` are how far its kind's cache had seen when its author began to
    /// write, and when the answer had come.
    pub fn new(written: Written, before: Progress, now: Progress, since: Instant) -> Self {
        Self {
            written,
            begun: now.begun,
            amid: now.begun > before.done,
            since,
        }
    }

    /// Whether the cache shows it.
    pub fn seen(&self, cache: &(impl Sight + ?Sized)) -> bool {
        let progress = cache.progress();
        progress.done > self.begun
            || match &self.written {
                Written::Version(revision) => progress.revision >= *revision,
                Written::Gone { key, uid } => !cache.shows(key, uid),
                Written::Unknown => false,
            }
    }

    /// Whether only another listing can tell: one was under way between the write and its answer, and what it brought does not
    /// show it. Perhaps the event is still to come; perhaps somebody put the object out of the selector before the listing looked, and
    /// none ever will. True once: then the cache is to list anew.
    pub fn doubtful(&mut self, cache: &(impl Sight + ?Sized)) -> bool {
        let progress = cache.progress();
        let doubtful = self.amid && progress.done >= self.begun && !self.seen(cache);
        if doubtful {
            self.begun = progress.begun;
            self.amid = false;
        }
        doubtful
    }
}
