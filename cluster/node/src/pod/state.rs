//! What the agent knows of a pod beside the API object: its sandbox, the containers that exist, hooks, probes, waits.
//!
//! Everything here is rebuilt from the runtime and the API after a restart of the agent (see `recover`); what cannot be
//! (back-offs, a hook that was running) starts afresh, as in the kubelet.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use afloat_runtime::Exit;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, ResourceRequirements};

use super::action::Action;
use super::admission::REJECTED;
use super::back_off::{BackOff, BackOffLimits};
use super::found;
use super::instance::{Ended, Hook, HookKind, Instance, Process, Stop, Why};
use super::obstacle::Obstacle;
use super::volumes::Volumes;
use crate::clock::{later, seconds, since};

/// One pod, as the agent knows it.
#[derive(Clone, Debug, Default)]
pub struct PodState {
    pub(crate) sandbox: Sandbox,
    pub(crate) containers: BTreeMap<String, Track>,
    /// The pod is to end, and by when.
    pub(crate) ending: Option<Ending>,
    /// The node has not said yet whether it takes the pod.
    pub(crate) to_admit: bool,
    /// It failed as a whole: reason and message.
    pub(crate) failed: Option<(String, String)>,
    /// And that because the node does not take it: it has nothing else to tell of.
    pub(crate) rejected: bool,
    /// Containers, sandbox and volumes were taken away.
    pub(crate) cleaned: bool,
    /// The object was deleted by us; nothing remains to do but to see it go.
    pub(crate) deleted: bool,
    /// When the agent took the pod on.
    pub(crate) seen_at: Option<Timestamp>,
    /// Not before this: an admission, a clean-up or a deletion that failed.
    pub(crate) retry_at: Option<Timestamp>,
    pub(crate) limits: BackOffLimits,
    /// What the node has granted each container, by name. Absent: what the spec says.
    pub(crate) allocated: BTreeMap<String, ResourceRequirements>,
    /// A resize that the node does not grant.
    pub(crate) pending: Option<Pending>,
    /// When its volumes want attention.
    pub(crate) volumes: Volumes,
}

/// A resize that waits, or cannot be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pending {
    pub(crate) reason: NotGranted,
    pub(crate) message: String,
    /// What was asked for.
    pub(crate) wanted: BTreeMap<String, ResourceRequirements>,
    /// When to ask again; None: not before something else is wanted.
    pub(crate) retry_at: Option<Timestamp>,
}

/// Why the node does not grant it; the names are the API's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotGranted {
    /// Others have it: who leaves makes room.
    Deferred,
    /// The node is not that large.
    Infeasible,
}

impl NotGranted {
    /// As the condition has it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Deferred => "Deferred",
            Self::Infeasible => "Infeasible",
        }
    }
}

/// The pod's network and volumes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Sandbox {
    #[default]
    Absent,
    Failed {
        message: String,
        retry_at: Timestamp,
    },
    Ready(IpAddr),
}

/// A pod that ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    /// Its grace period, as last told.
    pub(crate) grace: Duration,
    pub(crate) deadline: Timestamp,
    /// The object is gone from the API (force deletion, or deleted while we were away).
    pub(crate) gone: bool,
}

/// Everything about the containers of one name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Track {
    /// The newest.
    pub(crate) instance: Option<Instance>,
    /// Older or unknown ones: to be killed and removed.
    pub(crate) stale: Vec<Instance>,
    /// How the one before the newest ended.
    pub(crate) last: Option<Ended>,
    pub(crate) crash: BackOff,
    pub(crate) pull: BackOff,
    /// Its image is being pulled: [`super::spec::hash`] of what for.
    pub(crate) pulling: Option<String>,
    /// Its image was pulled to create it: the hash again, and the image.
    pub(crate) pulled: Option<(String, afloat_runtime::Image)>,
    /// Why it cannot be created.
    pub(crate) obstacle: Option<Obstacle>,
    /// The next attempt's number.
    pub(crate) next_attempt: u32,
}

impl PodState {
    /// A pod that the agent sees for the first time.
    pub fn new(limits: BackOffLimits, now: Timestamp) -> Self {
        Self {
            limits,
            seen_at: Some(now),
            ..Self::default()
        }
    }

    pub(crate) fn instance(&self, name: &str) -> Option<&Instance> {
        self.containers.get(name)?.instance.as_ref()
    }

    pub(crate) fn instance_mut(&mut self, id: &str) -> Option<&mut Instance> {
        self.containers
            .values_mut()
            .flat_map(|t| t.instance.iter_mut().chain(&mut t.stale))
            .find(|i| i.id == id)
    }

    /// The live and the dead ones, stale ones included.
    pub(crate) fn instances(&self) -> impl Iterator<Item = (&String, &Instance)> {
        self.containers
            .iter()
            .flat_map(|(name, t)| t.instance.iter().chain(&t.stale).map(move |i| (name, i)))
    }

    /// Records that an action is being taken; the outcome of those that have one is recorded by the methods below.
    pub(crate) fn begin(&mut self, action: &Action, now: Timestamp) {
        match action {
            Action::Create { container, .. } => self.begin_create(container, now),
            Action::BeginStop {
                id,
                why,
                deadline,
                pre_stop,
                ..
            } => {
                if let Some(instance) = self.instance_mut(id) {
                    let pre_stop = if *pre_stop { Hook::Waiting } else { Hook::Succeeded };
                    let (why, deadline) = (*why, *deadline);
                    instance.stop = Some(Stop {
                        why,
                        deadline,
                        pre_stop,
                        asked_at: None,
                        killed_at: None,
                    });
                }
            }
            Action::PostStart { id, .. } => {
                if let Some(instance) = self.instance_mut(id) {
                    instance.post_start = Hook::Running;
                }
            }
            Action::PreStop { id, .. } => self.with_stop(id, |stop| stop.pre_stop = Hook::Running),
            Action::Signal { id, kill, .. } => self.begin_signal(id, *kill, now),
            Action::Probe { id, kind, period, .. } => {
                if let Some(instance) = self.instance_mut(id) {
                    let probe = instance.probe_mut(*kind);
                    probe.in_flight = true;
                    probe.next_at = Some(later(now, *period));
                }
            }
            Action::TellBackOff { id, .. } => {
                if let Some(instance) = self.instance_mut(id) {
                    instance.back_off_told = true;
                }
            }
            Action::LookForImage { container } => {
                if let Some(obstacle) = self.containers.get_mut(container).and_then(|t| t.obstacle.as_mut()) {
                    obstacle.look_at = Some(later(now, Duration::from_secs(1)));
                }
            }
            Action::RefreshVolumes => self.volumes.stale = false,
            Action::Fail { reason, message } => self.failed = Some(((*reason).to_owned(), message.clone())),
            Action::Reject { reason, message } => self.reject(reason, message),
            Action::Admit
            | Action::PrepareSandbox
            | Action::MeasureVolumes
            | Action::Start { .. }
            | Action::Remove { .. }
            | Action::Allocate { .. }
            | Action::Resize { .. }
            | Action::CleanUp
            | Action::DeleteObject => {}
        }
    }

    /// The node does not take the pod.
    pub(crate) fn reject(&mut self, reason: &str, message: &str) {
        self.failed = Some((reason.to_owned(), format!("{REJECTED}{message}")));
        (self.rejected, self.to_admit) = (true, false);
    }

    /// Counts the back-off of a container that is made again.
    fn begin_create(&mut self, container: &str, now: Timestamp) {
        let limits = self.limits;
        let track = self.containers.entry(container.to_owned()).or_default();
        let Some(instance) = &track.instance else { return };
        let Some(finished_at) = instance.exit().map(|exit| exit.finished_at) else {
            return;
        };
        if instance.stop.as_ref().is_some_and(|stop| stop.why.replaces()) {
            track.crash.reset();
        } else {
            track.crash.next(finished_at, now, limits);
        }
    }

    fn begin_signal(&mut self, id: &str, kill: bool, now: Timestamp) {
        let Some(instance) = self.instance_mut(id) else { return };
        let stop = instance.stop.get_or_insert(Stop {
            why: Why::PodEnds,
            deadline: now,
            pre_stop: Hook::Succeeded,
            asked_at: None,
            killed_at: None,
        });
        stop.asked_at = stop.asked_at.or(Some(now));
        stop.killed_at = kill.then_some(now);
    }

    fn with_stop(&mut self, id: &str, change: impl FnOnce(&mut Stop)) {
        if let Some(stop) = self.instance_mut(id).and_then(|instance| instance.stop.as_mut()) {
            change(stop);
        }
    }

    /// The object says that it is being deleted, by when; a later word may only shorten it.
    pub(crate) fn observe_deletion(&mut self, pod: &Pod, now: Timestamp) {
        let Some(by) = pod.metadata.deletion_timestamp.as_ref().map(|time| time.0) else {
            return;
        };
        let grace = seconds(pod.metadata.deletion_grace_period_seconds.unwrap_or(30));
        if self.ending.is_some_and(|ending| ending.grace == grace || ending.gone) {
            return;
        }
        // The API tells whole seconds. Seen at once, the grace counts from now; seen late (we were away), from then.
        let fresh = since(later(now, grace), by) < Duration::from_secs(5);
        let deadline = if fresh { later(now, grace) } else { by };
        let deadline = self.ending.map_or(deadline, |ending| ending.deadline.min(deadline));
        self.ending = Some(Ending {
            grace,
            deadline,
            gone: false,
        });
    }

    /// The object is gone: nothing is to be written or deleted any more. Somebody deleted it by force, and took back what
    /// grace there was.
    pub(crate) fn observe_gone(&mut self, now: Timestamp) {
        if self.ending.is_none_or(|ending| !ending.gone) {
            let deadline = self.ending.map_or(now, |ending| ending.deadline.min(now));
            self.ending = Some(Ending {
                grace: Duration::ZERO,
                deadline,
                gone: true,
            });
        }
    }

    /// The runtime's list of the pod's containers: ends that were missed, and containers that nobody here knows (made by
    /// a call that did not answer in time, or before a crash): those are taken away.
    pub(crate) fn listed(&mut self, containers: Vec<afloat_runtime::Container>) {
        // A list may be older than a removal and bring a container back; a newer one takes it away again.
        for track in self.containers.values_mut() {
            track
                .stale
                .retain(|instance| containers.iter().any(|container| container.id == instance.id));
        }
        for container in containers {
            match (self.instance_mut(&container.id), &container.state) {
                (Some(_), afloat_runtime::ContainerState::Exited(exit)) => {
                    self.exited(&container.id, exit.clone(), None);
                }
                (Some(_), _) => {}
                (None, _) => {
                    let track = self.containers.entry(container.name.clone()).or_default();
                    track.next_attempt = track.next_attempt.max(container.attempt + 1);
                    track.stale.push(found::instance(container, None));
                    self.cleaned = false;
                }
            }
        }
    }

    /// A container was made.
    pub(crate) fn created(&mut self, container: &str, instance: Instance) {
        let track = self.containers.entry(container.to_owned()).or_default();
        track.next_attempt = track.next_attempt.max(instance.attempt + 1);
        track.pull.reset();
        track.pulling = None;
        track.pulled = None;
        track.obstacle = None;
        if let Some(old) = track.instance.replace(instance) {
            track.last = old.ended();
            track.stale.push(old);
        }
    }

    /// It could not be made.
    pub(crate) fn not_created(&mut self, container: &str, obstacle: Obstacle) {
        let track = self.containers.entry(container.to_owned()).or_default();
        track.pulled = None;
        // The same trouble again: it has been so since the first time.
        let before = track
            .obstacle
            .take()
            .filter(|old| old.reason == obstacle.reason && old.hash == obstacle.hash);
        let since = before.map_or(obstacle.since, |old| old.since);
        track.obstacle = Some(Obstacle { since, ..obstacle });
    }

    /// The node granted what is asked for.
    pub(crate) fn granted(&mut self, wanted: BTreeMap<String, ResourceRequirements>) {
        self.allocated = wanted;
        self.pending = None;
        for instance in self.containers.values_mut().filter_map(|t| t.instance.as_mut()) {
            instance.resize_failed = None;
        }
    }

    /// It runs with other resources, or not.
    pub(crate) fn resized(&mut self, id: &str, outcome: Result<ResourceRequirements, (String, Timestamp)>) {
        let Some(instance) = self.instance_mut(id) else { return };
        match outcome {
            Ok(resources) => {
                instance.resources = Some(resources);
                instance.resize_failed = None;
            }
            Err(failed) => instance.resize_failed = Some(failed),
        }
    }

    /// Its process was let go.
    pub(crate) fn started(&mut self, id: &str, now: Timestamp) {
        if let Some(instance) = self.instance_mut(id).filter(|i| i.process == Process::Created) {
            instance.process = Process::Running;
            instance.started_at = Some(now);
        }
    }

    /// Its process ended, or could not be started (`error`: the reason to show).
    pub(crate) fn exited(&mut self, id: &str, exit: Exit, error: Option<String>) {
        if let Some(instance) = self.instance_mut(id).filter(|i| i.alive()) {
            instance.process = Process::Exited(exit);
            instance.start_error = error;
        }
    }

    /// It was removed.
    pub(crate) fn removed(&mut self, id: &str) {
        for track in self.containers.values_mut() {
            track.stale.retain(|instance| instance.id != id);
            if track.instance.as_ref().is_some_and(|instance| instance.id == id) {
                track.last = track.instance.as_ref().and_then(Instance::ended).or(track.last.take());
                track.instance = None;
            }
        }
    }

    /// A hook came to its end.
    pub(crate) fn hook_done(&mut self, id: &str, kind: HookKind, ok: bool) {
        let outcome = if ok { Hook::Succeeded } else { Hook::Failed };
        match kind {
            HookKind::PreStop => self.with_stop(id, |stop| stop.pre_stop = outcome),
            HookKind::PostStart => {
                if let Some(instance) = self.instance_mut(id) {
                    instance.post_start = outcome;
                }
            }
        }
    }
}

/// What a plan is made from.
#[derive(Clone, Copy, Debug)]
pub struct PodView<'a> {
    /// The API object, as last seen.
    pub pod: &'a Pod,
    /// What exists of it.
    pub state: &'a PodState,
    /// The node's address.
    pub host_ip: IpAddr,
}
