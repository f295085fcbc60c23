//! The roster of a workload's pods, from round to round: each round looks at those that have changed since the last one.
//!
//! Between rounds nobody can look at it. Who begins a round has a view, and by that it is brought up to what the caches show;
//! it can be looked at as long as the view.

use std::marker::PhantomData;
use std::ops::Deref;

use afloat_rollout::workload::kind::Workload;
use afloat_rollout::workload::roster::Roster;
use afloat_watching::{Follower, News, View};

use crate::kept::{Group, Pods};

/// A roster that is put away.
pub(crate) struct Kept {
    follower: Follower<Group>,
    roster: Roster,
}

impl Kept {
    /// One that knows no pod yet, of those in the groups.
    pub(crate) fn new(set: &impl Workload, groups: Vec<Group>) -> Self {
        Self {
            follower: Follower::new(groups),
            roster: set.roster(),
        }
    }

    /// Whether it is that of the set, as that is now.
    pub(crate) fn fits(&self, set: &impl Workload) -> bool {
        self.roster.fits(set.metadata().uid.as_deref(), &set.matcher())
    }

    /// Brings it up to what a view shows.
    pub(crate) fn catch_up<'l>(mut self, view: &View<'l, Pods>, set: &impl Workload) -> Present<'l> {
        match view.news(&mut self.follower) {
            News::All(pods) => self.roster = set.roster().with(pods),
            News::Changes(changes) => {
                let by_name = changes.into_iter().map(|(key, pod)| (key.name, pod));
                self.roster.take(by_name.collect());
            }
        }
        Present {
            kept: self,
            look: PhantomData,
        }
    }
}

/// A roster as a view shows it.
pub(crate) struct Present<'l> {
    kept: Kept,
    look: PhantomData<&'l ()>,
}

impl Present<'_> {
    /// Ends the looking.
    pub(crate) fn put_away(self) -> Kept {
        self.kept
    }
}

impl Deref for Present<'_> {
    type Target = Roster;
    fn deref(&self) -> &Roster {
        &self.kept.roster
    }
}
