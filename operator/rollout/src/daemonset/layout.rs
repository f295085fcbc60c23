//! Where pods come, stay, change and go, as far as it does not depend on the budget. Node by node:
//!
//! * A node that a pod must not stay on loses its pods. A node that suits and has none gets one.
//! * Of several pods on a node one stays; where a new one takes an old one's place beforehand, both stay until the new one is available.
//! * Pods on as many nodes as the partition leaves are updated, on nodes that the update's selector selects, the last name first.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use afloat_api::{DaemonSet, Rollout, names};
use jiff::{SignedDuration, Timestamp};

use super::site::{Site, Sites, Stand};
use crate::action::Why;
use crate::pod::drain::Drain;
use crate::pod::label::same_revision;
use crate::pod::object::Pod;
use crate::workload::budget::{Limits, Round, resolve};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Layout<'a> {
    pub(super) limits: Limits,
    /// Pods created, deleted, or changed at once at most.
    pub(super) burst: usize,
    /// A new pod takes an old one's place beforehand.
    pub(super) surges: bool,
    /// Nodes that suit and have no pod.
    pub(super) bare: Vec<&'a str>,
    /// Nodes whose old pod is to have a new one beside it; those first whose old one is not available, and costs nothing.
    pub(super) surge: Vec<&'a str>,
    /// How many more such nodes there are than maxSurge allows.
    pub(super) held: usize,
    /// Pods that go, and cost nothing: another one is in their place, or they have none.
    pub(super) leave: Vec<(&'a Pod, Why)>,
    /// Pods that a hook holds before their deletion, or has let go.
    pub(super) prepared: Vec<(&'a Pod, Why)>,
    /// Pods that are over, with their nodes.
    pub(super) over: Vec<(&'a Pod, &'a str)>,
    /// Names of pods that stand in no count.
    pub(super) excess: BTreeSet<String>,
    /// Names of pods that are to be updated, with their places.
    pub(super) turns: BTreeMap<String, usize>,
}

/// What it is made from.
pub(super) struct Look<'a> {
    pub(super) set: &'a DaemonSet,
    pub(super) rollout: &'a Rollout,
    /// Name of the wanted revision.
    pub(super) update: &'a str,
    pub(super) min_ready: SignedDuration,
    pub(super) now: Timestamp,
}

impl Look<'_> {
    fn is_updated(&self, pod: &Pod) -> bool {
        let label = pod.labels.get(names::REVISION).unwrap_or_default();
        same_revision(label, self.update)
    }

    /// One that somebody wants replaced is as good as an old one where its successor comes first.
    fn is_new(&self, pod: &Pod) -> bool {
        self.is_updated(pod) && !(self.surges() && pod.labels.contains_key(names::SPECIFIED_DELETE))
    }

    fn surges(&self) -> bool {
        resolve(&self.rollout.max_surge, 1, Round::Up) > 0
    }

    fn available(&self, pod: &Pod) -> bool {
        pod.available(self.min_ready, self.now)
    }
}

/// Of the nodes that suit.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    /// Those with a new pod.
    updated: usize,
    /// Of those, with a new pod that takes an old one's place and is not available yet.
    coming: usize,
    /// Those without a pod that stays: one comes, or another one goes first.
    vacant: usize,
}

/// An old pod that may be updated, and the node that it is on.
type Candidate<'a> = (&'a Pod, &'a Site<'a>);

impl<'a> Layout<'a> {
    pub(super) fn of(look: &Look<'_>, sites: &'a Sites<'a>) -> Self {
        let desired = sites.nodes.iter().filter(|site| site.suits.start).count();
        let rollout = look.rollout;
        let mut layout = Self {
            surges: look.surges(),
            burst: resolve(&look.set.spec.burst(), desired, Round::Down).max(1),
            limits: Limits {
                replicas: desired,
                max_unavailable: resolve(&rollout.max_unavailable, desired, Round::Up),
                max_surge: resolve(&rollout.max_surge, desired, Round::Up),
                partition: 0,
            },
            ..Self::default()
        };
        for pod in &sites.homeless {
            layout.excess.insert(pod.name().to_owned());
            // Nobody else does: the garbage collector of pods looks for those that have had a node.
            if pod.spec.node_name.is_none() && pod.target().is_some() {
                layout.leave.push((pod, Why::ScaleDown));
            }
        }
        let mut count = Count::default();
        let mut candidates = Vec::new();
        for site in &sites.nodes {
            let stand = site.stand(layout.surges, |pod| look.is_new(pod));
            match (stand.new, stand.old) {
                _ if !site.suits.start => {}
                (Some(_), None) => count.updated += 1,
                (Some(new), Some(_)) => {
                    count.updated += 1;
                    count.coming += usize::from(!look.available(new));
                }
                (None, None) => count.vacant += 1,
                // A third one would come to those that are too many.
                _ if layout.surges && stand.crowded() => {}
                (None, Some(old)) => candidates.push((old, site)),
            }
            layout.settle(look, site, stand);
        }
        if !look.rollout.on_delete {
            layout.hold_back(look, count);
        }
        layout.give_turns(look, candidates, count);
        layout
    }

    /// What becomes of the pods of one node, the update aside.
    fn settle(&mut self, look: &Look<'_>, site: &'a Site<'a>, stand: Stand<'a>) {
        let staying = stand.new.into_iter().chain(stand.old);
        if !site.suits.stay {
            let all = staying.chain(stand.more).chain(stand.prepared).chain(stand.over);
            for pod in all {
                self.let_go(pod, Why::ScaleDown);
            }
            return;
        }
        if !site.suits.start {
            // It may stay, and nobody counts on it.
            self.excess.extend(staying.map(|pod| pod.name().to_owned()));
        } else if site.pods.is_empty() || self.surges && site.pods.iter().all(|pod| pod.metadata.terminating) {
            self.bare.push(site.name);
        }
        for pod in stand.more {
            self.let_go(pod, Why::ScaleDown);
        }
        let why = |pod: &Pod| {
            if look.is_updated(pod) {
                Why::ScaleDown
            } else {
                Why::ReCreate
            }
        };
        self.prepared
            .extend(stand.prepared.into_iter().map(|pod| (pod, why(pod))));
        self.over.extend(stand.over.into_iter().map(|pod| (pod, site.name)));
        if let (Some(new), Some(old)) = (stand.new, stand.old) {
            // One that we took out of service for its deletion comes back if the new one fails meanwhile.
            let failed = !old.ready() && Drain::of(old).is_none();
            if failed || look.available(new) {
                self.let_go(old, Why::ReCreate);
            }
        }
    }

    fn let_go(&mut self, pod: &'a Pod, why: Why) {
        self.excess.insert(pod.name().to_owned());
        self.leave.push((pod, why));
    }

    /// Where the partition limits creation, too: not all nodes without a pod get one.
    fn hold_back(&mut self, look: &Look<'_>, count: Count) {
        let desired = self.limits.replicas;
        let partition = partition(look, desired);
        if partition > 0 && look.set.creates_progressively() {
            self.bare.truncate(desired.saturating_sub(count.updated + partition));
        }
    }

    /// Who is updated: those who have begun first. What somebody wants replaced is no part of the update, and waits for its successor
    /// beside it.
    fn give_turns(&mut self, look: &Look<'_>, candidates: Vec<Candidate<'a>>, count: Count) {
        let desired = self.limits.replicas;
        let asked = |(pod, _): &Candidate<'_>| self.surges && pod.labels.contains_key(names::SPECIFIED_DELETE);
        let (mut asked, mut outdated): (Vec<_>, Vec<_>) = candidates.into_iter().partition(asked);
        if let Some(wanted) = look.set.spec.updated_nodes() {
            let none = BTreeMap::new();
            outdated.retain(|(_, site)| wanted.selects(site.node.metadata.labels.as_ref().unwrap_or(&none)));
        }
        outdated.sort_by_key(|(pod, site)| (Drain::of(pod).is_none(), Reverse(site.name)));
        outdated.truncate(desired.saturating_sub(partition(look, desired) + count.updated + count.vacant));
        self.limits.partition = desired.saturating_sub(count.updated + count.vacant + outdated.len());
        if look.rollout.on_delete || look.rollout.paused {
            outdated.clear();
        }
        let places = outdated.iter().take(self.burst).enumerate();
        self.turns = places.map(|(place, (pod, _))| (pod.name().to_owned(), place)).collect();
        if self.surges {
            asked.extend(outdated);
            let (available, lost): (Vec<_>, Vec<_>) = asked.into_iter().partition(|(pod, _)| look.available(pod));
            let room = self.limits.max_surge.saturating_sub(count.coming);
            self.held = available.len().saturating_sub(room);
            let all = lost.into_iter().chain(available.into_iter().take(room));
            self.surge = all.map(|(_, site)| site.name).collect();
        }
    }
}

/// Pods to keep at old revisions. A percentage rounds down.
fn partition(look: &Look<'_>, desired: usize) -> usize {
    resolve(&look.rollout.partition, desired, Round::Down).min(desired)
}
