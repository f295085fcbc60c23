//! Which pod and which container a request is about.

use std::sync::Arc;

use afloat_runtime::{Container, ContainerState};
use k8s_openapi::api::core::v1::Pod;

use super::answer::Refusal;
use crate::context::Context;
use crate::pod::{ephemeral, spec};

pub(super) fn pod(context: &Context, namespace: &str, name: &str) -> Result<Arc<Pod>, Refusal> {
    let found = context.find(namespace, name);
    found.ok_or_else(|| {
        Refusal::not_found(format!(
            "pod \"{name}\" in namespace \"{namespace}\" is not on this node"
        ))
    })
}

/// The newest container of that name in the pod.
pub(super) async fn container(context: &Context, pod: &Pod, name: &str) -> Result<Option<Container>, Refusal> {
    if ephemeral::find(pod, name).is_none() {
        return Err(Refusal::bad_request(format!(
            "container {name} is not valid for pod {}",
            spec::name(pod)
        )));
    }
    let list = context
        .runtime
        .containers()
        .await
        .map_err(|error| Refusal::internal(error.to_string()))?;
    let own = list
        .into_iter()
        .filter(|c| c.pod_uid == spec::uid(pod) && c.name == name);
    Ok(own.max_by_key(|container| container.attempt))
}

pub(super) async fn running(context: &Context, pod: &Pod, name: &str) -> Result<Container, Refusal> {
    let found = container(context, pod, name)
        .await?
        .filter(|c| c.state == ContainerState::Running);
    found.ok_or_else(|| {
        let pod = spec::pod_in_message(pod);
        Refusal::internal(format!(
            "unable to upgrade connection: container not found or not running (\"{name}\" in {pod})"
        ))
    })
}
