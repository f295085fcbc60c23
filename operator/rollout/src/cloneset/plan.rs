//! CloneSet: what to do next. The idea of the whole product in one function, [`plan`].
//!
//! A pod moves to the new revision in three writes: out of service (the readiness gate False), changed (images, labels,
//! record), back in service (the gate True) once the node runs the containers from the new spec. Nothing is remembered
//! between two plans; where a pod stands is read off the pod.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use afloat_api::{CloneSet, CloneSetStatus, InPlaceUpdateState, PodUpdatePolicy, Rollout, UpdateSpec, names};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::ControllerRevision;
use serde_json::Value;

use super::history::{self, Revisions};
use super::record::{Record, Recorded};
use super::report::Phases;
use super::tally::Tally;
use super::waits::{Wait, Waits};
use crate::action::{Action, Why};
use crate::cloneset::claim::{ById, Claim};
use crate::pod::batch::{self, Batch};
use crate::pod::images::Nodes;
use crate::pod::inplace::{Change, compare};
use crate::pod::launch::Opened;
use crate::pod::object::{Pod, same_revision};
use crate::pod::state::{DELETION, Drain, change};
use crate::workload::budget::{Count, Round, max_unavailable, partition, resolve};
use crate::workload::order::update_sequence;
use crate::workload::traffic::{Traffic, Watched};

/// Writes to pods that one plan asks for at most: what comes after is decided on what came of these, and the memory for
/// thousands of patches is never needed at once. It is the number that Kubernetes' ReplicaSet creates at once.
pub(super) const BURST: usize = 500;

/// What is seen of one CloneSet.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// The object itself.
    pub cloneset: &'a CloneSet,
    /// Pods that it controls, and orphans in its namespace, in any order.
    pub pods: &'a [Arc<Pod>],
    /// Revisions that it controls.
    pub revisions: &'a [Arc<ControllerRevision>],
    /// Volume claims that it controls.
    pub claims: &'a [Arc<Claim>],
    /// The time.
    pub now: Timestamp,
    /// Any number; names of new pods are made from it.
    pub seed: u64,
    /// By pod uid, when a write that took the pod out of service was answered, as far as that is known. A write may be
    /// under way for long; a quiet period begins when it has taken effect, not when it was decided.
    pub drained: &'a BTreeMap<String, Timestamp>,
    /// The nodes of pods that are out of service, as far as they are known.
    pub nodes: &'a Nodes,
    /// How far pods with a launch priority were let start.
    pub opened: &'a Opened,
    /// What the nodes' proxies do.
    pub traffic: &'a Traffic,
    /// Whether the cluster has the `resize` subresource of pods (Kubernetes 1.33 and later have).
    pub resizes: bool,
    /// Reports of rollouts; None where the cluster keeps none.
    pub recorded: Option<Recorded<'a>>,
}

/// What to do.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Writes, independent of each other; any of them may fail or be left out.
    pub actions: Vec<Action>,
    /// The status to report.
    pub status: CloneSetStatus,
    /// When to plan again even if nothing happens.
    pub wake_at: Option<Timestamp>,
    /// Things worth an event: type Warning, reason, message.
    pub warnings: Vec<(&'static str, String)>,
    /// The same, of type Normal.
    pub news: Vec<(&'static str, String)>,
    /// Where the pods stand.
    pub phases: Phases,
    /// What proxies do next changes what is to be done: look again when a report comes.
    pub observes: bool,
}

/// Decides.
pub fn plan(seen: &Observed<'_>) -> Plan {
    let set = seen.cloneset;
    if set.metadata.deletion_timestamp.is_some() {
        return Plan {
            status: set.status.clone(),
            ..Plan::default()
        };
    }
    let revisions = match history::resolve(set, seen.revisions) {
        history::Found::Known(revisions) => *revisions,
        history::Found::Missing { body, collisions } => {
            let mut status = set.status.clone();
            status.collision_count = Some(collisions);
            return Plan {
                actions: vec![Action::CreateRevision { body }],
                status,
                ..Plan::default()
            };
        }
    };
    let mut planner = Planner::new(seen, revisions);
    let record = planner.record.as_ref();
    let back = record.and_then(|record| record.goes_back(seen, &planner.revisions.update));
    let Some((revision, template)) = back else {
        planner.decide();
        return planner.finish(None);
    };
    // Everything is done as if the old template were wanted, and told as what it is.
    let mut set = seen.cloneset.clone();
    set.spec.template = template.clone();
    set.spec.keep_no_pods_back();
    let seen = Observed {
        cloneset: &set,
        recorded: None,
        ..*seen
    };
    let mut other = Planner::new(&seen, Revisions::only(revision));
    other.decide();
    let done = other.all_updated();
    planner.take_over(other);
    planner.finish(Some(done))
}

pub(super) struct Planner<'a> {
    pub(super) seen: &'a Observed<'a>,
    pub(super) rollout: Rollout,
    pub(super) revisions: Revisions,
    /// By revision label of the pods that are not updated: what has to change.
    pub(super) differences: BTreeMap<String, Result<Change, String>>,
    pub(super) claims: ById<'a>,
    pub(super) watched: Watched<'a>,
    pub(super) record: Option<Record<'a>>,
    pub(super) observes: bool,
    pub(super) min_ready: SignedDuration,
    pub(super) tally: Tally<'a>,
    /// Pods that this plan already writes; each is written at most once.
    pub(super) written: BTreeSet<&'a str>,
    /// Available pods that may still be taken out of service.
    pub(super) may_go: usize,
    /// Available pods that this plan leaves.
    pub(super) left: usize,
    /// Pods beyond `replicas` that are useful now.
    pub(super) surge: usize,
    pub(super) count: Count,
    pub(super) actions: Vec<Action>,
    pub(super) wake_at: Option<Timestamp>,
    pub(super) waits: Waits,
    pub(super) warnings: Vec<(&'static str, String)>,
    pub(super) news: Vec<(&'static str, String)>,
    pub(super) failed_scale: Option<String>,
    pub(super) failed_update: Option<String>,
}

/// Compares the update revision with each revision that pods still have; once per revision, as it is costly.
fn differences(seen: &Observed<'_>, outdated: &[&Pod]) -> BTreeMap<String, Result<Change, String>> {
    let mut found = BTreeMap::new();
    for pod in outdated {
        let Some(label) = pod
            .labels
            .get(names::REVISION)
            .filter(|label| !found.contains_key(*label))
        else {
            continue;
        };
        let named = |revision: &&Arc<ControllerRevision>| {
            revision
                .metadata
                .name
                .as_deref()
                .is_some_and(|name| same_revision(label, name))
        };
        let Some(old) = seen
            .revisions
            .iter()
            .find(named)
            .and_then(|revision| crate::workload::revision::template(revision))
        else {
            continue;
        };
        let change = compare(old, &seen.cloneset.spec.template).map_err(|obstacle| format!("{} changed", obstacle.0));
        let change = change.and_then(|change| match change.resources.keys().next() {
            Some(container) if !seen.resizes => Err(format!(
                "resources of container {container} changed, and this cluster cannot resize pods"
            )),
            _ => Ok(change),
        });
        found.insert(label.to_owned(), change);
    }
    found
}

/// Somebody asked for exactly this pod's deletion.
pub(super) fn specified(pod: &Pod, listed: &[String]) -> bool {
    pod.labels.contains_key(names::SPECIFIED_DELETE) || listed.iter().any(|name| name == pod.name())
}

/// What is there, and what is wanted.
fn with_wishes(there: Count, set: &CloneSet, rollout: &Rollout) -> Count {
    let replicas = set.spec.replicas();
    let max_surge = if rollout.paused {
        0
    } else {
        resolve(&rollout.max_surge, replicas, Round::Up)
    };
    Count {
        replicas,
        partition: partition(&rollout.partition, replicas),
        max_unavailable: max_unavailable(&rollout.max_unavailable, replicas, max_surge),
        max_surge,
        ..there
    }
}

impl<'a> Planner<'a> {
    pub(super) fn new(seen: &'a Observed<'a>, revisions: Revisions) -> Self {
        let set = seen.cloneset;
        let rollout = set.spec.rollout();
        let min_ready = SignedDuration::from_secs(i64::from(set.spec.min_ready_seconds.unwrap_or(0).max(0)));
        let watched = Watched::of(set, seen.traffic);
        let tally = Tally::take(seen, &set.matcher(), &revisions.update, min_ready, watched);
        let count = with_wishes(tally.count, set, &rollout);
        let mut planner = Self {
            seen,
            rollout,
            min_ready,
            differences: differences(seen, &tally.outdated),
            revisions,
            tally,
            claims: crate::cloneset::claim::by_id(seen),
            watched,
            record: None,
            observes: false,
            written: BTreeSet::new(),
            may_go: count.may_go(),
            left: count.available,
            surge: count.surge(),
            count,
            actions: Vec::new(),
            wake_at: None,
            waits: Waits::default(),
            warnings: Vec::new(),
            news: Vec::new(),
            failed_scale: None,
            failed_update: None,
        };
        planner.record = Record::of(seen, &planner.revisions, &planner.tally, planner.moves());
        if planner.held_by_loss() {
            planner.surge = 0;
        }
        if planner.surge > 0 && planner.surge_is_needless() {
            planner.surge = 0;
        }
        planner
    }

    pub(super) fn decide(&mut self) {
        self.claim();
        self.scale();
        self.update();
        self.launch();
        self.refresh();
        self.prune();
        self.actions.extend(crate::cloneset::claim::clean_up(self.seen));
    }

    /// What another planner wants done.
    pub(super) fn take_over(&mut self, other: Planner<'_>) {
        self.actions = other.actions;
        self.wake_at = other.wake_at;
        self.waits = other.waits;
        self.warnings = other.warnings;
        self.observes = other.observes;
        self.failed_scale = other.failed_scale;
        self.failed_update = other.failed_update;
    }

    pub(super) fn all_updated(&self) -> bool {
        let all = self.count.replicas;
        self.count.total == all && self.tally.phases.available >= all
    }

    pub(super) fn available(&self, pod: &Pod) -> bool {
        pod.available(self.min_ready, self.seen.now)
    }

    pub(super) fn updated(&self, pod: &Pod) -> bool {
        pod.at_revision(&self.revisions.update)
    }

    pub(super) fn specified(&self, pod: &Pod) -> bool {
        let strategy = self.seen.cloneset.spec.scale_strategy.as_ref();
        specified(pod, strategy.map_or(&[], |strategy| strategy.pods_to_delete.as_slice()))
    }

    pub(super) fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |other| other.min(at)));
    }

    /// Takes an available pod out of the budget; unavailable ones are free.
    pub(super) fn spend(&mut self, pod: &Pod) -> bool {
        if !self.available(pod) {
            return true;
        }
        let granted = self.may_go > 0;
        if granted {
            self.left = self.left.saturating_sub(1);
        }
        self.may_go = self.may_go.saturating_sub(1);
        granted
    }

    /// Whether the pod is the last available one while another is about to come: then it can wait, and nothing is lost.
    pub(super) fn stays_for_another(&mut self, pod: &Pod) -> bool {
        let last = self.surge > 0 && self.left == 1 && self.available(pod);
        if last {
            self.waits.pod(Wait::LastAvailable, || pod.name().to_owned());
        }
        last
    }

    /// What an in-place update of the pod to the update revision would change.
    pub(super) fn difference(&self, pod: &Pod) -> Result<Change, String> {
        let label = pod.labels.get(names::REVISION).unwrap_or_default();
        let unknown = || Err(format!("its revision {label:?} is unknown"));
        let mut change = self.differences.get(label).cloned().unwrap_or_else(unknown)?;
        self.add_unfinished(pod, &mut change);
        batch::with_restarts(pod, change, &self.seen.cloneset.spec.template)
    }

    /// A pod whose last update was cut off has the label of a revision that it does not have in full: in OpenKruise's
    /// quiet period, between two batches of containers, or before its resize.
    pub(super) fn add_unfinished(&self, pod: &Pod, change: &mut Change) {
        let template = &self.seen.cloneset.spec.template;
        let mut images: Vec<String> = Vec::new();
        let mut metadata = BTreeMap::new();
        if let Some(spec) = UpdateSpec::read(&pod.annotations) {
            images.extend(spec.container_images.into_keys());
            metadata.extend(spec.container_ref_metadata);
        }
        let text = pod.annotations.get(names::INPLACE_STATE).unwrap_or_default();
        if text.contains("\"nextContainer") || text.contains("\"updateResources\"") {
            let state = InPlaceUpdateState::read(&pod.annotations).unwrap_or_default();
            images.extend(state.next_container_images.into_keys());
            metadata.extend(state.next_container_ref_metadata);
            if state.update_resources && self.seen.resizes {
                change
                    .resources
                    .extend(crate::pod::resources::missing(pod, template, &BTreeMap::new()));
            }
        }
        for name in images {
            if let Some(image) = batch::image_of(template, &name) {
                change.images.insert(name, image.to_owned());
            }
        }
        let wanted = |part: &str, key: &str| {
            let map = template.pointer(part).and_then(Value::as_object);
            map.and_then(|map| map.get(key)?.as_str()).map(str::to_owned)
        };
        for entry in metadata.values_mut() {
            entry.labels.retain(|key, value| {
                wanted("/metadata/labels", key)
                    .inspect(|w| value.clone_from(w))
                    .is_some()
            });
            let annotation = |key: &String| wanted("/metadata/annotations", key);
            entry
                .annotations
                .retain(|key, value| annotation(key).inspect(|w| value.clone_from(w)).is_some());
        }
        batch::add_metadata(change, &metadata);
    }

    /// Whether a pod was taken out of service for its update.
    pub(super) fn out_of_service(&self, pod: &Pod) -> bool {
        let drain = Drain::of(pod);
        drain.is_some_and(|drain| drain.revision == self.revisions.update || drain.revision == DELETION)
    }

    /// Whether a pod's update has begun.
    pub(super) fn on_the_way(&self, pod: &Pod) -> bool {
        self.out_of_service(pod)
            || [names::STATE_PREPARING_UPDATE, names::STATE_PREPARING_DELETE]
                .contains(&crate::pod::lifecycle::state(pod))
    }

    /// Moves pods to the update revision, those first that are on the way already.
    pub(super) fn update(&mut self) {
        if self.rollout.on_delete || self.rollout.paused {
            return;
        }
        let outdated = self.tally.outdated.iter().copied();
        let old: Vec<&'a Pod> = outdated.filter(|pod| !self.specified(pod)).collect();
        let mut old = update_sequence(old, &self.tally.pods, &self.rollout);
        old.sort_by_key(|pod| !self.on_the_way(pod));
        let mut left = self.count.to_update();
        let held = self.held_by_loss();
        for pod in old {
            if left == 0 {
                break;
            }
            if self.written.contains(pod.name()) {
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
            match (self.rollout.policy, self.difference(pod)) {
                (PodUpdatePolicy::InPlaceOnly, Err(why)) => {
                    self.failed_update = Some(format!("pod {} cannot be updated in place: {why}", pod.name()));
                    continue;
                }
                (PodUpdatePolicy::ReCreate, _) | (PodUpdatePolicy::InPlaceIfPossible, Err(_)) => {
                    left -= 1;
                    if self.available(pod) && self.may_go == 0 {
                        self.waits.pod(Wait::Budget, || pod.name().to_owned());
                    } else if !self.stays_for_another(pod) {
                        self.delete(pod, Why::ReCreate);
                    }
                }
                // First back from the deletion that it was prepared for.
                (_, Ok(_)) if crate::pod::lifecycle::state(pod) == names::STATE_PREPARING_DELETE => {}
                (_, Ok(change)) => {
                    left -= 1;
                    if !self.update_in_place(pod, &change) {
                        self.waits.pod(Wait::Budget, || pod.name().to_owned());
                    }
                }
            }
        }
    }

    /// Whether the budget is all there is to say about the pod: told before the costly comparison, as it is what most pods
    /// of a big rollout wait for.
    pub(super) fn waits_for_budget(&self, pod: &Pod) -> bool {
        let label = pod.labels.get(names::REVISION).unwrap_or_default();
        let restarts = |change: &Result<Change, String>| change.as_ref().is_ok_and(Change::touches_containers);
        self.may_go == 0
            && !(self.surge > 0 && self.left == 1)
            && self.update_hook().is_none()
            && crate::pod::lifecycle::state(pod) != names::STATE_PREPARING_DELETE
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
        let template = &self.seen.cloneset.spec.template;
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
        let action = change(pod, batch, revision, updating, self.seen.nodes, self.seen.now);
        self.write(pod, action);
    }

    /// Whether the write of the images also moves the pod's life on: where a hook looks at it, or did.
    pub(super) fn moves_on(&self, pod: &Pod) -> bool {
        let hooked = [
            names::STATE_PREPARING_UPDATE,
            names::STATE_UPDATING,
            names::STATE_UPDATED,
        ];
        self.update_hook().is_some() || hooked.contains(&crate::pod::lifecycle::state(pod))
    }

    pub(super) fn write(&mut self, pod: &'a Pod, action: Action) {
        self.written.insert(pod.name());
        if self.actions.len() < BURST {
            self.actions.push(action);
        } else {
            // Left to the next plan; in this one nobody else decides about the pod, and its part of the budget is spent.
            self.wake(self.seen.now);
        }
    }
}
