//! What the agent knows of a pod after its own restart: from the runtime's containers and the last status written.

use std::collections::BTreeMap;

use afloat_runtime::{Container, Exit};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};

use super::back_off::BackOffLimits;
use super::found::instance;
use super::instance::{CONTAINER_ID_SCHEME, Ended};
use super::resize;
use super::state::PodState;

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
        reason: terminated.reason.clone().unwrap_or_default(),
        message: terminated.message.clone(),
    })
}
