//! The record of a rollout: its report, and what it has lost.

use std::sync::Arc;

use afloat_api::{Phase, RolloutReport};
use serde_json::Value;

use super::seen::Seen;
use super::tally::ours;
use crate::config::stamp::changes;
use crate::workload::history::Revisions;
use crate::workload::limit::{Limit, rolls_back};
use crate::workload::loss::{Meter, Ours};
use crate::workload::observed::Recorded;
use crate::workload::revision::template;
use crate::workload::roster::{Member, Relation};

/// The present rollout.
#[derive(Debug)]
pub(crate) struct Record<'a> {
    pub(super) recorded: Recorded<'a>,
    pub(super) name: String,
    pub(super) stored: Option<&'a RolloutReport>,
    /// It begins, or goes on.
    pub(super) open: bool,
    pub(super) meter: Meter,
    pub(super) limit: Option<Limit>,
}

impl<'a> Record<'a> {
    /// None where no reports are kept, or none is to be.
    pub(crate) fn of(seen: &Seen<'a>, revisions: &Revisions, moves: bool) -> Option<Self> {
        let recorded = seen.recorded?;
        let name = format!("{}-{}", revisions.update, revisions.update_number);
        let named = |report: &&Arc<RolloutReport>| report.metadata.name.as_deref() == Some(&name);
        let stored = recorded.reports.iter().find(named).map(Arc::as_ref);
        let limit = Limit::of(seen.owner);
        let mut record = Self {
            recorded,
            stored,
            open: false,
            meter: stored.map(|report| Meter::of(&report.status)).unwrap_or_default(),
            limit,
            name,
        };
        let begins = match stored.map(|report| report.status.phase) {
            // What came to rest because of its losses begins again when more is allowed.
            Some(Phase::RolledBack) => moves && !record.exceeded(),
            Some(phase) if !phase.ended() => false,
            None | Some(_) => moves,
        };
        if begins && stored.is_some_and(|report| report.status.phase != Phase::RolledBack) {
            record.meter = Meter::default();
        }
        record.open = begins || stored.is_some_and(|report| !report.status.phase.ended());
        if record.open {
            let leaves = |member: &&Member| match member.relation {
                Relation::Leaving => true,
                Relation::Stray => !member.pod().active(),
                _ => false,
            };
            let leaving = seen.pods.members().iter().filter(leaves).map(Member::pod);
            let ours = Ours::of(ours(seen.pods).chain(leaving), recorded.departed, seen.traffic);
            record.meter = record.meter.look(seen.traffic, &ours, begins);
        }
        (record.open || stored.is_some()).then_some(record)
    }

    /// Whether more is lost than is allowed. What was completed is beyond that.
    pub(crate) fn exceeded(&self) -> bool {
        let back = self
            .stored
            .is_some_and(|report| report.status.phase == Phase::RolledBack);
        if !self.open && !back {
            return false;
        }
        let lost = self.meter.lost.unwrap_or_default().total();
        self.limit
            .is_some_and(|limit| lost > limit.allows(self.meter.connections))
    }

    /// The revision to go back to, with its template: where that is wanted and still known.
    pub(crate) fn goes_back(&self, seen: &Seen<'a>, update: &str) -> Option<(String, &'a Value)> {
        if !self.exceeded() || !rolls_back(seen.owner) {
            return None;
        }
        let stored = self.stored.map(|report| report.status.from.as_str());
        let from = stored.unwrap_or(seen.current_revision);
        if from == update {
            return None;
        }
        let mut revisions = seen.revisions.iter();
        let found = revisions.find(|revision| revision.metadata.name.as_deref() == Some(from))?;
        let template = template(found)?;
        // Nobody but who wrote them brings back what ConfigMaps held: to restart for it would be in vain.
        changes(seen.owner.template, template)
            .is_empty()
            .then(|| (from.to_owned(), template))
    }
}
