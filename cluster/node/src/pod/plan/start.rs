//! The living part of the plan: which containers are to be stopped alone, and which are to be started, in which order.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Probe};

use super::{Action, Planner};
use crate::clock::{later, seconds};
use crate::pod::spec::{self, ProbeKind, ProbeTiming};
use crate::pod::state::{Hook, Instance, ProbeTrack, Process, Why};
use crate::pod::{pull, resize, status};

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
        // Changing an init container's image on a live pod restarts nothing; a sidecar is an application container here.
        let counts = !spec::is_init(self.pod(), &container.name) || spec::is_sidecar(self.pod(), container);
        if counts && instance.hash != spec::hash(container) {
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
        let initialized = status::initialized(pod, self.state());
        for container in spec::init_containers(pod) {
            if spec::is_sidecar(pod, container) {
                self.ensure(container);
                if !initialized && !status::started(container, self.state()) {
                    return;
                }
            } else if !initialized && !status::init_done(container, self.state()) {
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

    /// Takes one container a step towards running. False where the following ones have to wait for its postStart hook.
    pub(in crate::pod) fn ensure(&mut self, container: &Container) -> bool {
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
            self.reached(later(obstacle.since, status::ERROR_SHOWN));
            return;
        }
        self.settling = true;
        let attempt = track.map_or(0, |track| track.next_attempt);
        self.act(Action::Create {
            container: container.name.clone(),
            attempt,
        });
    }

    /// Probes of everything that runs. While a container or the pod stops, only readiness is still asked for.
    pub(super) fn probes(&mut self) {
        for container in spec::all_containers(self.pod()) {
            let Some(instance) = self.state().instance(&container.name).filter(|i| i.running()) else {
                continue;
            };
            if spec::post_start(container).is_some() && matches!(instance.post_start, Hook::Waiting | Hook::Running) {
                continue;
            }
            let startup_passed =
                spec::probe(container, ProbeKind::Startup).is_none() || instance.startup.result == Some(true);
            for kind in ProbeKind::ALL {
                let wanted = match kind {
                    ProbeKind::Startup => !startup_passed && instance.startup.result.is_none(),
                    ProbeKind::Liveness => startup_passed && instance.liveness.result != Some(false),
                    ProbeKind::Readiness => startup_passed,
                };
                let ends = instance.stop.is_some() || self.state().ending.is_some();
                let silenced = ends && kind != ProbeKind::Readiness;
                if wanted && !silenced {
                    self.probe(container, instance, kind);
                }
            }
        }
    }

    fn probe(&mut self, container: &Container, instance: &Instance, kind: ProbeKind) {
        let Some(probe) = spec::probe(container, kind) else {
            return;
        };
        let timing = spec::timing(probe);
        let track = instance.probe(kind);
        let first = later(instance.started_at.unwrap_or(self.now), timing.initial_delay);
        if track.in_flight {
            // The first answer decides about readiness; worth a moment's wait for one status instead of two.
            self.settling |= track.successes + track.failures == 0;
        } else if self.reached(track.next_at.unwrap_or(first)) {
            self.settling |= track.next_at.is_none();
            let (container, id) = (container.name.clone(), instance.id.clone());
            self.act(Action::Probe {
                container,
                id,
                kind,
                period: until_next(probe, kind, track, timing),
            });
        }
    }
}

/// How soon a probe is asked again. "While a container is not Ready, the ReadinessProbe may be executed at times other than
/// the configured periodSeconds interval. This is to make the Pod ready faster." (Kubernetes, Configure Liveness, Readiness
/// and Startup Probes). Questions over the network are cheap: they begin 100 ms apart and grow to the period, so that a
/// container is seen Ready about a quarter of its start-up time late at most. Commands are not cheap and keep the period.
fn until_next(probe: &Probe, kind: ProbeKind, track: &ProbeTrack, timing: ProbeTiming) -> Duration {
    if kind != ProbeKind::Readiness || probe.exec.is_some() || track.result == Some(true) {
        return timing.period;
    }
    let growth = 1.25_f64.powi(i32::try_from(track.failures.min(40)).unwrap_or(40));
    Duration::from_millis(100).mul_f64(growth).min(timing.period)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_that_is_not_ready_is_asked_more_often() {
        let timing = spec::timing(&Probe::default());
        let http = Probe {
            http_get: Some(Default::default()),
            ..Probe::default()
        };
        let exec = Probe {
            exec: Some(Default::default()),
            ..Probe::default()
        };
        let mut track = ProbeTrack::default();
        let wait = |probe: &Probe, kind, track: &ProbeTrack| until_next(probe, kind, track, timing);
        assert_eq!(wait(&http, ProbeKind::Readiness, &track), Duration::from_millis(100));
        assert_eq!(wait(&http, ProbeKind::Liveness, &track), timing.period);
        assert_eq!(wait(&exec, ProbeKind::Readiness, &track), timing.period);
        let mut elapsed = Duration::ZERO;
        for _ in 0..100 {
            let next = wait(&http, ProbeKind::Readiness, &track);
            assert!(
                next <= timing.period && next <= elapsed / 4 + Duration::from_millis(101),
                "{next:?} after {elapsed:?}"
            );
            elapsed += next;
            track.record(false, timing);
        }
        assert_eq!(wait(&http, ProbeKind::Readiness, &track), timing.period);
        track.record(true, timing);
        assert_eq!(wait(&http, ProbeKind::Readiness, &track), timing.period);
    }
}
