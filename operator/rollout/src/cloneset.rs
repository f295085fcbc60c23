//! CloneSet: what to do next. The idea of the whole product in one function, [`plan`].
//!
//! A pod moves to the new revision in three writes: out of service (the readiness gate False), changed (images, labels,
//! record), back in service (the gate True) once the node runs the containers from the new spec. Nothing is remembered
//! between two plans; where a pod stands is read off the pod.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use afloat_api::{CloneSet, CloneSetStatus, Matcher, PodUpdatePolicy, Rollout, UpdateSpec, names};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::ControllerRevision;
use serde_json::Value;

use crate::action::{Action, Why};
use crate::budget::{Count, Round, partition, resolve};
use crate::claim::{ById, Claim};
use crate::images::Nodes;
use crate::inplace::{Change, compare};
use crate::order::update_sequence;
use crate::pod::{Pod, same_revision};
use crate::state::{Drain, change, leave_service};

mod create;
mod history;
mod lifecycle;
mod refresh;
mod report;
mod scale;

pub use history::Revisions;
pub use scale::topology;

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
    planner.claim();
    planner.scale();
    planner.update();
    planner.refresh();
    planner.prune();
    planner.actions.extend(crate::claim::clean_up(seen));
    planner.finish()
}

struct Planner<'a> {
    seen: &'a Observed<'a>,
    rollout: Rollout,
    revisions: Revisions,
    /// By revision label of the pods that are not updated: what has to change.
    differences: BTreeMap<String, Result<Change, String>>,
    matcher: Matcher,
    claims: ById<'a>,
    min_ready: SignedDuration,
    /// Active pods that are ours, by name.
    pods: Vec<&'a Pod>,
    /// Pods that this plan already writes; each is written at most once.
    written: BTreeSet<&'a str>,
    /// Available pods that may still be taken out of service.
    may_go: usize,
    count: Count,
    actions: Vec<Action>,
    wake_at: Option<Timestamp>,
    waits: Vec<String>,
    warnings: Vec<(&'static str, String)>,
    failed_update: Option<String>,
}

/// Compares the update revision with each revision that pods still have; once per revision, as it is costly.
fn differences(seen: &Observed<'_>, revisions: &Revisions, pods: &[&Pod]) -> BTreeMap<String, Result<Change, String>> {
    let mut found = BTreeMap::new();
    for pod in pods.iter().filter(|pod| !pod.at_revision(&revisions.update)) {
        let Some(label) = pod
            .labels()
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
            .and_then(|revision| crate::revision::template(revision))
        else {
            continue;
        };
        let change = compare(old, &seen.cloneset.spec.template).map_err(|obstacle| format!("{} changed", obstacle.0));
        found.insert(label.clone(), change);
    }
    found
}

impl<'a> Planner<'a> {
    fn new(seen: &'a Observed<'a>, revisions: Revisions) -> Self {
        let set = seen.cloneset;
        let uid = set.metadata.uid.as_deref();
        let matcher = set.matcher();
        let mut pods: Vec<&Pod> = seen
            .pods
            .iter()
            .map(Arc::as_ref)
            .filter(|pod| pod.active() && pod.controller().map(|owner| owner.uid.as_str()) == uid && uid.is_some())
            .filter(|pod| matcher.selects(pod.metadata.labels.as_ref()))
            .collect();
        pods.sort_by(|a, b| a.name().cmp(b.name()));
        let mut planner = Self {
            seen,
            rollout: set.spec.rollout(),
            min_ready: SignedDuration::from_secs(i64::from(set.spec.min_ready_seconds.unwrap_or(0).max(0))),
            differences: differences(seen, &revisions, &pods),
            revisions,
            pods,
            matcher,
            claims: crate::claim::by_id(seen),
            written: BTreeSet::new(),
            may_go: 0,
            count: Count::default(),
            actions: Vec::new(),
            wake_at: None,
            waits: Vec::new(),
            warnings: Vec::new(),
            failed_update: None,
        };
        planner.count = planner.take_count();
        planner.may_go = planner.count.may_go();
        planner
    }

    fn take_count(&self) -> Count {
        let replicas = self.seen.cloneset.spec.replicas();
        let max_surge = if self.rollout.paused {
            0
        } else {
            resolve(&self.rollout.max_surge, replicas, Round::Up)
        };
        let round = if max_surge == 0 { Round::Up } else { Round::Down };
        let available = |pod: &&&Pod| self.available(pod);
        let specified = |pod: &&&Pod| self.specified(pod);
        let leaving = |pod: &&&Pod| crate::lifecycle::state(pod) == names::STATE_PREPARING_DELETE;
        Count {
            replicas,
            partition: partition(&self.rollout.partition, replicas),
            total: self.pods.len(),
            updated: self.pods.iter().filter(|pod| self.updated(pod)).count(),
            available: self.pods.iter().filter(available).count(),
            to_delete: self.pods.iter().filter(specified).count(),
            leaving: if self.seen.cloneset.excludes_preparing_delete() {
                self.pods.iter().filter(leaving).count()
            } else {
                0
            },
            unavailable: self
                .pods
                .iter()
                .filter(|pod| !self.available(pod) && !self.specified(pod))
                .count(),
            max_unavailable: resolve(&self.rollout.max_unavailable, replicas, round),
            max_surge,
        }
    }

    fn available(&self, pod: &Pod) -> bool {
        pod.available(self.min_ready, self.seen.now)
    }

    fn updated(&self, pod: &Pod) -> bool {
        pod.at_revision(&self.revisions.update)
    }

    /// Somebody asked for exactly this pod's deletion.
    fn specified(&self, pod: &Pod) -> bool {
        let listed = self.seen.cloneset.spec.scale_strategy.as_ref();
        pod.labels().contains_key(names::SPECIFIED_DELETE)
            || listed.is_some_and(|strategy| strategy.pods_to_delete.iter().any(|name| name == pod.name()))
    }

    fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |other| other.min(at)));
    }

    /// Takes an available pod out of the budget; unavailable ones are free.
    fn spend(&mut self, pod: &Pod) -> bool {
        if !self.available(pod) {
            return true;
        }
        let granted = self.may_go > 0;
        self.may_go = self.may_go.saturating_sub(1);
        granted
    }

    /// What an in-place update of the pod to the update revision would change.
    fn difference(&self, pod: &Pod) -> Result<Change, String> {
        let label = pod.labels().get(names::REVISION).map_or("", String::as_str);
        let unknown = || Err(format!("its revision {label:?} is unknown"));
        let mut change = self.differences.get(label).cloned().unwrap_or_else(unknown)?;
        // A pod in OpenKruise's quiet period has the label of a revision whose images it does not have yet.
        if let Some(spec) = UpdateSpec::read(pod.annotations()) {
            for name in spec.container_images.keys() {
                if let Some(image) = self.template_image(name) {
                    change.images.insert(name.clone(), image);
                }
            }
        }
        Ok(change)
    }

    fn template_image(&self, container: &str) -> Option<String> {
        let containers = self
            .seen
            .cloneset
            .spec
            .template
            .pointer("/spec/containers")?
            .as_array()?;
        let found = containers
            .iter()
            .find(|c| c.get("name").and_then(Value::as_str) == Some(container))?;
        found.get("image")?.as_str().map(str::to_owned)
    }

    /// Moves pods to the update revision, those first that are on the way already.
    fn update(&mut self) {
        if self.rollout.on_delete || self.rollout.paused {
            return;
        }
        let old: Vec<&'a Pod> = self
            .pods
            .iter()
            .copied()
            .filter(|pod| !self.updated(pod) && !self.specified(pod))
            .collect();
        let on_the_way = |pod: &Pod| {
            Drain::of(pod).is_some_and(|drain| drain.revision == self.revisions.update)
                || [names::STATE_PREPARING_UPDATE, names::STATE_PREPARING_DELETE]
                    .contains(&crate::lifecycle::state(pod))
        };
        let mut old = update_sequence(old, &self.pods, &self.rollout);
        old.sort_by_key(|pod| !on_the_way(pod));
        let mut left = self.count.to_update();
        let mut held = 0_usize;
        for pod in old {
            if left == 0 {
                break;
            }
            if self.written.contains(pod.name()) {
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
                        held += 1;
                    } else {
                        self.delete(pod, Why::ReCreate);
                    }
                }
                // First back from the deletion that it was prepared for.
                (_, Ok(_)) if crate::lifecycle::state(pod) == names::STATE_PREPARING_DELETE => {}
                (_, Ok(change)) => {
                    left -= 1;
                    if !self.update_in_place(pod, &change) {
                        held += 1;
                    }
                }
            }
        }
        if held > 0 {
            self.waits
                .push(format!("{held} pods to update wait for the budget (maxUnavailable)"));
        }
    }

    /// The next step of one pod; false if the budget does not allow it now.
    fn update_in_place(&mut self, pod: &'a Pod, wanted: &Change) -> bool {
        if let Some(granted) = self.held_from_update(pod) {
            return granted;
        }
        let now = self.seen.now;
        let revision = self.revisions.update.clone();
        // Labels and annotations alone restart nothing, so the pod stays in service.
        if wanted.images.is_empty() || !pod.has_gate(names::INPLACE_READY) {
            if !wanted.images.is_empty() && !self.spend(pod) {
                return false;
            }
            self.write(
                pod,
                change(pod, wanted, &revision, self.moves_on(pod), self.seen.nodes, now),
            );
            return true;
        }
        match Drain::of(pod).filter(|drain| drain.revision == revision) {
            None => {
                if !self.spend(pod) {
                    return false;
                }
                self.write(pod, leave_service(pod, &revision, now));
            }
            Some(drain) => {
                let grace = SignedDuration::from_secs(self.rollout.grace_seconds);
                let answered = pod
                    .metadata
                    .uid
                    .as_ref()
                    .and_then(|uid| self.seen.drained.get(uid))
                    .copied();
                match answered
                    .map_or(drain.since, |at| at.max(drain.since))
                    .checked_add(grace)
                {
                    Ok(end) if end > now => {
                        self.wake(end);
                        self.written.insert(pod.name());
                        self.waits.push(format!(
                            "pod {} out of service until {end} (gracePeriodSeconds)",
                            pod.name()
                        ));
                    }
                    _ => self.write(
                        pod,
                        change(pod, wanted, &revision, self.moves_on(pod), self.seen.nodes, now),
                    ),
                }
            }
        }
        true
    }

    /// Whether the write of the images also moves the pod's life on: where a hook looks at it, or did.
    fn moves_on(&self, pod: &Pod) -> bool {
        let hooked = [
            names::STATE_PREPARING_UPDATE,
            names::STATE_UPDATING,
            names::STATE_UPDATED,
        ];
        self.update_hook().is_some() || hooked.contains(&crate::lifecycle::state(pod))
    }

    fn write(&mut self, pod: &'a Pod, action: Action) {
        self.written.insert(pod.name());
        self.actions.push(action);
    }
}

#[cfg(test)]
mod tests;
