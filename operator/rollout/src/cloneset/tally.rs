//! One look at every pod: what the rest of a plan needs to know of all of them, so that it can spend its time on the few
//! that something is to be done about.

use std::collections::BTreeMap;
use std::sync::Arc;

use afloat_api::{CloneSetStatus, Matcher, names};
use jiff::{SignedDuration, Timestamp};

use super::plan::Observed;
use super::report::Phases;
use crate::pod::lifecycle::state;
use crate::pod::object::{Pod, same_revision};
use crate::workload::budget::Count;
use crate::workload::traffic::Watched;

/// What was counted and set aside. `count` has no wishes in it yet, only what is there.
#[derive(Debug, Default)]
pub(super) struct Tally<'a> {
    /// Active pods that are ours, by name.
    pub(super) pods: Vec<&'a Pod>,
    /// Of those, at another revision than the wanted one.
    pub(super) outdated: Vec<&'a Pod>,
    /// Of those, not available, or not sent to by all nodes yet.
    pub(super) unsettled: Vec<&'a Pod>,
    /// Of those, asked to be deleted.
    pub(super) specified: Vec<&'a Pod>,
    /// Of those, with containers that start in an order.
    pub(super) ordered: Vec<&'a Pod>,
    /// Nobody's, and matching the selector.
    pub(super) orphans: Vec<&'a Pod>,
    /// Ours, and not matching the selector.
    pub(super) strays: Vec<&'a Pod>,
    pub(super) count: Count,
    pub(super) phases: Phases,
    ready: usize,
    updated_ready: usize,
    served: usize,
    updated_served: usize,
}

impl<'a> Tally<'a> {
    /// Looks. `update` is the wanted revision.
    pub(super) fn take(
        seen: &Observed<'a>,
        matcher: &Matcher,
        update: &str,
        min_ready: SignedDuration,
        watched: Watched<'_>,
    ) -> Self {
        let uid = seen.cloneset.metadata.uid.as_deref();
        let mut tally = Self::default();
        for pod in seen.pods.iter().map(Arc::as_ref) {
            let owner = pod.controller.as_ref().map(|owner| owner.uid.as_str());
            let selected = || matcher.selects(&pod.labels);
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
        let asked = seen.cloneset.spec.scale_strategy.as_ref();
        let listed = asked.map_or(&[][..], |strategy| strategy.pods_to_delete.as_slice());
        let excludes_leaving = seen.cloneset.excludes_preparing_delete();
        let mut labels = Labels::new(update);
        for pod in std::mem::take(&mut tally.pods) {
            tally.add(
                pod,
                labels.updated(pod),
                listed,
                excludes_leaving,
                (min_ready, watched, seen.now),
            );
        }
        tally
    }

    fn add(
        &mut self,
        pod: &'a Pod,
        updated: bool,
        listed: &[String],
        excludes_leaving: bool,
        (min_ready, watched, now): (SignedDuration, Watched<'_>, Timestamp),
    ) {
        self.pods.push(pod);
        let ready = pod.ready();
        let available = ready && pod.available(min_ready, now);
        // The budget takes a pod that proxies do not know of yet for available: whoever learns that another one leaves has
        // learned of this one's return before. For what users are told, all of them have to send to it.
        let served = available && watched.returning(pod, now).is_none();
        let specified = super::plan::specified(pod, listed);
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
        count.leaving += usize::from(excludes_leaving && state(pod) == names::STATE_PREPARING_DELETE);
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
        let out = gate.is_some_and(|gate| gate.status == "False") || state(pod) == names::STATE_UPDATING;
        let place = match (updated, out) {
            (false, false) => &mut self.phases.outdated,
            (false, true) => &mut self.phases.draining,
            (true, true) => &mut self.phases.updating,
            (true, false) if served => &mut self.phases.available,
            (true, false) => &mut self.phases.starting,
        };
        *place += 1;
    }

    /// The counters of a status.
    pub(super) fn report(&self, status: &mut CloneSetStatus) {
        let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
        status.replicas = number(self.count.total);
        status.ready_replicas = number(self.ready);
        status.available_replicas = number(self.served);
        status.updated_replicas = number(self.count.updated);
        status.updated_ready_replicas = number(self.updated_ready);
        status.updated_available_replicas = number(self.updated_served);
    }
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
