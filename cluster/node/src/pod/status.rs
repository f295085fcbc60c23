//! The agent's part of a pod's status, from what is observed. Pure.
//!
//! Only the conditions in [`OWN_CONDITIONS`] are the agent's; everybody else's are left alone, also when written.

mod conditions;
pub(crate) mod container;
mod end;
pub(crate) mod patch;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ContainerStatus, HostIP, Pod, PodIP, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use self::conditions::conditions;
use self::container::container_status;
use self::end::{bounded, terminated_before, with_end};
use super::instance::Hook;
use super::progress::{Phase, initialized, is_terminal, outcome};
use super::state::{PodState, PodView, Sandbox};
use super::{ephemeral, spec};

/// Condition types that the agent writes.
pub const OWN_CONDITIONS: [&str; 4] = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady"];

/// The agent's part of the status. Fields that are not the agent's are empty.
pub(super) fn status(view: &PodView<'_>, now: Timestamp) -> PodStatus {
    let PodView { pod, state, host_ip } = *view;
    let old = pod.status.clone().unwrap_or_default();
    if is_terminal(Some(&old)) {
        // The end of a pod is told once; what is cleared away afterwards does not change it.
        return old;
    }
    let start_time = old.start_time.clone().or(state.seen_at.map(Time));
    let phase = phase(pod, state);
    let reason = state.failed.as_ref().map(|(reason, _)| reason.clone());
    let message = state.failed.as_ref().map(|(_, message)| message.clone());
    if state.rejected {
        // There is nothing else to tell of (the kubelet's `rejectPod`).
        return PodStatus {
            phase: Some(phase.word().to_owned()),
            qos_class: Some(spec_qos(pod).to_owned()),
            reason,
            message,
            start_time,
            ..PodStatus::default()
        };
    }
    let host_ip = host_ip.to_string();
    let statuses = |list: &[Container]| {
        let statuses: Vec<_> = list.iter().map(|c| container_status(view, c, now)).collect();
        (!statuses.is_empty()).then_some(statuses)
    };
    let ip = match &state.sandbox {
        Sandbox::Ready(ip) => Some(ip.to_string()),
        _ => old.pod_ip.clone(),
    };
    let told = PodStatus {
        conditions: Some(conditions(view, phase, now)),
        container_statuses: statuses(spec::containers(pod)),
        init_container_statuses: statuses(spec::init_containers(pod)),
        ephemeral_container_statuses: ephemeral_statuses(view, now),
        host_ip: Some(host_ip.clone()),
        host_ips: Some(vec![HostIP { ip: host_ip }]),
        message,
        observed_generation: observed_generation(pod, state, old.observed_generation),
        reason,
        phase: Some(phase.word().to_owned()),
        pod_ips: ip.clone().map(|ip| vec![PodIP { ip }]),
        pod_ip: ip,
        qos_class: Some(spec_qos(pod).to_owned()),
        start_time,
        ..PodStatus::default()
    };
    let over = matches!(phase, Phase::Succeeded | Phase::Failed);
    bounded(if over { with_end(pod, told) } else { told })
}

/// The generation that the containers are at (KEP-5067): the pod's, unless one that runs is of an older definition.
fn observed_generation(pod: &Pod, state: &PodState, old: Option<i64>) -> Option<i64> {
    let current = |container: &Container| {
        let instance = state.instance(&container.name).filter(|instance| instance.running());
        instance.is_none_or(|instance| instance.hash == spec::hash(container))
    };
    if spec::containers(pod).iter().all(current) {
        pod.metadata.generation
    } else {
        old
    }
}

/// Neither ready nor started nor with resources: they are nothing but there.
fn ephemeral_statuses(view: &PodView<'_>, now: Timestamp) -> Option<Vec<ContainerStatus>> {
    let of = |container: &Container| ContainerStatus {
        ready: false,
        started: None,
        allocated_resources: None,
        resources: None,
        ..container_status(view, container, now)
    };
    let statuses: Vec<_> = ephemeral::containers(view.pod).iter().map(of).collect();
    (!statuses.is_empty()).then_some(statuses)
}

fn spec_qos(pod: &Pod) -> &'static str {
    pod.spec.as_ref().map_or("BestEffort", spec::qos_class)
}

fn phase(pod: &Pod, state: &PodState) -> Phase {
    let alive = state.instances().any(|(_, instance)| instance.alive());
    if state.failed.is_some() && !alive {
        return Phase::Failed;
    }
    if !alive {
        if let Some(outcome) = outcome(pod, state) {
            return outcome;
        }
        if state.ending.is_some() {
            return ended_by_deletion(pod, state);
        }
    }
    if !initialized(pod, state) {
        return Phase::Pending;
    }
    // Pending until each container has been running once.
    let waiting = spec::containers(pod)
        .iter()
        .any(|c| match state.containers.get(&c.name) {
            Some(track) => {
                let seen = track.instance.as_ref().is_some_and(|i| {
                    i.exit().is_some()
                        || i.running() && (spec::post_start(c).is_none() || i.post_start != Hook::Running)
                });
                !seen && track.last.is_none()
            }
            None => true,
        });
    if waiting { Phase::Pending } else { Phase::Running }
}

/// A deleted pod of which nothing lives: Succeeded only if every container had a good end.
fn ended_by_deletion(pod: &Pod, state: &PodState) -> Phase {
    let good = |c: &Container| match state.instance(&c.name) {
        Some(instance) => instance.exit().map(|exit| exit.code) == Some(0),
        // It was over before the node's last start.
        None => terminated_before(pod, c).map(|ended| ended.exit_code) == Some(0),
    };
    if spec::containers(pod).iter().all(good) {
        Phase::Succeeded
    } else {
        Phase::Failed
    }
}
