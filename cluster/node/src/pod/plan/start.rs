//! The living part of the plan: which containers are to be stopped alone, and which are to be started, in which order.

use std::time::Duration;

use k8s_openapi::api::core::v1::Container;

use super::planner::Planner;
use crate::clock::{later, seconds};
use crate::pod::action::Action;
use crate::pod::instance::{Hook, Instance, Process, Why};
use crate::pod::spec::{self, ProbeKind};
use crate::pod::{ephemeral, progress, pull, resize};

impl Planner<'_> {
    /// Containers that are to go although the pod stays.
    pub(super) fn stops(&mut self) {
        let pod = self.pod();
        for container in spec::all_containers(pod) {
            let Some(instance) = self.state().instance(&container.name).filter(|i| i.running()) else {
                continue;
            };
            if let Some(stop) = &instance.stop {
                self.advance_stop(container, instance, stop);
            } else if let Some(why) = self.reason_to_stop(container, instance) {
                let deadline = later(self.now, self.grace(container, why));
                self.begin_stop(container, instance, why, deadline);
            }
        }
    }

    fn reason_to_stop(&self, container: &Container, instance: &Instance) -> Option<Why> {
        // Changing an init container's image on a live pod restarts nothing; a sidecar is an application container here, but
        // that the kubelet does not look at its definition before its startup probe has passed (1.32:
        // `kuberuntime_container.go#computeInitContainerActions`). If it fails, the next one is of the new definition.
        let sidecar = spec::is_sidecar(self.pod(), container);
        let counts = sidecar || !spec::is_init(self.pod(), &container.name);
        let starts = sidecar && !progress::probed_started(container, instance);
        if counts && !starts && instance.hash != spec::hash(container) {
            Some(Why::DefinitionChanged)
        } else if counts && resize::needs_restart(container, instance, self.state()) {
            Some(Why::Resized)
        } else if instance.post_start == Hook::Failed {
            Some(Why::PostStartFailed)
        } else if spec::probe(container, ProbeKind::Startup).is_some() && instance.startup.result == Some(false) {
            Some(Why::StartupFailed)
        } else if spec::probe(container, ProbeKind::Liveness).is_some() && instance.liveness.result == Some(false) {
            Some(Why::LivenessFailed)
        } else {
            None
        }
    }

    fn grace(&self, container: &Container, why: Why) -> Duration {
        let of = |kind| spec::probe(container, kind).and_then(|probe| probe.termination_grace_period_seconds);
        let own = match why {
            Why::LivenessFailed => of(ProbeKind::Liveness),
            Why::StartupFailed => of(ProbeKind::Startup),
            _ => None,
        };
        own.map_or_else(|| spec::grace(self.pod()), seconds)
    }

    /// Init containers one after another, then the application's in order.
    pub(super) fn starts(&mut self) {
        self.start_ephemeral();
        let pod = self.pod();
        let initialized = progress::initialized(pod, self.state());
        for container in spec::init_containers(pod) {
            if spec::is_sidecar(pod, container) {
                self.ensure(container);
                if !initialized && !progress::started(container, self.state()) {
                    return;
                }
            } else if !initialized && !progress::init_done(container, self.state()) {
                self.ensure(container);
                return;
            }
        }
        for container in spec::containers(pod) {
            if !self.ensure(container) {
                return;
            }
        }
    }

    /// Those that never were; also while the pod is still being initialized, to see why that takes so long.
    fn start_ephemeral(&mut self) {
        for container in ephemeral::containers(self.pod()) {
            let track = self.state().containers.get(&container.name);
            if track.is_none_or(|track| track.instance.is_some() || track.next_attempt == 0) {
                self.ensure(&container);
            }
        }
    }

    /// Takes one container a step towards running. False where the following ones have to wait for its postStart hook.
    fn ensure(&mut self, container: &Container) -> bool {
        let Some(instance) = self.state().instance(&container.name) else {
            self.create(container);
            return true;
        };
        match &instance.process {
            Process::Created => {
                self.settling = true;
                self.act(Action::Start {
                    container: container.name.clone(),
                    id: instance.id.clone(),
                });
            }
            Process::Running => return self.post_start(container, instance),
            Process::Exited(_) => self.restart(container, instance),
        }
        true
    }

    fn post_start(&mut self, container: &Container, instance: &Instance) -> bool {
        if spec::post_start(container).is_none() || instance.stop.is_some() {
            return true;
        }
        match instance.post_start {
            Hook::Waiting => {
                self.settling = true;
                self.act(Action::PostStart {
                    container: container.name.clone(),
                    id: instance.id.clone(),
                });
                false
            }
            Hook::Running => false,
            Hook::Succeeded | Hook::Failed => true,
        }
    }

    fn restart(&mut self, container: &Container, instance: &Instance) {
        let Some(exit) = instance.exit() else { return };
        let changed = instance.hash != spec::hash(container);
        if instance.stop.as_ref().is_some_and(|stop| stop.why.replaces()) {
            return self.create(container);
        }
        if !spec::restarts(self.pod(), container, exit.code) {
            return;
        }
        let Some(track) = self.state().containers.get(&container.name) else {
            return;
        };
        // Its back-off was over when the pull began.
        if pull::under_way(track, container) || pull::done(track, container) {
            return self.create(container);
        }
        match track.crash.until(exit.finished_at, self.state().limits) {
            Some(until) if !changed && !self.reached(until) => {
                if !instance.back_off_told {
                    self.act(Action::TellBackOff {
                        container: container.name.clone(),
                        id: instance.id.clone(),
                    });
                }
            }
            _ => self.create(container),
        }
    }

    fn create(&mut self, container: &Container) {
        let track = self.state().containers.get(&container.name);
        // Two of a name never live at once.
        if track.is_some_and(|track| track.stale.iter().any(Instance::alive)) {
            return;
        }
        if track.is_some_and(|track| pull::under_way(track, container)) {
            return;
        }
        if let Some(obstacle) = track.and_then(|track| track.obstacle.as_ref())
            && obstacle.hash == spec::hash(container)
            && !self.reached(obstacle.retry_at)
        {
            if obstacle.look_at.is_some_and(|at| self.reached(at)) {
                self.act(Action::LookForImage {
                    container: container.name.clone(),
                });
            }
            // ErrImagePull becomes ImagePullBackOff, see `status`.
            self.reached(later(obstacle.since, progress::ERROR_SHOWN));
            return;
        }
        self.settling = true;
        let attempt = track.map_or(0, |track| track.next_attempt);
        self.act(Action::Create {
            container: container.name.clone(),
            attempt,
        });
    }
}
