//! What the agent knows of a pod after its own restart: from the runtime's containers and the last status written.

use std::collections::BTreeMap;

use afloat_runtime::{Container, ContainerState, Exit};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};

use super::back_off::BackOffLimits;
use super::resize;
use super::spec;
use super::state::{Ended, Hook, Instance, PodState, ProbeTrack, Process};
use super::status::container::CONTAINER_ID_SCHEME;

/// Label: [`spec::hash`] of the container as it was created.
pub(crate) const HASH_LABEL: &str = "afloat.dev/container-hash";
/// Label: the image's name for the status.
pub(crate) const IMAGE_LABEL: &str = "afloat.dev/image";
/// Label: the signal that asks it to stop.
pub(crate) const STOP_SIGNAL_LABEL: &str = "afloat.dev/stop-signal";

/// Label: requests and limits that it was created with, as JSON.
pub(crate) const RESOURCES_LABEL: &str = "afloat.dev/resources";

/// Label: `namespace/name` of the pod.
pub(crate) const POD_LABEL: &str = "afloat.dev/pod";

/// State of a pod with the containers that the runtime has of it.
pub(crate) fn recover(pod: &Pod, containers: Vec<Container>, limits: BackOffLimits, now: Timestamp) -> PodState {
    let mut state = PodState::new(limits, now);
    let mut by_name: BTreeMap<String, Vec<Container>> = BTreeMap::new();
    for container in containers {
        by_name.entry(container.name.clone()).or_default().push(container);
    }
    let status = pod.status.as_ref();
    let entries: Vec<&ContainerStatus> = status
        .into_iter()
        .flat_map(|s| {
            s.container_statuses
                .iter()
                .flatten()
                .chain(s.init_container_statuses.iter().flatten())
                .chain(s.ephemeral_container_statuses.iter().flatten())
        })
        .collect();
    for entry in &entries {
        let track = state.containers.entry(entry.name.clone()).or_default();
        if entry.container_id.is_some() {
            track.next_attempt = u32::try_from(entry.restart_count).unwrap_or(0) + 1;
        }
        let terminated = |state: &Option<k8s_openapi::api::core::v1::ContainerState>| {
            state.as_ref().and_then(|s| s.terminated.as_ref()).and_then(ended)
        };
        let runs_on = by_name.contains_key(&entry.name);
        track.last = terminated(&entry.last_state);
        if !runs_on {
            track.last = terminated(&entry.state).or(track.last.take());
        }
    }
    state.allocated = resize::told(pod, &entries);
    for (name, mut list) in by_name {
        list.sort_by_key(|container| container.attempt);
        let entry = entries.iter().find(|entry| entry.name == name);
        let track = state.containers.entry(name).or_default();
        if let Some(newest) = list.pop() {
            track.next_attempt = track.next_attempt.max(newest.attempt + 1);
            track.instance = Some(instance(newest, entry.copied()));
        }
        track.stale = list.into_iter().map(|container| instance(container, None)).collect();
    }
    state
}

/// An instance from what the runtime tells; `entry`: what the API was told last of this name.
pub(crate) fn instance(container: Container, entry: Option<&ContainerStatus>) -> Instance {
    let id = format!("{CONTAINER_ID_SCHEME}{}", container.id);
    let entry = entry.filter(|entry| entry.container_id.as_deref() == Some(&id));
    let was_running = entry.is_some_and(|e| e.state.as_ref().is_some_and(|s| s.running.is_some()));
    let verdict = |yes: bool| ProbeTrack {
        result: yes.then_some(true),
        ..ProbeTrack::default()
    };
    let label = |key: &str| container.labels.get(key).cloned().unwrap_or_default();
    Instance {
        image: label(IMAGE_LABEL),
        stop_signal: label(STOP_SIGNAL_LABEL),
        image_id: container.image_id,
        process: match container.state {
            ContainerState::Created => Process::Created,
            ContainerState::Running => Process::Running,
            ContainerState::Exited(exit) => Process::Exited(exit),
        },
        // Ours, noted a moment after the runtime's: the same moment must not be told twice with two times.
        started_at: entry.and_then(told_start).or(container.started_at),
        post_start: if was_running { Hook::Succeeded } else { Hook::Waiting },
        startup: verdict(entry.is_some_and(|e| e.started == Some(true))),
        // A restart of the agent must not take a working pod out of its Services.
        readiness: verdict(entry.is_some_and(|e| e.ready)),
        // Changed since it was made, or not; a change that was not told yet is made once more.
        resources: entry
            .and_then(|e| e.resources.clone())
            .or_else(|| serde_json::from_str(&label(RESOURCES_LABEL)).ok()),
        ..Instance::created(container.id, container.attempt, label(HASH_LABEL))
    }
}

fn told_start(entry: &ContainerStatus) -> Option<Timestamp> {
    let state = entry.state.as_ref()?;
    let running = state.running.as_ref().and_then(|running| running.started_at.as_ref());
    let terminated = state.terminated.as_ref().and_then(|ended| ended.started_at.as_ref());
    running.or(terminated).map(|time| time.0)
}

fn ended(terminated: &ContainerStateTerminated) -> Option<Ended> {
    let id = terminated.container_id.as_deref()?;
    Some(Ended {
        id: id.strip_prefix(CONTAINER_ID_SCHEME).unwrap_or(id).to_owned(),
        exit: Exit {
            code: terminated.exit_code,
            signal: terminated.signal.unwrap_or(0),
            finished_at: terminated
                .finished_at
                .as_ref()
                .map_or(Timestamp::UNIX_EPOCH, |time| time.0),
            oom_killed: terminated.reason.as_deref() == Some("OOMKilled"),
        },
        started_at: terminated.started_at.as_ref().map(|time| time.0),
        reason: terminated.message.clone(),
    })
}

/// What the agent keeps with a container, to know it again.
pub(crate) fn labels(
    pod: &Pod,
    container: &k8s_openapi::api::core::v1::Container,
    image: &str,
    stop_signal: &str,
) -> BTreeMap<String, String> {
    BTreeMap::from([
        (POD_LABEL.to_owned(), spec::full_name(pod)),
        (HASH_LABEL.to_owned(), spec::hash(container)),
        (IMAGE_LABEL.to_owned(), image.to_owned()),
        (STOP_SIGNAL_LABEL.to_owned(), stop_signal.to_owned()),
        (
            RESOURCES_LABEL.to_owned(),
            serde_json::json!(container.resources.clone().unwrap_or_default()).to_string(),
        ),
    ])
}
