//! A container as the runtime has it, and the labels by which the agent knows it again.

use std::collections::BTreeMap;

use afloat_runtime::{Container, ContainerState};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use super::instance::{CONTAINER_ID_SCHEME, Hook, Instance, ProbeTrack, Process};
use super::spec;

/// Label: [`spec::hash`] of the container as it was created.
pub(crate) const HASH_LABEL: &str = "afloat.dev/container-hash";

/// Label: the image's name for the status.
pub(crate) const IMAGE_LABEL: &str = "afloat.dev/image";

/// Label: the signal that asks it to stop.
pub(crate) const STOP_SIGNAL_LABEL: &str = "afloat.dev/stop-signal";

/// Label: the image that it was created for, in the text of the pod's spec.
pub const REFERENCE_LABEL: &str = "afloat.dev/reference";

/// Label: requests and limits that it was created with, as JSON.
pub(crate) const RESOURCES_LABEL: &str = "afloat.dev/resources";

/// Label: `namespace/name` of the pod.
pub(crate) const POD_LABEL: &str = "afloat.dev/pod";

/// A container's id as a pod's status has it.
pub fn container_id(id: &str) -> String {
    format!("{CONTAINER_ID_SCHEME}{id}")
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
        (REFERENCE_LABEL.to_owned(), spec::image(container).to_owned()),
        (STOP_SIGNAL_LABEL.to_owned(), stop_signal.to_owned()),
        (
            RESOURCES_LABEL.to_owned(),
            serde_json::json!(container.resources.clone().unwrap_or_default()).to_string(),
        ),
    ])
}

/// An instance from what the runtime tells; `entry`: what the API was told last of this name.
pub(crate) fn instance(container: Container, entry: Option<&ContainerStatus>) -> Instance {
    let id = container_id(&container.id);
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
