//! A container as the runtime has it, and the labels by which the agent knows it again.

use std::collections::BTreeMap;

use afloat_runtime::{Container, ContainerState};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerPort, ContainerStatus, LifecycleHandler, Pod};

use super::instance::{CONTAINER_ID_SCHEME, Hook, Instance, ProbeTrack, Process};
use super::spec;

/// Label: [`spec::hash`] of the container as it was created.
pub(crate) const HASH_LABEL: &str = "afloat.dev/container-hash";

/// Label: the image's name for the status.
pub(crate) const IMAGE_LABEL: &str = "afloat.dev/image";

/// Label: the signal that asks it to stop.
pub(crate) const STOP_SIGNAL_LABEL: &str = "afloat.dev/stop-signal";

/// Label: the image that it was created for, in the text of the pod's spec.
const REFERENCE_LABEL: &str = "afloat.dev/reference";

/// Label: requests and limits that it was created with, as JSON.
pub(crate) const RESOURCES_LABEL: &str = "afloat.dev/resources";

/// Label: `namespace/name` of the pod.
pub(crate) const POD_LABEL: &str = "afloat.dev/pod";

/// Label: its preStop hook, as JSON.
const PRE_STOP_LABEL: &str = "afloat.dev/pre-stop";

/// Label: `terminationGracePeriodSeconds` of the pod.
const GRACE_LABEL: &str = "afloat.dev/grace-seconds";

/// Label: its ports, as JSON.
const PORTS_LABEL: &str = "afloat.dev/ports";

/// What an agent keeps with a container that others than itself may want to know.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Kept {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// The image that it was created for, in the text of the pod's spec.
    pub reference: Option<String>,
    /// The image's name in the pod's status.
    pub image: String,
    /// The signal that asks it to stop; empty: SIGTERM.
    pub stop_signal: String,
    /// Its preStop hook when it was created.
    pub pre_stop: Option<LifecycleHandler>,
    /// `terminationGracePeriodSeconds` of the pod then.
    pub grace_seconds: Option<i64>,
    /// Its ports.
    pub ports: Vec<ContainerPort>,
}

/// Reads it. None: the container is of no agent's making.
pub fn kept(container: &Container) -> Option<Kept> {
    let label = |key: &str| container.labels.get(key);
    let (namespace, pod) = label(POD_LABEL)?.split_once('/')?;
    Some(Kept {
        namespace: namespace.to_owned(),
        pod: pod.to_owned(),
        reference: label(REFERENCE_LABEL).cloned(),
        image: label(IMAGE_LABEL).cloned().unwrap_or_default(),
        stop_signal: label(STOP_SIGNAL_LABEL).cloned().unwrap_or_default(),
        pre_stop: label(PRE_STOP_LABEL).and_then(|text| serde_json::from_str(text).ok()),
        grace_seconds: label(GRACE_LABEL).and_then(|text| text.parse().ok()),
        ports: label(PORTS_LABEL)
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default(),
    })
}

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
    let mut labels = BTreeMap::from([
        (POD_LABEL.to_owned(), spec::full_name(pod)),
        (HASH_LABEL.to_owned(), spec::hash(container)),
        (IMAGE_LABEL.to_owned(), image.to_owned()),
        (REFERENCE_LABEL.to_owned(), spec::image(container).to_owned()),
        (STOP_SIGNAL_LABEL.to_owned(), stop_signal.to_owned()),
        (
            RESOURCES_LABEL.to_owned(),
            serde_json::json!(container.resources.clone().unwrap_or_default()).to_string(),
        ),
        (GRACE_LABEL.to_owned(), spec::grace(pod).as_secs().to_string()),
    ]);
    if let Some(hook) = spec::pre_stop(container) {
        labels.insert(PRE_STOP_LABEL.to_owned(), serde_json::json!(hook).to_string());
    }
    if let Some(ports) = container.ports.as_ref().filter(|ports| !ports.is_empty()) {
        labels.insert(PORTS_LABEL.to_owned(), serde_json::json!(ports).to_string());
    }
    labels
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
