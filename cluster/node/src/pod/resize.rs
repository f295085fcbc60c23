//! Resources that change while a pod lives (KEP-1287): the spec says what is wanted, the node grants it (`allocated`), and a
//! running container is given it (`actual`). Pure; three comparisons of requests and limits.

use std::collections::BTreeMap;

use afloat_runtime::Resources;
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, ResourceRequirements};

use super::container::resources;
use super::instance::Instance;
use super::spec;
use super::state::PodState;

/// Conditions that a pod has only while a resize waits or goes on.
pub(crate) const CONDITIONS: [&str; 2] = ["PodResizePending", "PodResizeInProgress"];

/// Requirements of a pod's containers, by name.
pub(crate) type Requirements = BTreeMap<String, ResourceRequirements>;

/// Containers and sidecars; init containers that end keep what they have.
pub(super) fn resizable(pod: &Pod) -> impl Iterator<Item = &Container> {
    spec::all_containers(pod).filter(|c| !spec::is_init(pod, &c.name) || spec::is_sidecar(pod, c))
}

/// The instance of a container that runs with something else than it was granted.
pub(super) fn late<'a>(container: &Container, state: &'a PodState) -> Option<&'a Instance> {
    let instance = state.instance(&container.name).filter(|i| i.running())?;
    let actual = instance.resources.as_ref()?;
    (!same(actual, &allocated(container, state))).then_some(instance)
}

pub(super) fn wanted(container: &Container) -> ResourceRequirements {
    container.resources.clone().unwrap_or_default()
}

/// What the node has granted the container.
pub(crate) fn allocated(container: &Container, state: &PodState) -> ResourceRequirements {
    let granted = state.allocated.get(&container.name).cloned();
    granted.unwrap_or_else(|| wanted(container))
}

/// What it runs with, or would.
pub(crate) fn actual(container: &Container, state: &PodState) -> ResourceRequirements {
    let running = state.instance(&container.name).filter(|instance| instance.running());
    let actual = running.and_then(|instance| instance.resources.clone());
    actual.unwrap_or_else(|| allocated(container, state))
}

/// Whether it wants to be restarted for one of the resources that are other ones now.
pub(crate) fn needs_restart(container: &Container, instance: &Instance, state: &PodState) -> bool {
    let Some(actual) = &instance.resources else {
        return false;
    };
    let granted = allocated(container, state);
    let mut policies = container.resize_policy.iter().flatten();
    policies.any(|policy| {
        policy.restart_policy == "RestartContainer"
            && figures(actual, &policy.resource_name) != figures(&granted, &policy.resource_name)
    })
}

/// Conditions of a pod whose resize waits or goes on: type, reason, message.
pub(crate) fn conditions<'a>(
    pod: &'a Pod,
    state: &'a PodState,
) -> impl Iterator<Item = (&'static str, &'static str, String)> + 'a {
    let [pending, in_progress] = CONDITIONS;
    let waits = state.pending.iter();
    let waits = waits.map(move |p| (pending, p.reason.word(), p.message.clone()));
    let mut late: Vec<_> = resizable(pod).filter_map(|c| late(c, state)).collect();
    // One that fails says more than one that is about to be done.
    late.sort_by_key(|instance| instance.resize_failed.is_none());
    let goes_on = late.first().map(|instance| match &instance.resize_failed {
        Some((message, _)) => (in_progress, "Error", message.clone()),
        None => (in_progress, "", String::new()),
    });
    waits.chain(goes_on)
}

/// What the API was told that the node had granted; for containers that it was told nothing of, what the spec says.
pub(crate) fn told(pod: &Pod, entries: &[&ContainerStatus]) -> Requirements {
    let of = |container: &Container| {
        let entry = entries.iter().find(|entry| entry.name == container.name);
        let told = entry.and_then(|entry| {
            let actual = entry.resources.clone()?;
            let requests = entry.allocated_resources.clone().or(actual.requests.clone());
            Some(ResourceRequirements { requests, ..actual })
        });
        told.unwrap_or_else(|| wanted(container))
    };
    let all = spec::all_containers(pod);
    all.map(|container| (container.name.clone(), of(container))).collect()
}

/// Thousandths of a CPU and bytes that a pod takes from its node: the documented sum of its containers and sidecars, or its
/// hungriest moment before they all run.
pub(crate) fn requests(pod: &Pod, of: &Requirements) -> (u64, u64) {
    let own = |container: &Container| of.get(&container.name).map_or((0, 0), resources::requests);
    let add = |a: (u64, u64), b: (u64, u64)| (a.0.saturating_add(b.0), a.1.saturating_add(b.1));
    let most = |a: (u64, u64), b: (u64, u64)| (a.0.max(b.0), a.1.max(b.1));
    let (mut sidecars, mut peak) = ((0, 0), (0, 0));
    for container in spec::init_containers(pod) {
        if spec::is_sidecar(pod, container) {
            sidecars = add(sidecars, own(container));
            peak = most(peak, sidecars);
        } else {
            peak = most(peak, add(sidecars, own(container)));
        }
    }
    most(spec::containers(pod).iter().map(own).fold(sidecars, add), peak)
}

/// The kernel's numbers for what was granted.
pub(crate) fn granted_limits(container: &Container, state: &PodState) -> (ResourceRequirements, Resources) {
    let granted = allocated(container, state);
    let mut container = container.clone();
    container.resources = Some(granted.clone());
    (granted, resources::limits(&container))
}

pub(super) fn same(a: &ResourceRequirements, b: &ResourceRequirements) -> bool {
    ["cpu", "memory"]
        .iter()
        .all(|name| figures(a, name) == figures(b, name))
}

/// Request and limit of one resource as numbers: `1` is `1000m`.
fn figures(requirements: &ResourceRequirements, name: &str) -> [Option<u64>; 2] {
    [&requirements.requests, &requirements.limits].map(|map| resources::milli(map.as_ref()?.get(name)?))
}
