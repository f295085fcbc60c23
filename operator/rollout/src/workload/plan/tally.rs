//! One look at every pod: what the rest of a plan needs to know of all of them, so that it can spend its time on the few
//! that something is to be done about.

use std::sync::Arc;

use afloat_api::names;

use super::guarded::replaces_evicted;
use super::seen::{Seen, Turns};
use crate::pod::label::same_revision;
use crate::pod::lifecycle::State;
use crate::pod::object::Pod;
use crate::workload::budget::Count;
use crate::workload::observed::Phases;
use crate::workload::roster::{Member, Relation, Roster};
use crate::workload::traffic::Watched;

/// What was counted and set aside. `count` has no wishes in it yet, only what is there.
#[derive(Debug, Default)]
pub(crate) struct Tally<'a> {
    /// Active pods that are ours, at another revision than the wanted one, by name.
    pub(crate) outdated: Vec<&'a Member>,
    /// Active pods that are ours, and not available, or not sent to by all nodes yet.
    pub(crate) unsettled: Vec<&'a Pod>,
    /// Active pods that are ours, asked to be deleted.
    pub(crate) specified: Vec<&'a Pod>,
    /// Active pods that are ours and are to go in any case; they stand in no count.
    pub(crate) excess: Vec<&'a Member>,
    /// Active pods that are ours, with containers that start in an order.
    pub(crate) ordered: Vec<&'a Pod>,
    /// Nobody's, and matching the selector.
    pub(crate) orphans: Vec<&'a Pod>,
    /// Ours, and not matching the selector.
    pub(crate) strays: Vec<&'a Pod>,
    /// By the place of a label in the roster: whether it means the wanted revision.
    labels: Vec<bool>,
    pub(crate) count: Count,
    pub(crate) phases: Phases,
    /// Ready pods.
    pub(crate) ready: usize,
    /// Ready pods at the wanted revision.
    pub(crate) updated_ready: usize,
    /// Available pods that all nodes send to.
    pub(crate) served: usize,
    /// Of those, pods at the wanted revision.
    pub(crate) updated_served: usize,
}

impl<'a> Tally<'a> {
    /// Looks. `update` is the wanted revision.
    pub(crate) fn take(seen: &Seen<'a>, update: &str, watched: Watched<'_>) -> Self {
        let mut tally = Self {
            labels: seen
                .pods
                .labels()
                .iter()
                .map(|label| same_revision(label, update))
                .collect(),
            ..Self::default()
        };
        for member in seen.pods.members() {
            match member.relation {
                Relation::Ours => tally.add(member, seen, watched),
                Relation::Orphan => tally.orphans.push(member.pod()),
                Relation::Stray => tally.strays.push(member.pod()),
                Relation::Leaving | Relation::Stranger => {}
            }
        }
        if let Turns::Given(places) = seen.turns {
            let names = tally.outdated.iter().map(|member| member.pod().name());
            tally.count.turns = Some(names.filter(|name| places.contains_key(*name)).count());
        }
        tally
    }

    /// The labels of outdated pods.
    pub(crate) fn outdated_labels(&self, pods: &'a Roster) -> Vec<&'a Arc<str>> {
        let mut present = vec![false; pods.labels().len()];
        for label in self.outdated.iter().filter_map(|member| member.label) {
            present[usize::from(label)] = true;
        }
        let labels = pods.labels().iter().zip(present);
        labels.filter_map(|(label, present)| present.then_some(label)).collect()
    }

    /// Whether a pod is at the wanted revision.
    fn updated(&self, member: &Member) -> bool {
        member.label.is_some_and(|label| self.labels[usize::from(label)])
    }

    fn add(&mut self, member: &'a Member, seen: &Seen<'_>, watched: Watched<'_>) {
        let updated = self.updated(member);
        let available = member.available(seen.min_ready, seen.now);
        // The budget takes a pod that proxies do not know of yet for available: whoever learns that another one leaves has
        // learned of this one's return before. For what users are told, all of them have to send to it.
        let served = available && !watched.awaits(member, seen.now);
        if !served {
            self.unsettled.push(member.pod());
        }
        if member.ordered {
            self.ordered.push(member.pod());
        }
        if !seen.excess.is_empty() && seen.excess.contains(member.pod().name()) {
            self.excess.push(member);
            return;
        }
        let evicted = member.evicted && replaces_evicted(seen);
        let asked = member.specified || listed(member, seen.pods_to_delete);
        let specified = asked || evicted;
        let count = &mut self.count;
        count.total += 1;
        count.updated += usize::from(updated);
        count.available += usize::from(if watched.one_after_the_other() {
            served
        } else {
            available
        });
        count.to_delete += usize::from(specified);
        count.evicted += usize::from(evicted && !asked);
        count.unavailable += usize::from(!available && !specified);
        count.leaving += usize::from(seen.excludes_leaving && member.state == State::PreparingDelete);
        self.ready += usize::from(member.ready);
        self.updated_ready += usize::from(updated && member.ready);
        self.served += usize::from(served);
        self.updated_served += usize::from(updated && served);
        if !updated {
            self.outdated.push(member);
        }
        if specified {
            self.specified.push(member.pod());
        }
        let out = member.gate_closed || member.state == State::Updating;
        let place = match (updated, out) {
            (false, false) => &mut self.phases.outdated,
            (false, true) => &mut self.phases.draining,
            (true, true) => &mut self.phases.updating,
            (true, false) if served => &mut self.phases.available,
            (true, false) => &mut self.phases.starting,
        };
        *place += 1;
    }
}

/// Active pods that are ours, by name.
pub(crate) fn ours(pods: &Roster) -> impl Iterator<Item = &Pod> + Clone {
    let ours = pods.members().iter().filter(|member| member.relation == Relation::Ours);
    ours.map(Member::pod)
}

pub(super) fn listed(member: &Member, listed: &[String]) -> bool {
    !listed.is_empty() && listed.iter().any(|name| name == member.pod().name())
}

/// Somebody asked for exactly this pod's deletion.
pub(super) fn specified(pod: &Pod, listed: &[String]) -> bool {
    pod.labels.contains_key(names::SPECIFIED_DELETE) || listed.iter().any(|name| name == pod.name())
}
