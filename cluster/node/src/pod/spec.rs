//! Questions to a pod's specification, answered with Kubernetes' defaults.

use std::time::Duration;

use afloat_runtime::ProcessNamespace;
use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Lifecycle, LifecycleHandler, Pod, PodSpec, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::hash::container_hash;
use crate::clock::seconds;

/// What happens to an ended container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

/// The three questions a probe can ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProbeKind {
    /// Has it started? The others wait for it.
    Startup,
    /// Does it still live? No: it is restarted.
    Liveness,
    /// May it have traffic?
    Readiness,
}

impl ProbeKind {
    /// All of them, in the order in which they matter.
    pub(crate) const ALL: [Self; 3] = [Self::Startup, Self::Liveness, Self::Readiness];
}

impl std::fmt::Display for ProbeKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        })
    }
}

/// A probe's numbers with their defaults.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProbeTiming {
    pub(crate) initial_delay: Duration,
    pub(crate) period: Duration,
    pub(crate) timeout: Duration,
    pub(crate) success_threshold: u32,
    pub(crate) failure_threshold: u32,
}

pub(crate) fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

pub(crate) fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or_default()
}

pub(crate) fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

/// `namespace/name`.
pub(crate) fn full_name(pod: &Pod) -> String {
    format!("{}/{}", namespace(pod), name(pod))
}

/// `name_namespace(uid)`, as the kubelet's messages have it.
pub(crate) fn pod_in_message(pod: &Pod) -> String {
    format!("{}_{}({})", name(pod), namespace(pod), uid(pod))
}

pub(crate) fn init_containers(pod: &Pod) -> &[Container] {
    pod.spec
        .as_ref()
        .and_then(|spec| spec.init_containers.as_deref())
        .unwrap_or_default()
}

pub(crate) fn containers(pod: &Pod) -> &[Container] {
    pod.spec
        .as_ref()
        .map(|spec| spec.containers.as_slice())
        .unwrap_or_default()
}

/// Init containers first.
pub(crate) fn all_containers(pod: &Pod) -> impl DoubleEndedIterator<Item = &Container> {
    init_containers(pod).iter().chain(containers(pod))
}

pub(crate) fn find<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    all_containers(pod).find(|container| container.name == name)
}

pub(crate) fn is_init(pod: &Pod, name: &str) -> bool {
    init_containers(pod).iter().any(|container| container.name == name)
}

pub(crate) fn ephemeral_containers(pod: &Pod) -> &[EphemeralContainer] {
    let spec = pod.spec.as_ref();
    spec.and_then(|spec| spec.ephemeral_containers.as_deref())
        .unwrap_or_default()
}

pub(crate) fn is_ephemeral(pod: &Pod, name: &str) -> bool {
    ephemeral_containers(pod).iter().any(|container| container.name == name)
}

/// An init container that is to run as long as the pod.
pub(crate) fn is_sidecar(pod: &Pod, container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always") && is_init(pod, &container.name)
}

pub(crate) fn restart_policy(pod: &Pod) -> RestartPolicy {
    match pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()) {
        Some("Never") => RestartPolicy::Never,
        Some("OnFailure") => RestartPolicy::OnFailure,
        _ => RestartPolicy::Always,
    }
}

/// The policy that counts for one container: a sidecar's is Always, other init containers retry under Always too.
pub(crate) fn restarts(pod: &Pod, container: &Container, exit_code: i32) -> bool {
    if is_sidecar(pod, container) {
        return true;
    }
    if is_ephemeral(pod, &container.name) {
        return false;
    }
    match restart_policy(pod) {
        RestartPolicy::Always => exit_code != 0 || !is_init(pod, &container.name),
        RestartPolicy::OnFailure => exit_code != 0,
        RestartPolicy::Never => false,
    }
}

/// Names of the claims of generic ephemeral volumes: the pod's name before the volume's.
pub(crate) fn ephemeral_claims(pod: &Pod) -> impl Iterator<Item = String> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes
        .filter(|volume| volume.ephemeral.is_some())
        .map(|volume| format!("{}-{}", name(pod), volume.name))
}

/// Whether containers of it were made before.
pub(crate) fn has_run(pod: &Pod) -> bool {
    let entries = pod.status.iter().flat_map(|status| {
        let init = status.init_container_statuses.iter().flatten();
        init.chain(status.container_statuses.iter().flatten())
    });
    entries.into_iter().any(|entry| entry.container_id.is_some())
}

pub(crate) fn image(container: &Container) -> &str {
    container.image.as_deref().unwrap_or_default()
}

pub(crate) fn hash(container: &Container) -> String {
    container_hash(&container.name, image(container))
}

/// `terminationGracePeriodSeconds`, 30 s by default.
pub(crate) fn grace(pod: &Pod) -> Duration {
    seconds(
        pod.spec
            .as_ref()
            .and_then(|spec| spec.termination_grace_period_seconds)
            .unwrap_or(30)
            .max(1),
    )
}

pub(crate) fn active_deadline(pod: &Pod) -> Option<Duration> {
    pod.spec
        .as_ref()
        .and_then(|spec| spec.active_deadline_seconds)
        .map(seconds)
}

pub(crate) fn host_network(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or(false)
}

pub(crate) fn host_ipc(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.host_ipc).unwrap_or(false)
}

/// The API server refuses a pod that wants both.
pub(crate) fn processes(pod: &Pod) -> ProcessNamespace {
    let spec = pod.spec.as_ref();
    if spec.and_then(|spec| spec.host_pid) == Some(true) {
        ProcessNamespace::Node
    } else if spec.and_then(|spec| spec.share_process_namespace) == Some(true) {
        ProcessNamespace::Pod
    } else {
        ProcessNamespace::Container
    }
}

/// `runAsUser`: the container's own, or the pod's.
pub(crate) fn requested_user(pod: &Pod, container: &Container) -> Option<i64> {
    let own = container.security_context.as_ref().and_then(|s| s.run_as_user);
    let of_pod = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    own.or(of_pod.and_then(|s| s.run_as_user))
}

pub(crate) fn lifecycle(container: &Container) -> Option<&Lifecycle> {
    container.lifecycle.as_ref()
}

pub(crate) fn post_start(container: &Container) -> Option<&LifecycleHandler> {
    lifecycle(container)?.post_start.as_ref()
}

pub(crate) fn pre_stop(container: &Container) -> Option<&LifecycleHandler> {
    lifecycle(container)?.pre_stop.as_ref()
}

pub(crate) fn probe(container: &Container, kind: ProbeKind) -> Option<&Probe> {
    match kind {
        ProbeKind::Startup => container.startup_probe.as_ref(),
        ProbeKind::Liveness => container.liveness_probe.as_ref(),
        ProbeKind::Readiness => container.readiness_probe.as_ref(),
    }
}

pub(crate) fn timing(probe: &Probe) -> ProbeTiming {
    let or = |value: Option<i32>, default: i32| u32::try_from(value.filter(|v| *v > 0).unwrap_or(default)).unwrap_or(1);
    ProbeTiming {
        initial_delay: Duration::from_secs(or(probe.initial_delay_seconds, 0).into()),
        period: Duration::from_secs(or(probe.period_seconds, 10).into()),
        timeout: Duration::from_secs(or(probe.timeout_seconds, 1).into()),
        success_threshold: or(probe.success_threshold, 1),
        failure_threshold: or(probe.failure_threshold, 3),
    }
}

/// A port as number, or by the name that the container gives it.
pub(crate) fn port(container: &Container, port: &IntOrString) -> Option<u16> {
    match port {
        IntOrString::Int(number) => u16::try_from(*number).ok().filter(|number| *number > 0),
        IntOrString::String(text) => text.parse().ok().or_else(|| {
            let ports = container.ports.as_deref().unwrap_or_default();
            let found = ports.iter().find(|port| port.name.as_deref() == Some(text))?;
            u16::try_from(found.container_port).ok()
        }),
    }
}

/// BestEffort, Burstable or Guaranteed, from requests and limits of CPU and memory.
pub(crate) fn qos_class(spec: &PodSpec) -> &'static str {
    let mut any = false;
    let mut guaranteed = true;
    for container in spec.init_containers.iter().flatten().chain(&spec.containers) {
        let resources = container.resources.as_ref();
        let limits = resources.and_then(|r| r.limits.as_ref());
        let requests = resources.and_then(|r| r.requests.as_ref());
        for name in ["cpu", "memory"] {
            let limit = limits.and_then(|map| map.get(name));
            let request = requests.and_then(|map| map.get(name)).or(limit);
            any |= limit.is_some() || request.is_some();
            guaranteed &= limit.is_some() && limit == request;
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}
