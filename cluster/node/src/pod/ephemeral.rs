//! Ephemeral containers (KEP-277): started once in a living pod, never again; they count for nothing.
//!
//! They are containers without probes, hooks and resources; so here they become ones, made from the pod when they are asked for.

use std::borrow::Cow;

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod};

use super::plan::Planner;
use super::spec;

/// A pod's ephemeral containers, as containers.
pub(crate) fn containers(pod: &Pod) -> Vec<Container> {
    listed(pod).iter().map(container).collect()
}

fn listed(pod: &Pod) -> &[EphemeralContainer] {
    let spec = pod.spec.as_ref();
    spec.and_then(|spec| spec.ephemeral_containers.as_deref())
        .unwrap_or_default()
}

/// One of a pod's containers, of whatever kind.
pub(crate) fn find<'a>(pod: &'a Pod, name: &str) -> Option<Cow<'a, Container>> {
    let ephemeral = || listed(pod).iter().find(|container| container.name == name);
    match spec::find(pod, name) {
        Some(found) => Some(Cow::Borrowed(found)),
        None => ephemeral().map(|found| Cow::Owned(container(found))),
    }
}

pub(crate) fn is_ephemeral(pod: &Pod, name: &str) -> bool {
    listed(pod).iter().any(|container| container.name == name)
}

/// The container whose processes it is to see.
pub(crate) fn target<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    let found = listed(pod).iter().find(|container| container.name == name)?;
    let target = found.target_container_name.as_deref();
    target.filter(|target| !target.is_empty())
}

fn container(from: &EphemeralContainer) -> Container {
    let from = from.clone();
    Container {
        args: from.args,
        command: from.command,
        env: from.env,
        env_from: from.env_from,
        image: from.image,
        image_pull_policy: from.image_pull_policy,
        name: from.name,
        security_context: from.security_context,
        stdin: from.stdin,
        stdin_once: from.stdin_once,
        termination_message_path: from.termination_message_path,
        termination_message_policy: from.termination_message_policy,
        tty: from.tty,
        volume_devices: from.volume_devices,
        volume_mounts: from.volume_mounts,
        working_dir: from.working_dir,
        ..Container::default()
    }
}

impl Planner<'_> {
    /// Those that never were; also while the pod is still being initialized, to see why that takes so long.
    pub(super) fn start_ephemeral(&mut self) {
        for container in containers(self.pod()) {
            let track = self.state().containers.get(&container.name);
            if track.is_none_or(|track| track.instance.is_some() || track.next_attempt == 0) {
                self.ensure(&container);
            }
        }
    }
}
