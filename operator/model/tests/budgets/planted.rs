//! Mistakes that the checks must find: each changes what the code is told, or what becomes of its answer.

use std::collections::BTreeMap;

use afloat_api::BudgetStatus;
use afloat_disruption::count::Row;
use afloat_disruption::owners::Owner;
use afloat_disruption::take::Subject;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Planted {
    Nothing,
    /// A pod whose image is told by another digest is never available (kruise #2570).
    Digests,
    /// Only what controls a pod itself is looked at (kruise #2571).
    NearestOwner,
    /// Pods that are to go count as those that stay (kruise #2175).
    GoingStays,
    /// A status is written whatever there is by then.
    Unguarded,
    /// A refusal is noted as if it were none.
    RefusedCounts,
    /// What is noted still counts as available.
    NotesUnheeded,
    /// Whoever counts forgets what was noted.
    Forgets,
    /// Notes are never forgotten.
    Remembers,
    /// A note is about whoever has the name.
    NamesOnly,
    /// Nothing is taken.
    TakesNothing,
    /// Only deletions are noted.
    UpdatesUnnoted,
    /// Who was noted is not noted once more.
    NotedOnce,
    /// The times of others are taken for one's own.
    OneClock,
}

impl Planted {
    pub(super) fn guards(self) -> bool {
        self != Self::Unguarded
    }

    pub(super) fn owners(self, mut owners: Vec<Owner>) -> Vec<Owner> {
        if self == Self::NearestOwner {
            owners.truncate(1);
        }
        owners
    }

    pub(super) fn row(self, mut row: Row<'static>) -> Row<'static> {
        match self {
            Self::Digests => row.available = false,
            Self::GoingStays => row.going = false,
            Self::NamesOnly => row.created = None,
            _ => {}
        }
        row
    }

    pub(super) fn subject(self, mut subject: Subject<'static>) -> Subject<'static> {
        if self == Self::OneClock {
            (subject.created, subject.ready_since) = (None, None);
        }
        subject
    }

    /// What whoever counts is told of the notes.
    pub(super) fn forgets(self, status: &mut BudgetStatus) {
        if self == Self::Forgets {
            status.disrupted_pods.clear();
            status.unavailable_pods.clear();
        }
    }

    /// What becomes of what was counted.
    pub(super) fn miscounts(self, status: &mut BudgetStatus, before: &BudgetStatus, rows: &[Row<'_>]) {
        match self {
            Self::NotesUnheeded => {
                let available = rows.iter().filter(|row| row.available).count();
                status.current_available = i32::try_from(available).unwrap();
                status.unavailable_allowed = (status.current_available - status.desired_available).max(0);
            }
            Self::Remembers => {
                let keep = |notes: &mut BTreeMap<String, Time>, old: &BTreeMap<String, Time>| {
                    notes.extend(old.iter().map(|(name, since)| (name.clone(), since.clone())));
                };
                keep(&mut status.disrupted_pods, &before.disrupted_pods);
                keep(&mut status.unavailable_pods, &before.unavailable_pods);
            }
            _ => {}
        }
    }

    /// What becomes of what was taken.
    pub(super) fn takes(self, status: &mut BudgetStatus) {
        match self {
            Self::TakesNothing => {
                (status.unavailable_allowed, status.current_available) =
                    (status.unavailable_allowed + 1, status.current_available + 1);
            }
            Self::UpdatesUnnoted => status.unavailable_pods.clear(),
            _ => {}
        }
    }
}
