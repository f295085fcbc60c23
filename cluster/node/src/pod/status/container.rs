//! One container's entry in the status.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    Pod,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::clock::later;
use crate::pod::instance::{CONTAINER_ID_SCHEME, Ended, Hook, Process};
use crate::pod::obstacle::Obstacle;
use crate::pod::progress::{self, ERROR_SHOWN};
use crate::pod::resize;
use crate::pod::spec;
use crate::pod::state::{PodView, Sandbox, Track};

/// Its status entry. `imageID` is the image's own id, plain `sha256:…`, as containerd reports images that came from a
/// file and so have no digest of a registry: two tags of one image show the same one.
pub(super) fn container_status(view: &PodView<'_>, container: &Container, now: Timestamp) -> ContainerStatus {
    let PodView { pod, state, .. } = *view;
    let empty = Track::default();
    let track = state.containers.get(&container.name).unwrap_or(&empty);
    let init = spec::is_init(pod, &container.name) && !spec::is_sidecar(pod, container);
    let ready = if init {
        progress::init_done(container, state)
    } else {
        progress::is_ready(container, state)
    };
    let (current, last) = states(view, container, track, now);
    let instance = track.instance.as_ref();
    let running = current.running.is_some();
    let before = instance.is_none().then(|| old_entry(pod, container)).flatten();
    ContainerStatus {
        name: container.name.clone(),
        image: instance.map_or_else(|| spec::image(container).to_owned(), |i| i.image.clone()),
        image_id: instance.map_or_else(
            || before.map(|b| b.image_id.clone()).unwrap_or_default(),
            |i| i.image_id.clone(),
        ),
        container_id: instance
            .map(|i| format!("{CONTAINER_ID_SCHEME}{}", i.id))
            .or_else(|| before.and_then(|b| b.container_id.clone())),
        ready,
        started: Some(if init {
            false
        } else {
            running && progress::started(container, state)
        }),
        restart_count: restart_count(track),
        state: Some(current),
        last_state: Some(last),
        allocated_resources: resize::allocated(container, state).requests,
        resources: Some(resize::actual(container, state)),
        ..ContainerStatus::default()
    }
}

/// What the API was told of it last.
pub(super) fn old_entry<'a>(pod: &'a Pod, container: &Container) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let lists = [
        &status.container_statuses,
        &status.init_container_statuses,
        &status.ephemeral_container_statuses,
    ];
    lists
        .into_iter()
        .flatten()
        .flatten()
        .find(|entry| entry.name == container.name)
}

fn restart_count(track: &Track) -> i32 {
    let attempt = match &track.instance {
        Some(instance) => instance.attempt,
        None => track.next_attempt.saturating_sub(1),
    };
    i32::try_from(attempt).unwrap_or(i32::MAX)
}

fn states(
    view: &PodView<'_>,
    container: &Container,
    track: &Track,
    now: Timestamp,
) -> (ContainerState, ContainerState) {
    let last = track.last.as_ref().map(terminated).unwrap_or_default();
    let Some(instance) = &track.instance else {
        return (waiting(obstacle_or_creating(view, container, track, now)), last);
    };
    match &instance.process {
        Process::Created => (waiting(creating(view)), last),
        // The hook blocks `Running`.
        Process::Running
            if spec::post_start(container).is_some()
                && matches!(instance.post_start, Hook::Waiting | Hook::Running) =>
        {
            (waiting(creating(view)), last)
        }
        Process::Running => {
            let running = ContainerStateRunning {
                started_at: instance.started_at.map(Time),
            };
            (
                ContainerState {
                    running: Some(running),
                    ..ContainerState::default()
                },
                last,
            )
        }
        Process::Exited(exit) => {
            let this = instance.ended().map(|ended| terminated(&ended)).unwrap_or_default();
            let until = track.crash.until(exit.finished_at, view.state.limits);
            if track.obstacle.is_some() {
                (waiting(obstacle_or_creating(view, container, track, now)), this)
            } else if will_restart(view, container, exit.code)
                && until.is_some_and(|at| at > now)
                && !changed(track, container)
            {
                (waiting(crash_loop(view, container, track)), this)
            } else {
                (this, last)
            }
        }
    }
}

fn changed(track: &Track, container: &Container) -> bool {
    track
        .instance
        .as_ref()
        .is_some_and(|instance| instance.hash != spec::hash(container))
}

fn will_restart(view: &PodView<'_>, container: &Container, code: i32) -> bool {
    view.state.ending.is_none() && view.state.failed.is_none() && spec::restarts(view.pod, container, code)
}

fn crash_loop(view: &PodView<'_>, container: &Container, track: &Track) -> (String, String) {
    let wait = track.crash.duration().unwrap_or_default();
    (
        "CrashLoopBackOff".to_owned(),
        format!(
            "back-off {} {}",
            go_duration(wait),
            back_off_message(view, &container.name)
        ),
    )
}

fn back_off_message(view: &PodView<'_>, name: &str) -> String {
    format!(
        "restarting failed container={name} pod={}",
        spec::pod_in_message(view.pod)
    )
}

/// `1m20s`, as Go writes it.
fn go_duration(duration: std::time::Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 60, seconds % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, seconds) => format!("{minutes}m{seconds}s"),
    }
}

fn obstacle_or_creating(view: &PodView<'_>, container: &Container, track: &Track, now: Timestamp) -> (String, String) {
    match &track.obstacle {
        Some(obstacle) => shown(container, obstacle, now),
        None => creating(view),
    }
}

fn shown(container: &Container, obstacle: &Obstacle, now: Timestamp) -> (String, String) {
    let Obstacle {
        reason, message, since, ..
    } = obstacle;
    if reason.is_of_a_pull() && later(*since, ERROR_SHOWN) <= now {
        return (
            "ImagePullBackOff".to_owned(),
            format!(
                "Back-off pulling image \"{}\": {reason}: {message}",
                spec::image(container)
            ),
        );
    }
    (reason.to_string(), message.clone())
}

fn creating(view: &PodView<'_>) -> (String, String) {
    let init = !spec::init_containers(view.pod).is_empty();
    let message = match &view.state.sandbox {
        Sandbox::Failed { message, .. } => message.clone(),
        _ => String::new(),
    };
    (
        if init { "PodInitializing" } else { "ContainerCreating" }.to_owned(),
        message,
    )
}

fn waiting((reason, message): (String, String)) -> ContainerState {
    let message = (!message.is_empty()).then_some(message);
    ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(reason),
            message,
        }),
        ..ContainerState::default()
    }
}

fn terminated(ended: &Ended) -> ContainerState {
    let Ended {
        id,
        exit,
        started_at,
        reason,
        message,
    } = ended;
    let terminated = ContainerStateTerminated {
        container_id: Some(format!("{CONTAINER_ID_SCHEME}{id}")),
        exit_code: exit.code,
        // The kubelet reports the signal only where the runtime tells it apart; containerd never does.
        signal: None,
        finished_at: Some(Time(exit.finished_at)),
        started_at: started_at.map(Time),
        reason: Some(reason.clone()),
        message: message.clone(),
    };
    ContainerState {
        terminated: Some(terminated),
        ..ContainerState::default()
    }
}
