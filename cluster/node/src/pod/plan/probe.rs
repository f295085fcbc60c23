//! The part of the plan that is about probes: which are to be asked now, and how soon again.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Probe};

use super::planner::Planner;
use crate::clock::later;
use crate::pod::action::Action;
use crate::pod::instance::{Hook, Instance, ProbeTrack};
use crate::pod::spec::{self, ProbeKind, ProbeTiming};

impl Planner<'_> {
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
