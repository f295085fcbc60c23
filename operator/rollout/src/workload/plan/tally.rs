//! One look at every pod: what the rest of a plan needs to know of all of them, so that it can spend its time on the few
//! that something is to be done about.

use std::collections::BTreeMap;
use std::sync::Arc;

use afloat_api::names;

use super::seen::Seen;
use crate::pod::label::same_revision;
use crate::pod::lifecycle::State;
use crate::pod::object::Pod;
use crate::workload::budget::Count;
use crate::workload::traffic::Watched;

/// How many pods stand where in a rollout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    /// At another revision than the wanted one, and in service as far as this update is concerned.
    pub outdated: usize,
    /// At another revision, out of service so that they can be changed.
    pub draining: usize,
    /// Changed, until the node runs the change and they return to service.
    pub updating: usize,
    /// At the wanted revision and not available: new ones, and those that are back and not Ready yet.
    pub starting: usize,
    /// At the wanted revision and available.
    pub available: usize,
}

/// What was counted and set aside. `count` has no wishes in it yet, only what is there.
#[derive(Debug, Default)]
pub(crate) struct Tally<'a> {
    /// Active pods that are ours, by name.
    pub(crate) pods: Vec<&'a Pod>,
    /// Of those, at another revision than the wanted one.
    pub(crate) outdated: Vec<&'a Pod>,
    /// Of those, not available, or not sent to by all nodes yet.
    pub(crate) unsettled: Vec<&'a Pod>,
    /// Of those, asked to be deleted.
    pub(crate) specified: Vec<&'a Pod>,
    /// Of those, with containers that start in an order.
    pub(crate) ordered: Vec<&'a Pod>,
    /// Nobody's, and matching the selector.
    pub(crate) orphans: Vec<&'a Pod>,
    /// Ours, and not matching the selector.
    pub(crate) strays: Vec<&'a Pod>,
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
        let uid = seen.owner.uid();
        let mut tally = Self::default();
        for pod in seen.pods.iter().map(Arc::as_ref) {
            let owner = pod.controller.as_ref().map(|owner| owner.uid.as_str());
            let selected = || seen.matcher.selects(&pod.labels);
            match owner {
                None if pod.active() && selected() => tally.orphans.push(pod),
                Some(owner) if Some(owner) == uid => match selected() {
                    true if pod.active() => tally.pods.push(pod),
                    false if !pod.metadata.terminating => tally.strays.push(pod),
                    _ => {}
                },
                _ => {}
            }
        }
        tally.pods.sort_by(|a, b| a.name().cmp(b.name()));
        let mut labels = Labels::new(update);
        for pod in std::mem::take(&mut tally.pods) {
            tally.add(pod, labels.updated(pod), seen, watched);
        }
        tally
    }

    fn add(&mut self, pod: &'a Pod, updated: bool, seen: &Seen<'_>, watched: Watched<'_>) {
        self.pods.push(pod);
        let ready = pod.ready();
        let available = ready && pod.available(seen.min_ready, seen.now);
        // The budget takes a pod that proxies do not know of yet for available: whoever learns that another one leaves has
        // learned of this one's return before. For what users are told, all of them have to send to it.
        let served = available && watched.returning(pod, seen.now).is_none();
        let specified = specified(pod, seen.pods_to_delete);
        let count = &mut self.count;
        count.total += 1;
        count.updated += usize::from(updated);
        count.available += usize::from(if watched.one_after_the_other() {
            served
        } else {
            available
        });
        count.to_delete += usize::from(specified);
        count.unavailable += usize::from(!available && !specified);
        count.leaving += usize::from(seen.excludes_leaving && State::of(pod) == State::PreparingDelete);
        self.ready += usize::from(ready);
        self.updated_ready += usize::from(updated && ready);
        self.served += usize::from(served);
        self.updated_served += usize::from(updated && served);
        if !updated {
            self.outdated.push(pod);
        }
        if !served {
            self.unsettled.push(pod);
        }
        if specified {
            self.specified.push(pod);
        }
        if pod
            .spec
            .containers
            .iter()
            .any(|container| container.environment.priority.is_some())
        {
            self.ordered.push(pod);
        }
        let gate = pod.condition(names::INPLACE_READY);
        let out = gate.is_some_and(|gate| gate.status == "False") || State::of(pod) == State::Updating;
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

/// Somebody asked for exactly this pod's deletion.
pub(super) fn specified(pod: &Pod, listed: &[String]) -> bool {
    pod.labels.contains_key(names::SPECIFIED_DELETE) || listed.iter().any(|name| name == pod.name())
}

/// Which revision labels mean the wanted one; thousands of pods share a few labels.
struct Labels<'a> {
    update: &'a str,
    known: BTreeMap<&'a str, bool>,
}

impl<'a> Labels<'a> {
    fn new(update: &'a str) -> Self {
        Self {
            update,
            known: BTreeMap::new(),
        }
    }

    fn updated(&mut self, pod: &'a Pod) -> bool {
        let update = self.update;
        let Some(label) = pod.labels.get(names::REVISION) else {
            return false;
        };
        let known = self.known.entry(label);
        *known.or_insert_with(|| same_revision(label, update))
    }
}
