//! Pods move to the update revision: which of them, and the next step of each.

use afloat_api::{PodUpdatePolicy, names};

use super::planner::Planner;
use crate::action::Why;
use crate::pod::batch::{self, Batch};
use crate::pod::change::Change;
use crate::pod::drain::{DELETION, Drain};
use crate::pod::label::revision_label;
use crate::pod::lifecycle::State;
use crate::pod::object::Pod;
use crate::pod::update::change;
use crate::workload::budget::Count;
use crate::workload::order::update_sequence;
use crate::workload::waits::Wait;

impl<'a> Planner<'a> {
    /// Moves pods to the update revision, those first that are on the way already.
    pub(crate) fn update(&mut self) {
        if self.seen.rollout.on_delete || self.seen.rollout.paused {
            return;
        }
        // Those that come need no other one to be updated in their place: the last ones in the order are left alone.
        let then = Count {
            total: self.count.total + self.coming,
            updated: self.count.updated + self.coming,
            ..self.count
        };
        let mut left = self.count.to_update();
        let replaced = left.saturating_sub(then.to_update());
        if left == 0 {
            return;
        }
        let outdated = self.tally.outdated.iter().copied();
        let old: Vec<&'a Pod> = outdated.filter(|pod| !self.specified(pod)).collect();
        let old = update_sequence(old, &self.tally.pods, self.seen.rollout);
        let (first, rest): (Vec<_>, Vec<_>) = old.into_iter().partition(|pod| self.on_the_way(pod));
        let held = self.held_by_loss();
        for pod in first.into_iter().chain(rest) {
            if left == 0 {
                break;
            }
            if self.written.contains(pod.name()) {
                continue;
            }
            if left <= replaced {
                left -= 1;
                self.stays_for_another(pod);
                continue;
            }
            if held && !self.out_of_service(pod) {
                left -= 1;
                self.waits.pod(Wait::Loss, || pod.name().to_owned());
                continue;
            }
            if self.waits_for_budget(pod) {
                left -= 1;
                self.waits.pod(Wait::Budget, || pod.name().to_owned());
                continue;
            }
            match (self.seen.rollout.policy, self.difference(pod)) {
                (PodUpdatePolicy::InPlaceOnly, Err(why)) => {
                    self.failed_update = Some(format!("pod {} cannot be updated in place: {why}", pod.name()));
                    continue;
                }
                (PodUpdatePolicy::ReCreate, _) | (PodUpdatePolicy::InPlaceIfPossible, Err(_)) => {
                    left -= 1;
                    if self.available(pod) && self.may_go == 0 || self.unproven(pod) {
                        self.waits.pod(Wait::Budget, || pod.name().to_owned());
                    } else if !self.stays_for_another(pod) {
                        self.delete(pod, Why::ReCreate);
                    }
                }
                // First back from the deletion that it was prepared for.
                (_, Ok(_)) if State::of(pod) == State::PreparingDelete => {}
                (_, Ok(change)) => {
                    left -= 1;
                    if !self.update_in_place(pod, &change) {
                        self.waits.pod(Wait::Budget, || pod.name().to_owned());
                    }
                }
            }
        }
    }

    /// Whether a pod was taken out of service for its update.
    pub(super) fn out_of_service(&self, pod: &Pod) -> bool {
        let drain = Drain::of(pod);
        drain.is_some_and(|drain| drain.revision == self.revisions.update || drain.revision == DELETION)
    }

    /// Whether a pod's update has begun.
    pub(super) fn on_the_way(&self, pod: &Pod) -> bool {
        self.out_of_service(pod) || [State::PreparingUpdate, State::PreparingDelete].contains(&State::of(pod))
    }

    /// Whether the budget is all there is to say about the pod: told before the costly comparison, as it is what most pods
    /// of a big rollout wait for.
    pub(super) fn waits_for_budget(&self, pod: &Pod) -> bool {
        let label = pod.labels.get(names::REVISION).unwrap_or_default();
        let restarts = |change: &Result<Change, String>| change.as_ref().is_ok_and(Change::touches_containers);
        self.may_go == 0
            && !(self.surge > 0 && self.left == 1)
            && self.update_hook().is_none()
            && State::of(pod) != State::PreparingDelete
            && self.available(pod)
            && Drain::of(pod).is_none()
            && self.differences.get(label).is_some_and(restarts)
    }

    /// The next step of one pod; false if the budget does not allow it now.
    pub(super) fn update_in_place(&mut self, pod: &'a Pod, wanted: &Change) -> bool {
        if let Some(granted) = self.held_from_update(pod) {
            return granted;
        }
        let revision = self.revisions.update.clone();
        if self.stays_in_service(pod, wanted) {
            // What restarts or resizes counts against the budget, though the pod stays in service for it.
            let touches = !wanted.containers().is_empty();
            if touches && self.stays_for_another(pod) {
                return true;
            }
            if touches && !self.spend(pod) {
                return false;
            }
            self.apply(pod, &batch::first(pod, wanted), &revision, touches);
            return true;
        }
        match Drain::of(pod).filter(|drain| drain.revision == revision) {
            None => {
                if self.stays_for_another(pod) {
                    return true;
                }
                let serves = self.available(pod);
                if !self.spend(pod) {
                    return false;
                }
                if serves && self.left == 0 {
                    self.warn_of_the_last(pod);
                }
                self.take_out(pod, &revision);
            }
            Some(drain) if self.held_by_drain(pod, &drain) => {}
            Some(_) => self.apply(pod, &batch::first(pod, wanted), &revision, false),
        }
        true
    }

    /// Whether nothing of the change needs the pod out of service: nothing restarts, or only what serves no traffic; or
    /// the pod has no gate that could take it out.
    pub(super) fn stays_in_service(&self, pod: &Pod, change: &Change) -> bool {
        let template = self.seen.owner.template;
        let quiet = |name: &&String| batch::serves_no_traffic(template, name);
        !pod.has_gate(names::INPLACE_READY) || batch::restarting(pod, change).iter().all(quiet)
    }

    /// In place with nobody else to serve: lossy by construction, and nothing here can help.
    pub(super) fn warn_of_the_last(&mut self, pod: &Pod) {
        let message = format!(
            "pod {} is the last available one and is updated in place: requests are lost until it is back; allow \
             updateStrategy.rollingUpdate.maxSurge or more replicas",
            pod.name()
        );
        self.waits.say(message.clone());
        self.warnings.push(("LastAvailablePod", message));
    }

    /// The write that changes the pod. `in_service`: its gate does not say that it is being updated, so its state does.
    pub(super) fn apply(&mut self, pod: &'a Pod, batch: &Batch, revision: &str, in_service: bool) {
        let updating = in_service || self.moves_on(pod);
        let named = (revision, revision_label(revision, self.seen.gates));
        let action = change(pod, batch, named, updating, self.seen.nodes, self.seen.now);
        self.write(pod, action);
    }

    /// Whether the write of the images also moves the pod's life on: where the write that opens its gate moves it on again,
    /// or a hook looks at it, or did. What is changed in service without a hook would need a write of its own for that.
    pub(super) fn moves_on(&self, pod: &Pod) -> bool {
        let hooked = [State::PreparingUpdate, State::Updating, State::Updated];
        let out = pod
            .condition(names::INPLACE_READY)
            .is_some_and(|gate| gate.status == "False");
        out || self.update_hook().is_some() || hooked.contains(&State::of(pod))
    }
}
