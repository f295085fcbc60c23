//! Resources that change while a pod runs (KEP-1287), as a kubelet decides on them.

use afloat_words::quantity::Quantity;
use serde_json::Value;

use crate::pod::{Container, Pod, ResizePolicy};

/// Why a node with that many CPUs and GiB can never give a pod's containers what it has come to want, in a kubelet's words
/// (1.32: `kubelet.go#canResizePod`). `has`: what each has, by name; a pod that wants nothing else is not refused.
pub(crate) fn refusal<'a>(
    pod: &Pod,
    mut has: impl Iterator<Item = (&'a str, &'a Value)>,
    (cpus, gib): (u32, u32),
) -> Option<String> {
    let wants = |(name, resources): (&str, &Value)| {
        let mut specs = pod.spec.containers.iter();
        specs.any(|spec| spec.name == name && spec.resources != *resources)
    };
    if !has.any(wants) {
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

/// Whether a running container has to be restarted to get what its spec wants.
pub(crate) fn needs_restart(has: &Value, spec: &Container) -> bool {
    let changed = |resource: &str| {
        ["requests", "limits"]
            .iter()
            .any(|kind| has[kind][resource] != spec.resources[kind][resource])
    };
    let restart = |policy: &ResizePolicy| policy.restart_policy == "RestartContainer";
    let mut policies = spec.resize_policy.iter();
    policies.any(|policy| restart(policy) && changed(&policy.resource_name))
}
