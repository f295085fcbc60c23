//! How far a pod and its containers have come, from what is observed. Pure.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod, PodCondition, PodStatus};

use super::instance::{Hook, Instance};
use super::spec::{self, ProbeKind, RestartPolicy};
use super::state::{PodState, Track};

/// How long `ErrImagePull` and its like are shown before they turn into their back-off's name.
pub(super) const ERROR_SHOWN: Duration = Duration::from_secs(2);

/// Where a pod stands as a whole; the names are the API's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Pending,
    Running,
    Succeeded,
    Failed,
}

impl Phase {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
        }
    }
}

/// Succeeded or Failed.
pub(crate) fn is_terminal(status: Option<&PodStatus>) -> bool {
    matches!(status.and_then(|s| s.phase.as_deref()), Some("Succeeded" | "Failed"))
}

/// How the pod ended by itself: every application container is over for good, or an init container is. None: it goes on.
pub(super) fn outcome(pod: &Pod, state: &PodState) -> Option<Phase> {
    let over = |container: &Container| {
        let exit = state.instance(&container.name)?.exit()?;
        let changed = state
            .instance(&container.name)?
            .stop
            .as_ref()
            .is_some_and(|s| s.why.replaces());
        (!changed && !spec::restarts(pod, container, exit.code)).then_some(exit.code == 0)
    };
    if spec::restart_policy(pod) == RestartPolicy::Always {
        return None;
    }
    let init_failed =
        |c: &&Container| !spec::is_sidecar(pod, c) && over(c) == Some(false) && !initialized_before(pod, state);
    if spec::init_containers(pod).iter().any(|c| init_failed(&c)) {
        return Some(Phase::Failed);
    }
    let mut ends = vec![];
    for container in spec::containers(pod) {
        ends.push(over(container)?);
    }
    Some(if ends.iter().all(|ok| *ok) {
        Phase::Succeeded
    } else {
        Phase::Failed
    })
}

/// A regular init container has done its work.
pub(super) fn init_done(container: &Container, state: &PodState) -> bool {
    let track = state.containers.get(&container.name);
    let ended = |track: &Track| match &track.instance {
        Some(instance) => instance.exit().map(|exit| exit.code),
        None => track.last.as_ref().map(|last| last.exit.code),
    };
    track.and_then(ended) == Some(0)
}

/// Running, its postStart hook is over, and its startup probe has passed.
pub(super) fn started(container: &Container, state: &PodState) -> bool {
    state.instance(&container.name).is_some_and(|instance| {
        instance.running()
            && (spec::post_start(container).is_none() || instance.post_start == Hook::Succeeded)
            && probed_started(container, instance)
    })
}

/// Its startup probe has passed, if it has one.
pub(super) fn probed_started(container: &Container, instance: &Instance) -> bool {
    spec::probe(container, ProbeKind::Startup).is_none() || instance.startup.result == Some(true)
}

/// An application container exists or existed, or the API says so: init containers do not run again.
fn initialized_before(pod: &Pod, state: &PodState) -> bool {
    let said = condition(pod, "Initialized").is_some_and(|condition| condition.status == "True");
    said && !spec::init_containers(pod).is_empty()
        || spec::containers(pod).iter().any(|c| {
            state
                .containers
                .get(&c.name)
                .is_some_and(|track| track.instance.is_some() || track.next_attempt > 0)
        })
}

/// All init containers have done their work and sidecars have started.
pub(super) fn initialized(pod: &Pod, state: &PodState) -> bool {
    initialized_before(pod, state)
        || spec::init_containers(pod).iter().all(|c| {
            if spec::is_sidecar(pod, c) {
                started(c, state)
            } else {
                init_done(c, state)
            }
        })
}

pub(crate) fn condition<'a>(pod: &'a Pod, type_: &str) -> Option<&'a PodCondition> {
    pod.status
        .as_ref()?
        .conditions
        .as_ref()?
        .iter()
        .find(|condition| condition.type_ == type_)
}

pub(super) fn init_part_done(pod: &Pod, container: &Container, state: &PodState) -> bool {
    if spec::is_sidecar(pod, container) {
        started(container, state)
    } else {
        init_done(container, state)
    }
}

/// Running, started, and (with a readiness probe) said to be ready. An init container is ready when it has done its work.
pub(super) fn is_ready(container: &Container, state: &PodState) -> bool {
    let Some(instance) = state.instance(&container.name) else {
        return false;
    };
    instance.running()
        && started(container, state)
        && (spec::probe(container, ProbeKind::Readiness).is_none() || instance.readiness.result == Some(true))
}
