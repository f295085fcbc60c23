//! Pods move to the update revision: which of them, and the next step of each.

use std::collections::BTreeMap;

use afloat_api::{Operation, PodUpdatePolicy, names};
use jiff::SignedDuration;
use serde_json::Value;

use super::planner::{BURST, Planner};
use super::queue::Queue;
use crate::action::Why;
use crate::pod::batch::{self, Batch};
use crate::pod::change::Change;
use crate::pod::drain::{DELETION, Drain};
use crate::pod::lifecycle::State;
use crate::pod::object::Pod;
use crate::pod::update::{Named, change};
use crate::workload::budget::Count;
use crate::workload::roster::Member;
use crate::workload::waits::Wait;

/// Between two looks at what nodes have pulled.
const PREWARM_LOOK: SignedDuration = SignedDuration::from_secs(1);

impl<'a> Planner<'a> {
    /// Moves pods to the update revision, those first that are on the way already.
    pub(crate) fn update(&mut self) {
        if self.seen.rollout.on_delete || self.seen.rollout.paused {
            return;
        }
        self.room = BURST;
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
        let held = self.held_by_loss();
        let mut queue = Queue::of(self);
        let (mut told, mut behind) = (false, false);
        while left > 0 {
            if self.room == 0 {
                self.postpone(queue, left);
                return;
            }
            if !told && replaced == 0 && !held && queue.len() <= left && self.budget_is_spent() {
                // Most pods of a big rollout.
                let (waiting, first) = queue.take_out(|member| self.waits_for_budget(member));
                self.waits.pods(Wait::Budget, waiting, || {
                    first.map(|member| member.pod().name().to_owned())
                });
                left -= waiting;
                told = true;
                continue;
            }
            let Some(member) = queue.next() else { break };
            let pod = member.pod();
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
            if self.waits_for_budget(member) {
                left -= 1;
                self.waits.pod(Wait::Budget, || pod.name().to_owned());
                continue;
            }
            if self.waits_for_image(pod, &mut behind) {
                left -= 1;
                continue;
            }
            left -= usize::from(self.step(pod));
        }
    }

    /// The next step of one pod to the update revision; false if it is none of those that are to move.
    pub(crate) fn step(&mut self, pod: &'a Pod) -> bool {
        let difference = self.difference(pod);
        // Nothing restarts for it, so it is done in place under every policy.
        let notes = difference.as_ref().is_ok_and(Change::only_notes);
        let policy = if notes {
            PodUpdatePolicy::InPlaceIfPossible
        } else {
            self.seen.rollout.policy
        };
        match (policy, difference) {
            (PodUpdatePolicy::InPlaceOnly, Err(why)) => {
                self.failed_update = Some(format!("pod {} cannot be updated in place: {why}", pod.name()));
                return false;
            }
            (PodUpdatePolicy::ReCreate, _) | (PodUpdatePolicy::InPlaceIfPossible, Err(_)) => {
                if self.available(pod) && self.nothing_may_go() || self.unproven(pod) {
                    self.waits.pod(Wait::Budget, || pod.name().to_owned());
                } else if !self.stays_for_another(pod) {
                    self.delete(pod, Why::ReCreate);
                }
            }
            // First back from the deletion that it was prepared for.
            (_, Ok(_)) if State::of(pod) == State::PreparingDelete => return false,
            (_, Ok(change)) => {
                if !self.update_in_place(pod, &change) {
                    self.waits.pod(Wait::Budget, || pod.name().to_owned());
                }
            }
        }
        true
    }

    /// Leaves the rest to the next plan. In this one nobody decides about those that are to move.
    fn postpone(&mut self, mut queue: Queue<'a>, left: usize) {
        self.wake(self.seen.now);
        for _ in 0..left {
            let Some(member) = queue.next() else { break };
            if !member.available(self.seen.min_ready, self.seen.now) {
                self.written.insert(member.pod().name());
            }
        }
    }

    /// Whether a pod was taken out of service for its update.
    pub(super) fn out_of_service(&self, pod: &Pod) -> bool {
        let drain = Drain::of(pod);
        drain.is_some_and(|drain| drain.revision == self.revisions.update || drain.revision == DELETION)
    }

    /// Whether a pod's update has begun.
    pub(super) fn on_the_way(&self, member: &Member) -> bool {
        let prepares = [State::PreparingUpdate, State::PreparingDelete].contains(&member.state);
        prepares || member.drains && self.out_of_service(member.pod())
    }

    /// Whether no pod that serves may be touched any more.
    fn budget_is_spent(&self) -> bool {
        self.nothing_may_go() && !(self.surge > 0 && self.left == 1) && self.update_hook().is_none()
    }

    /// Whether the budget is all there is to say about the pod: told before the costly comparison, as it is what most pods
    /// of a big rollout wait for.
    fn waits_for_budget(&self, member: &Member) -> bool {
        self.budget_is_spent()
            && member.state != State::PreparingDelete
            && member.available(self.seen.min_ready, self.seen.now)
            && !member.drains
            && member.label.is_some_and(|label| self.restarting[usize::from(label)])
    }

    /// The next step of an update in place; false if the budget does not allow it now.
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
            let operation = if batch::restarting(pod, wanted).is_empty() {
                Operation::Resize
            } else {
                Operation::Update
            };
            if touches && !self.spend(pod, operation) {
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
                if !self.spend(pod, Operation::Update) {
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

    /// Whether a pod stays where it is as its node has not got an image that is required; or, where there is an order, as the one
    /// before it stays for that (`behind`).
    fn waits_for_image(&mut self, pod: &Pod, behind: &mut bool) -> bool {
        let leaves = self.out_of_service(pod) || State::of(pod) == State::PreparingDelete;
        if !self.seen.owner.requires_images || leaves {
            return false;
        }
        let why = self.lacks_image(pod);
        if why.is_none() && !*behind {
            return false;
        }
        *behind |= self.seen.in_order;
        // What nodes tell asks for no round.
        if let Ok(at) = self.seen.now.checked_add(PREWARM_LOOK) {
            self.wake(at);
        }
        let why = why.unwrap_or_else(|| format!("{} after others", pod.name()));
        self.waits.pod(Wait::Prewarm, || why);
        true
    }

    /// Which image of those that are wanted the pod's node has not got, and why.
    fn lacks_image(&self, pod: &Pod) -> Option<String> {
        let node = pod.spec.node_name.as_deref()?;
        let images = match (self.seen.rollout.policy, self.difference(pod)) {
            (PodUpdatePolicy::InPlaceOnly | PodUpdatePolicy::InPlaceIfPossible, Ok(change)) => change.images,
            (PodUpdatePolicy::InPlaceOnly, Err(_)) => return None,
            // The next one may come to any other node.
            _ if !self.seen.keeps_nodes => return None,
            _ => other_images(pod, self.seen.owner.template),
        };
        let known = self.seen.nodes.get(node);
        let lacking = images.values().find_map(|image| {
            let why = known.map_or(Some("nothing is known of the node"), |known| known.node.lacks(image));
            Some((image, why?))
        });
        lacking.map(|(image, why)| format!("{image} for {} on {node}: {why}", pod.name()))
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
        let lives = self.seen.brings_to_life || State::of(pod) != State::None;
        let updating = lives && (in_service || self.moves_on(pod));
        let named = Named::by(self.seen.owner.naming, revision, self.seen.gates);
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

/// Images of the template's containers that the pod's have not, by container.
fn other_images(pod: &Pod, template: &Value) -> BTreeMap<String, String> {
    let containers = template.pointer("/spec/containers").and_then(Value::as_array);
    let text = |container: &Value, key: &str| container[key].as_str().unwrap_or_default().to_owned();
    let all = containers
        .into_iter()
        .flatten()
        .map(|container| (text(container, "name"), text(container, "image")));
    let has = |name: &str, image: &str| {
        let mut own = pod.spec.containers.iter();
        own.any(|container| *container.name == *name && *container.image == *image)
    };
    all.filter(|(name, image)| !has(name, image)).collect()
}
