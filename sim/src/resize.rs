//! Resources that change while a pod runs (KEP-1287), as a kubelet goes about them.

use std::time::Duration;

use afloat_words::quantity::Quantity;

use crate::kubelet::{Around, LocalContainer};
use crate::pod::{Container, Pod};

/// Why a node with that many CPUs and GiB can never give running containers what the pod has come to want, in a kubelet's
/// words (1.32: `kubelet.go#canResizePod`).
pub(crate) fn refusal(pod: &Pod, containers: &[LocalContainer], (cpus, gib): (u32, u32)) -> Option<String> {
    let wants = |container: &LocalContainer| {
        let mut specs = pod.spec.containers.iter();
        specs.any(|spec| spec.name == container.name && spec.resources != container.resources)
    };
    if !containers.iter().any(wants) {
        return None;
    }
    let total = |resource: &str| {
        let requests = pod
            .spec
            .containers
            .iter()
            .filter_map(|spec| Quantity::of_json(&spec.resources["requests"][resource]).ok());
        requests.fold(None, |sum: Option<Quantity>, more| match sum {
            Some(sum) => sum.checked_add(more),
            None => Some(more),
        })
    };
    let memory = total("memory").map_or(0, Quantity::value);
    let bytes = i64::from(gib) << 30;
    let cpu = total("cpu").map_or(0, Quantity::milli);
    let thousandths = i64::from(cpus) * 1000;
    let (what, wanted, there) = if memory > bytes {
        ("memory", memory, bytes)
    } else if cpu > thousandths {
        ("cpu", cpu, thousandths)
    } else {
        return None;
    };
    Some(format!(
        "Node didn't have enough capacity: {what}, requested: {wanted}, capacity: {there}"
    ))
}

/// Brings a running container's resources to the spec's; true if that needs a restart.
pub(crate) fn resize(container: &mut LocalContainer, spec: &Container, around: &Around<'_>) -> bool {
    if container.resources == spec.resources {
        container.resizing = None;
        return false;
    }
    let changed = |resource: &str| {
        ["requests", "limits"]
            .iter()
            .any(|kind| container.resources[kind][resource] != spec.resources[kind][resource])
    };
    let restart = |policy: &crate::pod::ResizePolicy| policy.restart_policy == "RestartContainer";
    if spec
        .resize_policy
        .iter()
        .any(|policy| restart(policy) && changed(&policy.resource_name))
    {
        return true;
    }
    match &container.resizing {
        Some((wanted, at)) if *wanted == spec.resources => {
            if *at <= around.now {
                container.resources = spec.resources.clone();
                container.resizing = None;
            }
        }
        _ if around.options.resize == Duration::ZERO => container.resources = spec.resources.clone(),
        _ => container.resizing = Some((spec.resources.clone(), around.now + around.options.resize)),
    }
    false
}
