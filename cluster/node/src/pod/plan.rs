//! The decision: given a pod, what exists of it, and the moment — what to do now, and when to look again.
//!
//! Pure. A plan is recomputed from what is observed, never resumed: any prefix of its actions may be carried out, and the
//! next plan copes. What must hold in every order of events: at most one live container of a name; preStop before
//! TERM before KILL; nothing is started once the pod is to end; one container's change touches no other.

mod start;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodStatus, ResourceRequirements};

use super::container::security;
use super::ephemeral;
use super::spec::{self, ProbeKind};
use super::state::{Hook, Instance, PodState, Process, Sandbox, Stop, Why};
use super::status;
use crate::clock::later;

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

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// In this order; after a slow one (see [`Action::slow`]) a new plan is to be made.
    pub actions: Vec<Action>,
    /// The agent's own part of the status.
    pub status: PodStatus,
    /// Look again then, if nothing happens before.
    pub wake_at: Option<Timestamp>,
    /// More changes are to be expected within moments: the status may wait for them.
    pub settling: bool,
    /// The pod is over and nothing of it is left: forget it.
    pub finished: bool,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Make volumes and network.
    PrepareSandbox,
    /// Bring the files of volumes up to date, and renew tokens.
    RefreshVolumes,
    /// Look whether an emptyDir is larger than it may be.
    MeasureVolumes,
    /// Make a container.
    Create {
        /// Its name.
        container: String,
        /// Its number among those of that name.
        attempt: u32,
    },
    /// Ask the node for other resources for the pod's containers.
    Allocate {
        /// By container, all of them.
        wanted: BTreeMap<String, ResourceRequirements>,
    },
    /// Give a running container what the node has granted it.
    Resize {
        /// Its name.
        container: String,
        /// Its id.
        id: String,
    },
    /// Let its process go.
    Start {
        /// Its name.
        container: String,
        /// Its id.
        id: String,
    },
    /// Run its postStart hook.
    PostStart {
        /// Its name.
        container: String,
        /// Its id.
        id: String,
    },
    /// Decide that it is to stop (event `Killing`).
    BeginStop {
        /// Its name.
        container: String,
        /// Its id.
        id: String,
        /// For the event.
        why: Why,
        /// When its grace is over.
        deadline: Timestamp,
        /// It has a preStop hook to run.
        pre_stop: bool,
    },
    /// Run its preStop hook, no longer than until `deadline`.
    PreStop {
        /// Its name.
        container: String,
        /// Its id.
        id: String,
        /// When its grace is over.
        deadline: Timestamp,
    },
    /// Ask it to stop, or kill it.
    Signal {
        /// Its name.
        container: String,
        /// Its id.
        id: String,
        /// SIGKILL instead of its stop signal.
        kill: bool,
    },
    /// Ask a probe's question.
    Probe {
        /// Its name.
        container: String,
        /// Its id.
        id: String,
        /// Which.
        kind: ProbeKind,
        /// When to ask again.
        period: Duration,
    },
    /// Say that it waits for its back-off.
    TellBackOff {
        /// Its name.
        container: String,
        /// Its id.
        id: String,
    },
    /// Look whether an image that was missing has come.
    LookForImage {
        /// Its name.
        container: String,
    },
    /// Take an ended or never started container away.
    Remove {
        /// Its name.
        container: String,
        /// Its id.
        id: String,
    },
    /// The pod as a whole fails.
    Fail {
        /// `status.reason`.
        reason: &'static str,
        /// `status.message`.
        message: String,
    },
    /// Take network and volumes away.
    CleanUp,
    /// Delete the API object.
    DeleteObject,
}

impl Action {
    /// The world may have changed when it is done: plan anew.
    pub fn slow(&self) -> bool {
        !matches!(
            self,
            Self::BeginStop { .. } | Self::Probe { .. } | Self::TellBackOff { .. }
        )
    }
}

/// Makes the plan.
pub fn plan(view: &PodView<'_>, now: Timestamp) -> Plan {
    let mut planner = Planner {
        view: *view,
        now,
        actions: vec![],
        wake_at: None,
        settling: false,
        finished: false,
    };
    planner.decide();
    let status = status::status(view, now);
    let Planner {
        actions,
        wake_at,
        settling,
        finished,
        ..
    } = planner;
    Plan {
        actions,
        status,
        wake_at,
        settling,
        finished,
    }
}

/// A plan in the making.
pub(super) struct Planner<'a> {
    pub(super) view: PodView<'a>,
    pub(super) now: Timestamp,
    pub(super) actions: Vec<Action>,
    wake_at: Option<Timestamp>,
    pub(super) settling: bool,
    finished: bool,
}

/// The least time between the stop signal and SIGKILL, also where the grace is over or was zero (the kubelet's rule).
const MIN_SHUTDOWN: Duration = Duration::from_secs(2);

impl<'a> Planner<'a> {
    pub(super) fn pod(&self) -> &'a Pod {
        self.view.pod
    }

    pub(super) fn state(&self) -> &'a PodState {
        self.view.state
    }

    pub(super) fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    /// True once `moment` has come; until then the plan is looked at again when it does.
    pub(super) fn reached(&mut self, moment: Timestamp) -> bool {
        if moment <= self.now {
            return true;
        }
        self.wake_at = Some(self.wake_at.map_or(moment, |at| at.min(moment)));
        false
    }

    fn decide(&mut self) {
        self.kill_stale();
        if let Some(ending) = self.state().ending {
            let grace_end = ending.deadline;
            if self.stop_all(grace_end) {
                self.take_away();
            }
        } else if self.over() {
            if self.stop_all(later(self.now, spec::grace(self.pod())))
                && status::is_terminal(self.pod().status.as_ref())
            {
                self.take_away();
            }
        } else if let Some((reason, message)) = security::rejection(self.pod()) {
            self.act(Action::Fail { reason, message });
        } else if !self.deadline_passed() {
            self.live();
        }
        self.probes();
        self.remove_stale();
    }

    /// The pod has come to its end by itself, or failed.
    fn over(&self) -> bool {
        self.state().failed.is_some()
            || status::is_terminal(self.pod().status.as_ref())
            || status::outcome(self.pod(), self.state()).is_some()
    }

    fn deadline_passed(&mut self) -> bool {
        let Some(limit) = spec::active_deadline(self.pod()) else {
            return false;
        };
        let started = self
            .pod()
            .status
            .as_ref()
            .and_then(|s| s.start_time.as_ref())
            .map(|time| time.0);
        let Some(started) = started.or(self.state().seen_at) else {
            return false;
        };
        if !self.reached(later(started, limit)) {
            return false;
        }
        let message = "Pod was active on the node longer than the specified deadline".to_owned();
        self.act(Action::Fail {
            reason: "DeadlineExceeded",
            message,
        });
        true
    }

    /// Older containers of a name, and unknown ones: never two alive.
    fn kill_stale(&mut self) {
        for (name, track) in &self.state().containers {
            for instance in track.stale.iter().filter(|instance| instance.running()) {
                if instance.stop.as_ref().is_none_or(|stop| stop.killed_at.is_none()) {
                    let (container, id) = (name.clone(), instance.id.clone());
                    self.act(Action::Signal {
                        container,
                        id,
                        kill: true,
                    });
                }
            }
        }
    }

    /// Last, as nobody waits for it.
    fn remove_stale(&mut self) {
        for (name, track) in &self.state().containers {
            for instance in track.stale.iter().filter(|instance| !instance.running()) {
                let (container, id) = (name.clone(), instance.id.clone());
                self.act(Action::Remove { container, id });
            }
        }
    }

    /// Stops everything: application containers at once, then sidecars from the last to the first. The preStop hooks of
    /// sidecars do not wait for their turn, only the signal does (the kubelet's `killContainer`; KEP-753). True when
    /// nothing lives.
    fn stop_all(&mut self, deadline: Timestamp) -> bool {
        let pod = self.pod();
        let mut alive = false;
        for container in spec::all_containers(pod).filter(|c| !spec::is_sidecar(pod, c)) {
            alive |= self.stop_one(container, deadline, true);
        }
        for container in ephemeral::containers(pod) {
            alive |= self.stop_one(&container, deadline, true);
        }
        for container in spec::init_containers(pod).iter().rev() {
            if spec::is_sidecar(pod, container) {
                alive |= self.stop_one(container, deadline, !alive);
            }
        }
        !alive && !self.state().instances().any(|(_, instance)| instance.alive())
    }

    /// True while it lives. `turn`: nothing has to end before it may be asked to.
    fn stop_one(&mut self, container: &Container, deadline: Timestamp, turn: bool) -> bool {
        let Some(instance) = self
            .state()
            .instance(&container.name)
            .filter(|instance| instance.alive())
        else {
            return false;
        };
        if instance.process == Process::Created {
            self.act(Action::Remove {
                container: container.name.clone(),
                id: instance.id.clone(),
            });
            return true;
        }
        let hook_over = match &instance.stop {
            Some(stop) => stop.asked_at.is_none() && matches!(stop.pre_stop, Hook::Succeeded | Hook::Failed),
            None => spec::pre_stop(container).is_none(),
        };
        if !turn && hook_over && !self.reached(deadline) {
            return true;
        }
        match &instance.stop {
            Some(stop) => self.advance_stop(container, instance, stop),
            None => self.begin_stop(container, instance, Why::PodEnds, deadline),
        }
        true
    }

    /// Also for one container alone (image change, failed probe or hook).
    pub(super) fn begin_stop(&mut self, container: &Container, instance: &Instance, why: Why, deadline: Timestamp) {
        // With no grace left there is none for the hook.
        let pre_stop = spec::pre_stop(container).is_some() && deadline > self.now;
        let (name, id) = (container.name.clone(), instance.id.clone());
        self.act(Action::BeginStop {
            container: name.clone(),
            id: id.clone(),
            why,
            deadline,
            pre_stop,
        });
        self.act(if pre_stop {
            Action::PreStop {
                container: name,
                id,
                deadline,
            }
        } else {
            Action::Signal {
                container: name,
                id,
                kill: false,
            }
        });
    }

    /// preStop → stop signal → SIGKILL, each in its time.
    pub(super) fn advance_stop(&mut self, container: &Container, instance: &Instance, stop: &Stop) {
        let (name, id) = (container.name.clone(), instance.id.clone());
        // A deletion may shorten what an image change began, never lengthen it.
        let deadline = self
            .state()
            .ending
            .map_or(stop.deadline, |ending| ending.deadline.min(stop.deadline));
        let Some(asked_at) = stop.asked_at else {
            match stop.pre_stop {
                Hook::Waiting if deadline > self.now => self.act(Action::PreStop {
                    container: name,
                    id,
                    deadline,
                }),
                Hook::Running if !self.reached(deadline) => {}
                _ => self.act(Action::Signal {
                    container: name,
                    id,
                    kill: false,
                }),
            }
            return;
        };
        // After SIGKILL the end is only a matter of the kernel; if it does not come, kill again.
        let kill_at = match stop.killed_at {
            None => deadline.max(later(asked_at, MIN_SHUTDOWN)),
            Some(killed_at) => later(killed_at, Duration::from_secs(10)),
        };
        if self.reached(kill_at) {
            self.act(Action::Signal {
                container: name,
                id,
                kill: true,
            });
        }
    }

    /// Nothing lives: containers, then network and volumes, then the object.
    fn take_away(&mut self) {
        let state = self.state();
        if state.retry_at.is_some_and(|at| !self.reached(at)) {
            return;
        }
        if let Some(ending) = state.ending.filter(|ending| !ending.gone)
            && state.instances().all(|(_, instance)| !instance.alive())
            && self.must_tell_the_end()
        {
            // Somebody holds the object by a finalizer and wants to read how it ended: the status write comes first.
            tracing::trace!(?ending, "the last status is not written yet");
            return;
        }
        let current = state
            .containers
            .iter()
            .filter_map(|(name, track)| Some((name, track.instance.as_ref()?)));
        let left: Vec<_> = current.map(|(name, i)| (name.clone(), i.id.clone())).collect();
        if state.containers.values().any(|track| !track.stale.is_empty()) {
            return;
        }
        if !left.is_empty() {
            self.actions
                .extend(left.into_iter().map(|(container, id)| Action::Remove { container, id }));
            return;
        }
        if !state.cleaned {
            return self.act(Action::CleanUp);
        }
        match state.ending {
            Some(ending) if ending.gone => self.finished = true,
            Some(_) if !state.deleted => self.act(Action::DeleteObject),
            _ => {}
        }
    }

    fn must_tell_the_end(&self) -> bool {
        let finalizers = self
            .pod()
            .metadata
            .finalizers
            .as_ref()
            .is_some_and(|list| !list.is_empty());
        finalizers && !status::is_terminal(self.pod().status.as_ref())
    }

    /// The pod is to run.
    fn live(&mut self) {
        match &self.state().sandbox {
            Sandbox::Ready(_) if self.allocates() => {}
            Sandbox::Ready(_) => {
                self.volumes();
                self.resizes();
                self.stops();
                self.starts();
            }
            Sandbox::Absent => {
                self.settling = true;
                self.act(Action::PrepareSandbox);
            }
            Sandbox::Failed { retry_at, .. } => {
                if self.reached(*retry_at) {
                    self.act(Action::PrepareSandbox);
                }
            }
        }
    }
}
