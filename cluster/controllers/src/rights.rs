//! Who the loops are, and what they may do: each is who it is in Kubernetes, with Kubernetes' own role, and has a role more where it
//! does the same in another way.

use serde_json::{Value, json};

const GROUP: &str = "rbac.authorization.k8s.io";

/// Who a loop is to the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// A user of this name.
    User(&'static str),
    /// A service account of this name, in `kube-system`.
    Account(&'static str),
}

/// Verbs on resources of an API group.
type Rule = (&'static str, &'static [&'static str], &'static [&'static str]);

/// What a loop is called here, who it is, and what it may do besides.
type Row = (&'static str, Identity, &'static [Rule]);

const MANAGER: Identity = Identity::User("system:kube-controller-manager");

const ROWS: &[Row] = &[
    ("scheduler", Identity::User("system:kube-scheduler"), &[]),
    (
        "replicaset-controller",
        Identity::Account("replicaset-controller"),
        &[("apps", &["replicasets/status"], &["patch"])],
    ),
    (
        "replication-controller",
        Identity::Account("replication-controller"),
        &[("", &["replicationcontrollers/status"], &["patch"])],
    ),
    (
        "deployment-controller",
        Identity::Account("deployment-controller"),
        &[("apps", &["deployments", "deployments/status"], &["patch"])],
    ),
    (
        "statefulset-controller",
        Identity::Account("statefulset-controller"),
        &[("apps", &["statefulsets/status"], &["patch"])],
    ),
    (
        "daemonset-controller",
        Identity::Account("daemon-set-controller"),
        &[("apps", &["daemonsets/status"], &["patch"])],
    ),
    (
        "job-controller",
        Identity::Account("job-controller"),
        &[("batch", &["jobs/status"], &["patch"])],
    ),
    (
        "cronjob-controller",
        Identity::Account("cronjob-controller"),
        &[("batch", &["cronjobs/status"], &["patch"])],
    ),
    (
        "ttl-after-finished-controller",
        Identity::Account("ttl-after-finished-controller"),
        &[],
    ),
    (
        "disruption-controller",
        Identity::Account("disruption-controller"),
        &[("policy", &["poddisruptionbudgets/status"], &["patch"])],
    ),
    ("garbage-collector", Identity::Account("generic-garbage-collector"), &[]),
    ("namespace-controller", Identity::Account("namespace-controller"), &[]),
    (
        "serviceaccount-controller",
        Identity::Account("service-account-controller"),
        &[("", &["configmaps"], &["create", "patch"])],
    ),
    ("node-lifecycle-controller", Identity::Account("node-controller"), &[]),
    ("pod-garbage-collector", Identity::Account("pod-garbage-collector"), &[]),
    (
        "persistentvolume-controller",
        Identity::Account("persistent-volume-binder"),
        &[
            (
                "",
                &[
                    "persistentvolumes",
                    "persistentvolumes/status",
                    "persistentvolumeclaims",
                    "persistentvolumeclaims/status",
                ],
                &["patch"],
            ),
            ("storage.k8s.io", &["storageclasses"], &["create"]),
        ],
    ),
    (
        "ephemeral-volume-controller",
        Identity::Account("ephemeral-volume-controller"),
        &[],
    ),
    (
        "kubernetes-service-controller",
        Identity::Account("kubernetes-service-controller"),
        &[
            ("", &["services", "endpoints"], &["get", "create", "patch"]),
            ("discovery.k8s.io", &["endpointslices"], &["get", "create", "patch"]),
        ],
    ),
    ("endpoint-controller", Identity::Account("endpoint-controller"), &[]),
    (
        "certificate-controller",
        Identity::Account("certificate-controller"),
        &[],
    ),
    (
        "endpointslice-controller",
        Identity::Account("endpointslice-controller"),
        &[],
    ),
    (
        "endpointslicemirroring-controller",
        Identity::Account("endpointslicemirroring-controller"),
        &[],
    ),
];

/// Who the loop of this name is. What all share (caches, events) is the controller manager itself.
pub fn identity(name: &str) -> Identity {
    let row = ROWS.iter().find(|(known, ..)| *known == name);
    row.map_or(MANAGER, |(_, identity, _)| *identity)
}

/// Roles and bindings that have to be there for the loops, besides Kubernetes' own.
pub fn roles() -> Vec<Value> {
    let rows = ROWS.iter().filter(|(.., rules)| !rules.is_empty());
    rows.flat_map(|(name, identity, rules)| role_of(name, *identity, rules))
        .collect()
}

fn role_of(name: &str, identity: Identity, rules: &[Rule]) -> [Value; 2] {
    let (api_version, name) = (format!("{GROUP}/v1"), format!("system:afloat:{name}"));
    let rules: Vec<Value> = rules
        .iter()
        .map(|(group, resources, verbs)| json!({"apiGroups": [group], "resources": resources, "verbs": verbs}))
        .collect();
    let subject = match identity {
        Identity::User(name) => json!({"apiGroup": GROUP, "kind": "User", "name": name}),
        Identity::Account(name) => json!({"kind": "ServiceAccount", "namespace": "kube-system", "name": name}),
    };
    let role = json!({"apiVersion": api_version, "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules});
    let binding = json!({
        "apiVersion": api_version, "kind": "ClusterRoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": name}, "subjects": [subject],
    });
    [role, binding]
}
