//! What a runtime says, in the agent's words. Pure.

use std::collections::{BTreeMap, HashMap};

use afloat_words::environment::variables;
use jiff::Timestamp;
use serde::Deserialize;
use tonic::{Code, Status};

use super::proto::{self, State};
use crate::runtime::{ContainerState, LocalImage, NodeContainer, PullError};

/// Labels and annotations that the kubelet gives its containers (`pkg/kubelet/types/labels.go`, `kuberuntime/labels.go`).
pub(super) const POD_UID: &str = "io.kubernetes.pod.uid";
const POD_NAME: &str = "io.kubernetes.pod.name";
const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
const CONTAINER_NAME: &str = "io.kubernetes.container.name";
const HASH: &str = "io.kubernetes.container.hash";
const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
const PRE_STOP: &str = "io.kubernetes.container.preStopHandler";
const PORTS: &str = "io.kubernetes.container.ports";
const GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";

pub(super) fn image(image: proto::Image) -> LocalImage {
    LocalImage {
        id: image.id,
        names: image.repo_tags,
        digests: image.repo_digests,
        size_bytes: image.size,
    }
}

/// A container of a list. None: it is not one of the kubelet's. `runtime`: the scheme of its id.
pub(super) fn container(runtime: &str, container: proto::Container) -> Option<NodeContainer> {
    let label = |key: &str| container.labels.get(key).cloned();
    let note = |key: &str| container.annotations.get(key).map(String::as_str);
    let metadata = container.metadata.clone().unwrap_or_default();
    let image = container.image.clone().unwrap_or_default();
    Some(NodeContainer {
        id: format!("{runtime}://{}", container.id),
        pod_uid: label(POD_UID)?,
        pod_namespace: label(POD_NAMESPACE)?,
        pod_name: label(POD_NAME)?,
        name: label(CONTAINER_NAME)?,
        restart_count: note(RESTART_COUNT)
            .and_then(|text| text.parse().ok())
            .unwrap_or(metadata.attempt),
        state: state(container.state, None),
        created_at: time(container.created_at).unwrap_or(Timestamp::UNIX_EPOCH),
        started_at: None,
        image: image.image,
        image_id: container.image_ref.clone(),
        reference: Some(image.user_specified_image).filter(|text| !text.is_empty()),
        hash: note(HASH).and_then(|text| u64::from_str_radix(text, 16).ok()),
        pre_stop: note(PRE_STOP).and_then(|text| serde_json::from_str(text).ok()),
        grace_seconds: note(GRACE).and_then(|text| text.parse().ok()),
        ports: note(PORTS)
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default(),
    })
}

/// What its status adds to that.
pub(super) fn complete(container: &mut NodeContainer, status: &proto::ContainerStatus) {
    container.state = state(status.state, Some(status.exit_code));
    container.started_at = Some(status.started_at)
        .filter(|nanoseconds| *nanoseconds > 0)
        .and_then(time);
}

fn state(number: i32, code: Option<i32>) -> ContainerState {
    match State::try_from(number) {
        Ok(State::Created) => ContainerState::Created,
        Ok(State::Running) => ContainerState::Running,
        Ok(State::Exited) => ContainerState::Exited { code },
        Ok(State::Unknown) | Err(_) => ContainerState::Unknown,
    }
}

fn time(nanoseconds: i64) -> Option<Timestamp> {
    Timestamp::from_nanosecond(i128::from(nanoseconds)).ok()
}

/// What a verbose status says of a container's process (containerd's and CRI-O's `info`).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Info {
    pub(super) pid: u32,
    #[serde(rename = "runtimeSpec")]
    spec: Spec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Spec {
    process: Process,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Process {
    env: Vec<String>,
}

impl Info {
    /// None: it says nothing that can be read.
    pub(super) fn of(info: &HashMap<String, String>) -> Option<Self> {
        serde_json::from_str(info.get("info")?).ok()
    }

    /// The variables of the OCI runtime's configuration, by which the process was started. None: the runtime does not tell.
    pub(super) fn environment(&self) -> Option<BTreeMap<String, String>> {
        let told = self.spec.process.env.iter().map(String::as_str);
        (!self.spec.process.env.is_empty()).then(|| variables(told))
    }
}

/// What a refused pull is. Runtimes have a code for little of it and say the rest in their registry client's words (those of containerd
/// and CRI-O are the texts below); what nobody knows counts as the registry's refusal.
pub(super) fn pull_error(reference: &str, status: &Status) -> PullError {
    const AWAY: [&str; 10] = [
        "connection refused",
        "no such host",
        "i/o timeout",
        "tls handshake timeout",
        "network is unreachable",
        "connection reset",
        "unexpected eof",
        "too many requests",
        "server error",
        "service unavailable",
    ];
    let text = format!("{reference}: {}", status.message());
    let said = status.message().to_lowercase();
    if said.contains("no space left on device") || said.contains("disk quota exceeded") {
        return PullError::DiskFull(text);
    }
    if said.contains("invalid reference") || said.contains("couldn't parse image") {
        return PullError::InvalidName(text);
    }
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded => PullError::Unavailable(text),
        Code::NotFound | Code::PermissionDenied | Code::Unauthenticated => PullError::Refused(text),
        _ if AWAY.iter().any(|away| said.contains(away)) => PullError::Unavailable(text),
        _ => PullError::Refused(text),
    }
}

#[cfg(test)]
mod tests;
