//! A pod for each ordinal, and none elsewhere. With OrderedReady one after the other: none is created before all before it are available, and
//! none is deleted before all after it are gone. With Parallel nobody waits for anybody, but for `scaleStrategy.maxUnavailable`.

use std::collections::BTreeMap;

use afloat_api::names;
use jiff::SignedDuration;

use super::ordinals::{Ordinal, pod_name};
use super::places::Place;
use super::planner::StatefulSetPlanner;
use crate::action::patch::PodPatch;
use crate::action::{Action, Why};
use crate::pod::object::Pod;
use crate::workload::budget::{Round, resolve};
use crate::workload::plan::planner::BURST;
use crate::workload::roster::{Member, Relation};
use crate::workload::waits::Wait;

/// Least time from the creation of a pod to that of the next one in its place. Where a node refuses it (no port is free, no disk) pods would
/// else come and go as fast as everybody can write.
const REST: SignedDuration = SignedDuration::from_secs(5);

impl<'a> StatefulSetPlanner<'a> {
    /// Creates what is missing. Gives whether something of what is wanted is not there yet, so that with OrderedReady no other pod may
    /// be deleted.
    pub(super) fn fill(&mut self) -> bool {
        let ordered = !self.seen.set.spec.parallel();
        let mut room = self.creations();
        let mut missing = Vec::new();
        let mut old = self
            .wishes
            .places
            .wanted
            .iter()
            .filter(|place| self.is_old(place))
            .count();
        let mut halted = false;
        for (index, place) in self.wishes.places.wanted.iter().enumerate() {
            let free = match place.member {
                None => self.free(place.ordinal),
                Some(member) => {
                    self.see_off(member);
                    halted |= self.halts(member);
                    false
                }
            };
            if free && room > 0 {
                let keeps = self.keeps_old(index, old);
                old += usize::from(keeps);
                missing.push((place.ordinal, keeps));
                room -= 1;
            }
            halted |= place.member.is_none();
            if ordered && halted {
                break;
            }
        }
        if !missing.is_empty()
            && let Err(why) = self.create(&missing)
        {
            self.failed_create = Some(format!("StatefulPodControl failed to create Pod error: {why}"));
        }
        halted
    }

    /// Pods that may be created in this plan.
    fn creations(&mut self) -> usize {
        let spec = &self.seen.set.spec;
        let asked = spec
            .scale_strategy
            .as_ref()
            .and_then(|strategy| strategy.max_unavailable.as_ref());
        let Some(limit) = asked.filter(|_| spec.parallel()) else {
            return BURST;
        };
        let replicas = spec.replicas();
        let limit = resolve(limit, replicas, Round::Down).max(1);
        let (mut missing, mut unavailable) = (0, 0);
        for place in &self.wishes.places.wanted {
            missing += usize::from(place.member.is_none());
            let there = place.member.is_some();
            unavailable += usize::from(there && !place.pod().is_some_and(|pod| self.base.available(pod)));
        }
        let allowed = limit.saturating_sub(unavailable);
        if allowed < missing {
            self.base.waits.say(format!(
                "{} pods to create wait for scaleStrategy.maxUnavailable",
                missing - allowed
            ));
        }
        allowed.min(BURST)
    }

    /// Whether a new pod at a place is to be at the revision that all pods had last. `old`: how many others are or will be.
    fn keeps_old(&self, index: usize, old: usize) -> bool {
        let partition = self.base.count.partition;
        let before = if self.seen.set.spec.unordered().is_some() {
            old
        } else {
            index
        };
        !self.wishes.rollout.on_delete && before < partition
    }

    fn is_old(&self, place: &Place<'_>) -> bool {
        place.pod().is_some_and(|pod| !self.base.updated(pod))
    }

    /// Whether nothing that is left of an earlier pod keeps a new one at this ordinal from being created.
    fn free(&mut self, ordinal: Ordinal) -> bool {
        let Some(obstacle) = self.wishes.claims.obstacle(ordinal) else {
            return true;
        };
        let pod = pod_name(self.base.seen.owner.name(), ordinal);
        self.base.waits.pod(Wait::Claim, || format!("{pod}: {obstacle}"));
        false
    }

    /// A pod that is over and that nobody deletes would keep its name for ever.
    fn see_off(&mut self, member: &'a Member) {
        let pod = member.pod();
        if member.relation == Relation::Ours {
            return;
        }
        self.base.waits.pod(Wait::Predecessor, || pod.name().to_owned());
        if member.relation != Relation::Leaving || pod.metadata.terminating {
            return;
        }
        let until = pod.metadata.created.and_then(|created| created.checked_add(REST).ok());
        match until.filter(|until| *until > self.base.seen.now) {
            Some(until) => self.base.wake(until),
            None => self.base.delete(pod, Why::Finished),
        }
    }

    /// Whether those after it have to wait, in an order.
    fn halts(&mut self, member: &'a Member) -> bool {
        let pod = member.pod();
        let there = member.relation == Relation::Ours;
        if there && self.base.available(pod) {
            return false;
        }
        if there && !self.seen.set.spec.parallel() {
            self.base.waits.pod(Wait::Order, || pod.name().to_owned());
        }
        true
    }

    /// Deletes pods at ordinals that are not wanted.
    pub(super) fn delete_condemned(&mut self, halted: bool) {
        let condemned = &self.wishes.places.condemned;
        if self.seen.set.spec.parallel() {
            for (ordinal, member) in condemned {
                self.condemn(*ordinal, member);
            }
            return;
        }
        let Some((ordinal, last)) = condemned.first() else {
            return;
        };
        // One that does not work is waited for, as it may be repaired, unless it is the first of them; one of another revision than the wanted
        // one nobody will repair.
        let stuck = |member: &Member| {
            let available = member.relation == Relation::Ours && self.base.available(member.pod());
            !available && self.base.updated(member.pod())
        };
        let first = condemned.iter().rev().find(|(_, member)| stuck(member));
        let waits = stuck(last) && first.is_some_and(|(first, _)| first != ordinal);
        if halted || waits || last.pod().metadata.terminating {
            self.base.waits.pod(Wait::ScaleDown, || last.pod().name().to_owned());
            return;
        }
        self.condemn(*ordinal, last);
    }

    fn condemn(&mut self, ordinal: Ordinal, member: &'a Member) {
        let pod = member.pod();
        if pod.metadata.terminating {
            return;
        }
        // Who is to inherit its claims has to be told of it before it goes.
        if self.wishes.claims.owner_edits(ordinal, pod, false).next().is_some() {
            return;
        }
        let over = member.relation == Relation::Leaving;
        self.base.delete(pod, if over { Why::Finished } else { Why::ScaleDown });
    }

    /// Labels by which a pod is found, also on pods that were not made by a StatefulSet.
    pub(super) fn keep_identities(&mut self) {
        for place in &self.wishes.places.wanted {
            let Some(pod) = place.pod() else { continue };
            if self.base.written.contains(pod.name()) || pod.labels.get(names::POD_NAME) == Some(pod.name()) {
                continue;
            }
            let mut labels = BTreeMap::from([(names::POD_NAME.to_owned(), Some(pod.name().to_owned()))]);
            if self.gates().pod_index {
                labels.insert(names::POD_INDEX.to_owned(), Some(place.ordinal.to_string()));
            }
            let action = Action::PatchPod {
                at: pod.at(),
                patch: PodPatch {
                    labels,
                    ..PodPatch::default()
                },
                why: Why::Identity,
            };
            self.base.write(pod, action);
        }
    }

    /// Claims of pods that wait for them, and whose claims are whose.
    pub(super) fn keep_claims(&mut self) {
        let claims = &self.wishes.claims;
        if claims.none() {
            return;
        }
        let mut actions = Vec::new();
        for place in &self.wishes.places.wanted {
            let Some(pod) = place.pod() else { continue };
            if waits_for_node(pod) {
                actions.extend(claims.missing(place.ordinal));
            }
            actions.extend(claims.owner_edits(place.ordinal, pod, true));
        }
        for (ordinal, member) in &self.wishes.places.condemned {
            actions.extend(claims.owner_edits(*ordinal, member.pod(), false));
        }
        self.base.actions.extend(actions);
    }
}

fn waits_for_node(pod: &Pod) -> bool {
    pod.status.phase == "Pending"
}
