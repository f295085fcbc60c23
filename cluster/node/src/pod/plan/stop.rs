//! The dying part of the plan: everything is stopped in its order, and then taken away.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Container;

use super::planner::Planner;
use crate::clock::later;
use crate::pod::action::Action;
use crate::pod::instance::{Hook, Instance, Process, Stop, Why};
use crate::pod::{ephemeral, progress, spec};

/// The least time between the stop signal and SIGKILL, also where the grace is over or was zero (the kubelet's rule).
const MIN_SHUTDOWN: Duration = Duration::from_secs(2);

impl Planner<'_> {
    /// Older containers of a name, and unknown ones: never two alive.
    pub(super) fn kill_stale(&mut self) {
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
    pub(super) fn remove_stale(&mut self) {
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
    pub(super) fn stop_all(&mut self, deadline: Timestamp) -> bool {
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
    pub(super) fn take_away(&mut self) {
        let state = self.state();
        if state.retry_at.is_some_and(|at| !self.reached(at)) {
            return;
        }
        let told = progress::is_terminal(self.pod().status.as_ref());
        if state.ending.is_some_and(|ending| !ending.gone) && !told {
            // Whoever watches the object reads in it how the pod ended: the status write comes first.
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
}
