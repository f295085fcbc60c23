//! Labels that a node may not give itself: workloads are led to nodes by them.

use std::collections::BTreeSet;

use serde_json::Value;

/// Those of Kubernetes' own that a node may have.
const OWN: &[&str] = &[
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];
/// Below these domains, too.
const OWN_DOMAINS: &[&str] = &["kubelet.kubernetes.io", "node.kubernetes.io"];
/// Below this one none.
const RESTRICTED: &str = "node-restriction.kubernetes.io";

fn is_below(domain: &str, parent: &str) -> bool {
    domain == parent || domain.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.'))
}

fn is_forbidden(label: &str) -> bool {
    let domain = label.split_once('/').map_or("", |(domain, _)| domain);
    let kubernetes = is_below(domain, "kubernetes.io") || is_below(domain, "k8s.io");
    let own = OWN.contains(&label) || OWN_DOMAINS.iter().any(|parent| is_below(domain, parent));
    is_below(domain, RESTRICTED) || kubernetes && !own
}

/// The labels that differ between two objects and that a node may not change.
pub(super) fn forbidden<'a>(old: Option<&'a Value>, new: &'a Value) -> BTreeSet<&'a str> {
    let of = |object: Option<&'a Value>| object.and_then(|object| object.pointer("/metadata/labels")?.as_object());
    let (old, new) = (of(old), of(Some(new)));
    let value = |labels: Option<&'a serde_json::Map<String, Value>>, key: &str| labels.and_then(|all| all.get(key));
    let keys = old.into_iter().chain(new).flatten().map(|(key, _)| key.as_str());
    keys.filter(|key| value(old, key) != value(new, key))
        .filter(|key| is_forbidden(key))
        .collect()
}
