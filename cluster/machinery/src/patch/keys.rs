//! How strategic merge patch treats each list of the built-in kinds: Kubernetes' `patchMergeKey` and `patchStrategy`.

/// What happens to a list that a patch names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ListStrategy {
    /// Elements are objects; those with the same value of this key are merged.
    ByKey(&'static str),
    /// Elements are scalars; the union is taken.
    Set,
    /// The patch's list takes the place of the old one.
    Atomic,
}

use ListStrategy::{ByKey, Set};

/// Kind (`*`: any), end of the path (list indexes left out), strategy. The first row that fits wins; a list without a row
/// is atomic. Source: the `patchMergeKey`/`patchStrategy` tags of k8s.io/api, which its API reference documents.
#[rustfmt::skip]
const LISTS: &[(&str, &str, ListStrategy)] = &[
    // metadata
    ("*", "metadata.ownerReferences", ByKey("uid")),
    ("*", "metadata.finalizers", Set),
    ("*", "status.conditions", ByKey("type")),
    // containers
    ("*", "spec.containers", ByKey("name")),
    ("*", "spec.initContainers", ByKey("name")),
    ("*", "spec.ephemeralContainers", ByKey("name")),
    ("*", "containers.env", ByKey("name")),
    ("*", "initContainers.env", ByKey("name")),
    ("*", "ephemeralContainers.env", ByKey("name")),
    ("*", "containers.ports", ByKey("containerPort")),
    ("*", "initContainers.ports", ByKey("containerPort")),
    ("*", "ephemeralContainers.ports", ByKey("containerPort")),
    ("*", "containers.volumeMounts", ByKey("mountPath")),
    ("*", "initContainers.volumeMounts", ByKey("mountPath")),
    ("*", "ephemeralContainers.volumeMounts", ByKey("mountPath")),
    ("*", "containers.volumeDevices", ByKey("devicePath")),
    ("*", "initContainers.volumeDevices", ByKey("devicePath")),
    ("*", "ephemeralContainers.volumeDevices", ByKey("devicePath")),
    // the rest of a pod
    ("*", "spec.volumes", ByKey("name")),
    ("*", "spec.imagePullSecrets", ByKey("name")),
    ("*", "spec.hostAliases", ByKey("ip")),
    ("*", "spec.topologySpreadConstraints", ByKey("topologyKey")),
    ("*", "spec.schedulingGates", ByKey("name")),
    ("*", "spec.resourceClaims", ByKey("name")),
    ("*", "preferredDuringSchedulingIgnoredDuringExecution", ListStrategy::Atomic),
    ("Pod", "status.podIPs", ByKey("ip")),
    ("Pod", "status.hostIPs", ByKey("ip")),
    ("Pod", "status.resourceClaimStatuses", ByKey("name")),
    // other kinds
    ("Service", "spec.ports", ByKey("port")),
    ("ServiceAccount", "secrets", ByKey("name")),
    ("ServiceAccount", "imagePullSecrets", ByKey("name")),
    ("Node", "status.addresses", ByKey("type")),
    ("Node", "spec.podCIDRs", Set),
    ("CSINode", "spec.drivers", ByKey("name")),
    ("*", "webhooks", ByKey("name")),
    ("*", "webhooks.matchConditions", ByKey("name")),
    ("ValidatingAdmissionPolicy", "spec.matchConditions", ByKey("name")),
    ("ValidatingAdmissionPolicy", "spec.variables", ByKey("name")),
];

/// The strategy of the list at `path` (field names from the root, list indexes left out).
pub(super) fn list_strategy(kind: &str, path: &[String]) -> ListStrategy {
    let fits = |suffix: &str| {
        let mut tail = path.iter().rev();
        suffix
            .rsplit('.')
            .all(|name| tail.next().is_some_and(|field| field == name))
    };
    // A ReplicationController's or Service's own `ports` never lie below containers, so suffixes are unambiguous.
    LISTS
        .iter()
        .find(|(k, suffix, _)| (*k == "*" || *k == kind) && fits(suffix))
        .map_or(ListStrategy::Atomic, |(_, _, s)| *s)
}
