//! The rows of the built-in kinds.

use std::sync::Arc;

use serde_json::Value;

use super::{Resource, ScalePaths};

/// Group and version, and the kinds in it.
type Group = (&'static str, &'static str, &'static [Row]);

/// Kind, plural, short names, flags, subresources other than status and scale.
///
/// Flags: `n` namespaced, `s` status subresource, `r` scale subresource (replicas), `v` virtual (create only), `m` measured (get and list only),
/// `a` category `all`, `e` category `api-extensions`.
type Row = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static [&'static str],
);

const POD_SUBRESOURCES: &[&str] = &[
    "attach",
    "binding",
    "ephemeralcontainers",
    "eviction",
    "exec",
    "log",
    "portforward",
    "proxy",
    "resize",
];

#[rustfmt::skip]
const GROUPS: &[Group] = &[
    ("", "v1", &[
        ("ConfigMap", "configmaps", "cm", "n", &[]),
        ("Endpoints", "endpoints", "ep", "n", &[]),
        ("Event", "events", "ev", "n", &[]),
        ("LimitRange", "limitranges", "limits", "n", &[]),
        ("Namespace", "namespaces", "ns", "s", &["finalize"]),
        ("Node", "nodes", "no", "s", &["proxy"]),
        ("PersistentVolumeClaim", "persistentvolumeclaims", "pvc", "ns", &[]),
        ("PersistentVolume", "persistentvolumes", "pv", "s", &[]),
        ("Pod", "pods", "po", "nsa", POD_SUBRESOURCES),
        ("PodTemplate", "podtemplates", "", "n", &[]),
        ("ReplicationController", "replicationcontrollers", "rc", "nsra", &[]),
        ("ResourceQuota", "resourcequotas", "quota", "ns", &[]),
        ("Secret", "secrets", "", "n", &[]),
        ("ServiceAccount", "serviceaccounts", "sa", "n", &["token"]),
        ("Service", "services", "svc", "nsa", &["proxy"]),
    ]),
    ("admissionregistration.k8s.io", "v1", &[
        ("MutatingWebhookConfiguration", "mutatingwebhookconfigurations", "", "e", &[]),
        ("ValidatingAdmissionPolicy", "validatingadmissionpolicies", "", "es", &[]),
        ("ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings", "", "e", &[]),
        ("ValidatingWebhookConfiguration", "validatingwebhookconfigurations", "", "e", &[]),
    ]),
    ("apiextensions.k8s.io", "v1", &[
        ("CustomResourceDefinition", "customresourcedefinitions", "crd crds", "es", &[]),
    ]),
    ("apiregistration.k8s.io", "v1", &[
        ("APIService", "apiservices", "", "es", &[]),
    ]),
    ("apps", "v1", &[
        ("ControllerRevision", "controllerrevisions", "", "n", &[]),
        ("DaemonSet", "daemonsets", "ds", "nsa", &[]),
        ("Deployment", "deployments", "deploy", "nsra", &[]),
        ("ReplicaSet", "replicasets", "rs", "nsra", &[]),
        ("StatefulSet", "statefulsets", "sts", "nsra", &[]),
    ]),
    ("authentication.k8s.io", "v1", &[
        ("SelfSubjectReview", "selfsubjectreviews", "", "v", &[]),
        ("TokenReview", "tokenreviews", "", "v", &[]),
    ]),
    ("authorization.k8s.io", "v1", &[
        ("LocalSubjectAccessReview", "localsubjectaccessreviews", "", "nv", &[]),
        ("SelfSubjectAccessReview", "selfsubjectaccessreviews", "", "v", &[]),
        ("SelfSubjectRulesReview", "selfsubjectrulesreviews", "", "v", &[]),
        ("SubjectAccessReview", "subjectaccessreviews", "", "v", &[]),
    ]),
    ("autoscaling", "v2", &[
        ("HorizontalPodAutoscaler", "horizontalpodautoscalers", "hpa", "nsa", &[]),
    ]),
    ("batch", "v1", &[
        ("CronJob", "cronjobs", "cj", "nsa", &[]),
        ("Job", "jobs", "", "nsa", &[]),
    ]),
    ("certificates.k8s.io", "v1", &[
        ("CertificateSigningRequest", "certificatesigningrequests", "csr", "s", &["approval"]),
    ]),
    ("coordination.k8s.io", "v1", &[
        ("Lease", "leases", "", "n", &[]),
    ]),
    ("discovery.k8s.io", "v1", &[
        ("EndpointSlice", "endpointslices", "", "n", &[]),
    ]),
    ("events.k8s.io", "v1", &[
        ("Event", "events", "ev", "n", &[]),
    ]),
    ("metrics.k8s.io", "v1beta1", &[
        ("NodeMetrics", "nodes", "", "m", &[]),
        ("PodMetrics", "pods", "", "nm", &[]),
    ]),
    ("networking.k8s.io", "v1", &[
        ("Ingress", "ingresses", "ing", "ns", &[]),
        ("IngressClass", "ingressclasses", "", "", &[]),
        ("NetworkPolicy", "networkpolicies", "netpol", "n", &[]),
    ]),
    ("node.k8s.io", "v1", &[
        ("RuntimeClass", "runtimeclasses", "", "", &[]),
    ]),
    ("policy", "v1", &[
        ("PodDisruptionBudget", "poddisruptionbudgets", "pdb", "ns", &[]),
    ]),
    ("rbac.authorization.k8s.io", "v1", &[
        ("ClusterRole", "clusterroles", "", "", &[]),
        ("ClusterRoleBinding", "clusterrolebindings", "", "", &[]),
        ("Role", "roles", "", "n", &[]),
        ("RoleBinding", "rolebindings", "", "n", &[]),
    ]),
    ("scheduling.k8s.io", "v1", &[
        ("PriorityClass", "priorityclasses", "pc", "", &[]),
    ]),
    ("storage.k8s.io", "v1", &[
        ("CSIDriver", "csidrivers", "", "", &[]),
        ("CSINode", "csinodes", "", "", &[]),
        ("CSIStorageCapacity", "csistoragecapacities", "", "n", &[]),
        ("StorageClass", "storageclasses", "sc", "", &[]),
        ("VolumeAttachment", "volumeattachments", "", "s", &[]),
    ]),
];

/// Every built-in kind.
pub(super) fn rows() -> impl Iterator<Item = Resource> {
    GROUPS
        .iter()
        .flat_map(|(group, version, rows)| rows.iter().map(move |row| resource(group, version, row)))
}

fn resource(group: &str, version: &str, &(kind, plural, shorts, flags, subresources): &Row) -> Resource {
    let has = |flag| flags.contains(flag);
    let category = [('a', "all"), ('e', "api-extensions")];
    Resource {
        group: group.to_owned(),
        version: version.to_owned(),
        storage_group: if group == "events.k8s.io" {
            String::new()
        } else {
            group.to_owned()
        },
        storage_version: version.to_owned(),
        kind: kind.to_owned(),
        list_kind: format!("{kind}List"),
        plural: plural.to_owned(),
        singular: kind.to_lowercase(),
        short_names: shorts.split_whitespace().map(str::to_owned).collect(),
        categories: category
            .iter()
            .filter(|(flag, _)| has(*flag))
            .map(|(_, name)| (*name).to_owned())
            .collect(),
        namespaced: has('n'),
        status: has('s'),
        scale: has('r').then(|| ScalePaths {
            spec: ".spec.replicas".to_owned(),
            status: ".status.replicas".to_owned(),
            selector: Some(".spec.selector".to_owned()),
        }),
        subresources: subresources.to_vec(),
        virtual_only: has('v') || has('m'),
        measured: has('m'),
        schema: None,
        rules: None,
        columns: Arc::new(Value::Null),
    }
}
