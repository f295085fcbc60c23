//! When a change is taken up: after it was left alone for a moment, as people and programs write in several steps, and each step that
//! was taken up would restart containers.

use jiff::{SignedDuration, Timestamp};

use super::content::Content;

/// So long nothing must have changed.
pub const QUIET: SignedDuration = SignedDuration::from_secs(3);
/// What never comes to rest is taken up after so long all the same.
pub const LIMIT: SignedDuration = SignedDuration::from_secs(30);

/// What was read of one ConfigMap or Secret, and what of it is decided on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settling {
    taken: Option<Content>,
    next: Option<Next>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Next {
    content: Content,
    /// When it was something else than what is decided on for the first time.
    first: Timestamp,
    /// When this content was seen first.
    last: Timestamp,
}

impl Settling {
    /// What is decided on.
    pub fn taken(&self) -> Option<&Content> {
        self.taken.as_ref()
    }

    /// What was read. The first is decided on at once.
    pub fn saw(&mut self, content: Content, now: Timestamp) {
        if self.taken.is_none() {
            self.taken = Some(content);
            return;
        }
        if self.taken.as_ref() == Some(&content) {
            self.next = None;
            return;
        }
        match &mut self.next {
            Some(next) if next.content == content => {}
            Some(next) => {
                next.content = content;
                next.last = now;
            }
            None => {
                self.next = Some(Next {
                    content,
                    first: now,
                    last: now,
                });
            }
        }
    }

    /// When a change is to be taken up; None: there is none.
    pub fn due(&self) -> Option<Timestamp> {
        let next = self.next.as_ref()?;
        let at = |since: Timestamp, wait| since.checked_add(wait).unwrap_or(since);
        Some(at(next.last, QUIET).min(at(next.first, LIMIT)))
    }

    /// Takes a change up if it is time; whether something else is decided on since.
    pub fn settle(&mut self, now: Timestamp) -> bool {
        self.due().is_some_and(|due| due <= now) && self.take()
    }

    /// Takes a change up at once; whether something else is decided on since.
    pub fn take(&mut self) -> bool {
        let Some(next) = self.next.take() else { return false };
        self.taken = Some(next.content);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(value: &str) -> Content {
        Content::of("", [("k", value.as_bytes())])
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
    }

    #[test]
    fn of_many_changes_the_last_counts() {
        let mut settling = Settling::default();
        settling.saw(content("a"), at(0));
        assert_eq!(settling.taken(), Some(&content("a")), "the first is taken at once");
        for (second, value) in [(1, "b"), (3, "c"), (5, "d")] {
            settling.saw(content(value), at(second));
            assert!(!settling.settle(at(second + 1)));
        }
        assert_eq!(settling.due(), Some(at(8)));
        assert!(settling.settle(at(8)));
        assert_eq!(settling.taken(), Some(&content("d")));
        assert!(!settling.settle(at(100)), "once");
    }

    #[test]
    fn a_change_that_is_taken_back_is_none() {
        let mut settling = Settling::default();
        settling.saw(content("a"), at(0));
        settling.saw(content("b"), at(1));
        settling.saw(content("a"), at(2));
        assert_eq!(settling.due(), None);
        assert!(!settling.take());
    }

    #[test]
    fn what_never_rests_is_taken_up_all_the_same() {
        let mut settling = Settling::default();
        settling.saw(content("a"), at(0));
        let mut taken = None;
        for second in 1..100 {
            settling.saw(content(&second.to_string()), at(second));
            if settling.settle(at(second)) {
                taken = Some(second);
                break;
            }
        }
        assert_eq!(taken, Some(31));
        assert_eq!(settling.taken(), Some(&content("31")));
    }
}
