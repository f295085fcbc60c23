//! How strategic merge patch treats each list of the built-in kinds: Kubernetes' `patchMergeKey` and `patchStrategy`.

use crate::resource::Kind;
use crate::resource::ListStrategy::{self, ByKey, Set};

/// Of any kind: end of the path (list indexes left out), strategy. A list that is neither here nor in its kind's row is atomic. Source: the `patchMergeKey`/`patchStrategy` tags of k8s.io/api, which its API reference documents.
#[rustfmt::skip]
const LISTS: &[(&str, ListStrategy)] = &[
    // metadata
    ("metadata.ownerReferences", ByKey("uid")),
    ("metadata.finalizers", Set),
    ("status.conditions", ByKey("type")),
    // containers
    ("spec.containers", ByKey("name")),
    ("spec.initContainers", ByKey("name")),
    ("spec.ephemeralContainers", ByKey("name")),
    ("containers.env", ByKey("name")),
    ("initContainers.env", ByKey("name")),
    ("ephemeralContainers.env", ByKey("name")),
    ("containers.ports", ByKey("containerPort")),
    ("initContainers.ports", ByKey("containerPort")),
    ("ephemeralContainers.ports", ByKey("containerPort")),
    ("containers.volumeMounts", ByKey("mountPath")),
    ("initContainers.volumeMounts", ByKey("mountPath")),
    ("ephemeralContainers.volumeMounts", ByKey("mountPath")),
    ("containers.volumeDevices", ByKey("devicePath")),
    ("initContainers.volumeDevices", ByKey("devicePath")),
    ("ephemeralContainers.volumeDevices", ByKey("devicePath")),
    // the rest of a pod
    ("spec.volumes", ByKey("name")),
    ("spec.imagePullSecrets", ByKey("name")),
    ("spec.hostAliases", ByKey("ip")),
    ("spec.topologySpreadConstraints", ByKey("topologyKey")),
    ("spec.schedulingGates", ByKey("name")),
    ("spec.resourceClaims", ByKey("name")),
    ("preferredDuringSchedulingIgnoredDuringExecution", ListStrategy::Atomic),
    // admission
    ("webhooks", ByKey("name")),
    ("webhooks.matchConditions", ByKey("name")),
];

/// The strategy of the list at `path` (field names from the root, list indexes left out).
pub(super) fn list_strategy(kind: &Kind, path: &[String]) -> ListStrategy {
    let fits = |suffix: &str| {
        let mut tail = path.iter().rev();
        suffix
            .rsplit('.')
            .all(|name| tail.next().is_some_and(|field| field == name))
    };
    // A ReplicationController's or Service's own `ports` never lie below containers, so suffixes are unambiguous.
    kind.merge
        .iter()
        .chain(LISTS)
        .find(|(suffix, _)| fits(suffix))
        .map_or(ListStrategy::Atomic, |(_, strategy)| *strategy)
}
