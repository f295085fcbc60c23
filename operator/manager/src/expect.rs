//! What a workload's controller has written and must see before it decides again. Deciding on a view without its own
//! writes is how controllers exceed budgets and skip drains (kruise #2276, #1765).

use std::time::{Duration, Instant};

use crate::Operator;
use crate::observe::{Kept, Key, Seen};

/// After this time the caches are listed anew, as in OpenKruise.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(300);

/// The kinds that are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    CloneSet,
    Pod,
    Revision,
    Claim,
    Report,
}

/// One write, as it should appear.
#[derive(Clone, Debug)]
pub(crate) enum Expected {
    /// The cache has seen this version.
    Version(Kind, u64),
    /// The object is gone or on its way out.
    Gone(Kind, Key, String),
    /// It may or may not have taken effect: only a listing begun later can tell.
    Unknown,
}

/// The writes of one workload that are still to be seen.
#[derive(Debug, Default)]
pub(crate) struct Expectations {
    open: Vec<(Instant, Expected)>,
}

impl Expectations {
    pub(crate) fn add(&mut self, expected: Expected) {
        self.open.push((Instant::now(), expected));
    }

    /// Forgets what has been seen; returns since when the oldest of the rest is open.
    pub(crate) fn settle(&mut self, operator: &Operator) -> Option<Instant> {
        let (sets, pods, revisions, claims, reports) = (
            operator.clonesets.seen(),
            operator.pods.seen(),
            operator.revisions.seen(),
            operator.claims.seen(),
            operator.reports.seen(),
        );
        let listed = |seen: Seen, since: Instant| seen.listed.is_some_and(|at| at > since);
        let of = |kind| match kind {
            Kind::CloneSet => sets,
            Kind::Pod => pods,
            Kind::Revision => revisions,
            Kind::Claim => claims,
            Kind::Report => reports,
        };
        self.open.retain(|(since, expected)| {
            let open = match expected {
                Expected::Version(kind, revision) => of(*kind).revision < *revision && !listed(of(*kind), *since),
                Expected::Gone(kind, key, uid) => !listed(of(*kind), *since) && operator.shows(*kind, key, uid),
                Expected::Unknown => ![sets, pods, revisions, claims]
                    .into_iter()
                    .chain(operator.keeps_reports.then_some(reports))
                    .all(|seen| listed(seen, *since)),
            };
            if !open {
                operator.metrics.lagged(since.elapsed());
            }
            open
        });
        self.open.first().map(|(since, _)| *since)
    }
}

impl Operator {
    /// Whether the cache still shows the object, and not as terminating.
    fn shows(&self, kind: Kind, key: &Key, uid: &str) -> bool {
        fn alive<K: Kept>(object: Option<std::sync::Arc<K>>, uid: &str) -> bool {
            object.is_some_and(|object| object.alive(uid))
        }
        match kind {
            Kind::CloneSet => alive(self.clonesets.get(key), uid),
            Kind::Pod => alive(self.pods.get(key), uid),
            Kind::Revision => alive(self.revisions.get(key), uid),
            Kind::Claim => alive(self.claims.get(key), uid),
            Kind::Report => alive(self.reports.get(key), uid),
        }
    }

    /// Lists everything anew.
    pub(crate) fn relist(&self) {
        self.clonesets.relist();
        self.pods.relist();
        self.revisions.relist();
        self.claims.relist();
        self.reports.relist();
    }
}
