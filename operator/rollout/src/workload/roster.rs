//! The pods of a workload, in order of their names, each with what every plan asks of every pod.
//!
//! Hundreds of plans are made while a few pods change, and each pod lies somewhere else in the memory. So what is counted is
//! worked out once for each version of a pod and stands in a row; a plan walks the row and looks up only the pods that something is
//! to be done about. Whoever keeps a roster tells it which pods have changed. It holds nothing that the pods do not say:
//! one that was told of each change is equal to one that is made anew.

use std::collections::BTreeMap;
use std::sync::Arc;

use afloat_api::{Matcher, names};
use jiff::{SignedDuration, Timestamp};

use super::order::Standing;
use crate::pod::drain::Drain;
use crate::pod::lifecycle::State;
use crate::pod::object::{Pod, Readiness};

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Roster {
    owner: Option<String>,
    matcher: Matcher,
    members: Vec<Member>,
    /// Revision labels that a pod has, or had.
    labels: Vec<Arc<str>>,
}

/// Labels that are kept although perhaps no pod has them any more.
const LABELS: usize = 64;

/// What a pod is to the workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relation {
    /// One of its pods, and active.
    Ours,
    /// One of its pods, and on its way out or over.
    Leaving,
    /// It controls it, but does not select it.
    Stray,
    /// Selected, and nobody's.
    Orphan,
    /// Nothing.
    Stranger,
}

/// A pod, and what is asked of each.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pod: Arc<Pod>,
    pub(crate) relation: Relation,
    /// Place of its revision label among the roster's labels; None where it has none.
    pub(crate) label: Option<u16>,
    pub(crate) standing: Standing,
    pub(crate) state: State,
    readiness: Readiness,
    /// Ready, and nothing that the node says of a container or a hook speaks against it.
    serves: bool,
    pub(crate) ready: bool,
    /// Somebody asked by a label for its deletion.
    pub(crate) specified: bool,
    /// An eviction of it waits for its replacement.
    pub(crate) evicted: bool,
    /// Containers start in an order.
    pub(crate) ordered: bool,
    /// Its gate says that it is out of service.
    pub(crate) gate_closed: bool,
    /// The gate was closed by us, and says what for.
    pub(crate) drains: bool,
}

impl Member {
    /// The pod.
    pub(crate) fn pod(&self) -> &Pod {
        &self.pod
    }

    /// When it became Ready last.
    pub(crate) fn ready_since(&self) -> Option<Timestamp> {
        self.readiness.ready
    }

    /// As [`Pod::available`] says.
    pub(crate) fn available(&self, min_ready: SignedDuration, now: Timestamp) -> bool {
        self.serves && self.readiness.held_in(min_ready, now).is_none()
    }
}

impl Roster {
    /// Of nobody's pods yet. `matcher` is what the workload selects.
    pub fn new(owner: Option<&str>, matcher: Matcher) -> Self {
        Self {
            owner: owner.map(str::to_owned),
            matcher,
            ..Self::default()
        }
    }

    /// Of these pods, in any order; of several with one name the last one counts.
    #[must_use]
    pub fn with(mut self, pods: impl IntoIterator<Item = Arc<Pod>>) -> Self {
        let pods = pods.into_iter().map(|pod| (pod.metadata.name.shared(), Some(pod)));
        self.take(pods.collect());
        self
    }

    /// Whether it is that of a workload with this UID that selects this.
    pub fn fits(&self, owner: Option<&str>, matcher: &Matcher) -> bool {
        self.owner.as_deref() == owner && self.matcher == *matcher
    }

    /// Takes in what has changed: by name, the pod as it is, or None if it is gone.
    pub fn take(&mut self, changes: BTreeMap<Arc<str>, Option<Arc<Pod>>>) {
        if self.labels.len() > LABELS {
            self.count_labels_anew();
        }
        let mut coming = Vec::new();
        let mut gone = Vec::new();
        for (name, pod) in changes {
            match (self.place(&name), pod) {
                (Ok(place), Some(pod)) => self.members[place] = self.member(pod),
                (Ok(place), None) => gone.push(place),
                (Err(place), Some(pod)) => coming.push((place, self.member(pod))),
                (Err(_), None) => {}
            }
        }
        if !(coming.is_empty() && gone.is_empty()) {
            self.merge(coming, &gone);
        }
    }

    /// One pass for all that come and go, places being those of before; each is in order.
    fn merge(&mut self, coming: Vec<(usize, Member)>, gone: &[usize]) {
        let mut merged = Vec::with_capacity(self.members.len() + coming.len() - gone.len());
        let mut coming = coming.into_iter().peekable();
        let mut gone = gone.iter().peekable();
        for (place, member) in std::mem::take(&mut self.members).into_iter().enumerate() {
            while let Some((_, new)) = coming.next_if(|(before, _)| *before == place) {
                merged.push(new);
            }
            if gone.next_if(|other| **other == place).is_none() {
                merged.push(member);
            }
        }
        merged.extend(coming.map(|(_, new)| new));
        self.members = merged;
    }

    fn count_labels_anew(&mut self) {
        let labels = std::mem::take(&mut self.labels);
        for index in 0..self.members.len() {
            let label = self.members[index]
                .label
                .and_then(|label| labels.get(usize::from(label)));
            self.members[index].label = label.and_then(|label| self.label(label));
        }
    }

    fn label(&mut self, text: &str) -> Option<u16> {
        let known = self.labels.iter().position(|known| **known == *text);
        let place = known.unwrap_or_else(|| {
            self.labels.push(text.into());
            self.labels.len() - 1
        });
        u16::try_from(place).ok()
    }

    fn place(&self, name: &str) -> Result<usize, usize> {
        self.members.binary_search_by(|member| member.pod.name().cmp(name))
    }

    fn member(&mut self, pod: Arc<Pod>) -> Member {
        let label = pod.labels.get(names::REVISION).and_then(|label| self.label(label));
        let gate = pod.condition(names::INPLACE_READY);
        let prioritised = |containers: &[crate::pod::object::Container]| {
            let mut all = containers.iter();
            all.any(|container| container.environment.priority.is_some())
        };
        let ready = pod.ready();
        Member {
            relation: self.relation(&pod),
            label,
            standing: Standing::of(&pod),
            state: State::of(&pod),
            readiness: pod.readiness(),
            serves: pod.active() && ready && pod.in_normal_state() && pod.steady(),
            ready,
            specified: pod.labels.contains_key(names::SPECIFIED_DELETE),
            evicted: pod.annotations.contains_key(names::EVICTION_WAITS),
            ordered: prioritised(&pod.spec.containers),
            gate_closed: gate.is_some_and(|gate| gate.status == "False"),
            drains: Drain::of(&pod).is_some(),
            pod,
        }
    }

    fn relation(&self, pod: &Pod) -> Relation {
        let owner = pod.controller.as_ref().map(|owner| owner.uid.as_str());
        let selected = || self.matcher.selects(&pod.labels);
        match owner {
            None if pod.active() && selected() => Relation::Orphan,
            Some(owner) if Some(owner) == self.owner.as_deref() => match pod.active() {
                true if selected() => Relation::Ours,
                true => Relation::Stray,
                false if selected() || pod.metadata.terminating => Relation::Leaving,
                false => Relation::Stray,
            },
            _ => Relation::Stranger,
        }
    }

    /// All pods, those of nobody included, in order of their names.
    pub fn pods(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.members.iter().map(|member| &member.pod)
    }

    /// Pods whose gate says that they are out of service.
    pub fn out_of_service(&self) -> impl Iterator<Item = &Arc<Pod>> {
        let closed = self.members.iter().filter(|member| member.gate_closed);
        closed.map(|member| &member.pod)
    }

    /// The pod of that name.
    pub fn find(&self, name: &str) -> Option<&Arc<Pod>> {
        self.place(name).ok().map(|place| &self.members[place].pod)
    }

    /// The one of that name.
    pub(crate) fn member_of(&self, name: &str) -> Option<&Member> {
        self.place(name).ok().map(|place| &self.members[place])
    }

    /// All of them.
    pub(crate) fn members(&self) -> &[Member] {
        &self.members
    }

    /// The revision labels that [`Member::label`] speaks of.
    pub(crate) fn labels(&self) -> &[Arc<str>] {
        &self.labels
    }
}

#[cfg(test)]
mod tests;
