//! Nodes, each with the set's pods there.

use std::collections::BTreeMap;

use afloat_words::daemon::Suits;
use jiff::Timestamp;

use super::demand::Demand;
use crate::pod::images::{Node, Nodes};
use crate::pod::lifecycle::State;
use crate::pod::object::Pod;
use crate::workload::roster::{Member, Relation, Roster};

/// A node, and the set's pods that are there or are to come there.
#[derive(Debug)]
pub(super) struct Site<'a> {
    /// The node's name.
    pub(super) name: &'a str,
    pub(super) node: &'a Node,
    /// Whether one of them may come, and stay.
    pub(super) suits: Suits,
    /// All of them, also those on their way out and those that are over: the one that came first first.
    pub(super) pods: Vec<&'a Pod>,
}

/// Two pods at most that stay on a node, one of each revision while one takes the other's place, and all others.
#[derive(Debug, Default)]
pub(super) struct Stand<'a> {
    /// At the wanted revision.
    pub(super) new: Option<&'a Pod>,
    /// At another one, or asked to be replaced.
    pub(super) old: Option<&'a Pod>,
    /// Too many.
    pub(super) more: Vec<&'a Pod>,
    /// Prepared for their deletion: nothing brings them back.
    pub(super) prepared: Vec<&'a Pod>,
    /// Over, and nobody has deleted them yet.
    pub(super) over: Vec<&'a Pod>,
}

impl Stand<'_> {
    /// Whether there is another one beside those that stay.
    pub(super) fn crowded(&self) -> bool {
        !(self.more.is_empty() && self.prepared.is_empty() && self.over.is_empty())
    }
}

/// All nodes in order of their names, and pods that belong to none of them.
pub(super) struct Sites<'a> {
    pub(super) nodes: Vec<Site<'a>>,
    /// Their node is gone, or nobody knows it.
    pub(super) homeless: Vec<&'a Pod>,
}

impl<'a> Sites<'a> {
    /// Looks.
    pub(super) fn of(demand: &Demand, nodes: &'a Nodes, pods: &'a Roster) -> Self {
        let mut by_node: BTreeMap<&str, Vec<&Pod>> = BTreeMap::new();
        let own = |member: &&Member| matches!(member.relation, Relation::Ours | Relation::Leaving);
        for pod in pods.members().iter().filter(own).map(Member::pod) {
            by_node.entry(pod.target().unwrap_or_default()).or_default().push(pod);
        }
        let site = |(name, known): (&'a String, &'a crate::pod::images::Known)| {
            let mut pods = by_node.remove(name.as_str()).unwrap_or_default();
            pods.sort_by_key(|pod| seniority(pod));
            Site {
                name,
                node: &known.node,
                suits: demand.suited_by(name, &known.node),
                pods,
            }
        };
        Self {
            nodes: nodes.iter().map(site).collect(),
            homeless: by_node.into_values().flatten().collect(),
        }
    }
}

/// Scheduled ones first, then the oldest, then by name, as OpenKruise sorts them.
fn seniority(pod: &Pod) -> (bool, Option<Timestamp>, &str) {
    (pod.spec.node_name.is_none(), pod.metadata.created, pod.name())
}

impl<'a> Site<'a> {
    /// Who stays and who does not. `surges`: there may be a pod of each revision; else the eldest stays, whichever it has.
    pub(super) fn stand(&self, surges: bool, is_new: impl Fn(&Pod) -> bool) -> Stand<'a> {
        let mut stand = Stand::default();
        for pod in self.pods.iter().copied().filter(|pod| !pod.metadata.terminating) {
            if !pod.active() {
                stand.over.push(pod);
            } else if State::of(pod) == State::PreparingDelete {
                stand.prepared.push(pod);
            } else {
                let free = stand.new.is_none() && stand.old.is_none();
                let place = if is_new(pod) { &mut stand.new } else { &mut stand.old };
                if place.is_none() && (surges || free) {
                    *place = Some(pod);
                } else {
                    stand.more.push(pod);
                }
            }
        }
        stand
    }
}
