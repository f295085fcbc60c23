//! Who there is, and what they were given.

use serde_json::{Value, json};

/// Names and groups.
pub(super) const PEOPLE: &[(&str, &[&str])] = &[
    ("root", &["system:masters"]),
    ("system:anonymous", &["system:unauthenticated"]),
    ("nobody", &[]),
    ("reader", &[]),
    ("editor", &[]),
    ("chief", &["chiefs"]),
    ("scaler", &[]),
    ("one-secret", &[]),
    ("lost", &[]),
    ("giver", &[]),
    ("binder", &[]),
    ("escalator", &[]),
    ("o'neil \"q\" <b>", &["a b"]),
    (
        "system:serviceaccount:team:robot",
        &["system:serviceaccounts", "system:serviceaccounts:team"],
    ),
    (
        "system:serviceaccount:other:robot",
        &["system:serviceaccounts", "system:serviceaccounts:other"],
    ),
    ("system:kube-scheduler", &[]),
    ("system:kube-controller-manager", &[]),
    ("system:kube-proxy", &[]),
    ("system:node:n1", &["system:nodes"]),
    (
        "system:serviceaccount:kube-system:replicaset-controller",
        &["system:serviceaccounts", "system:serviceaccounts:kube-system"],
    ),
];

fn rule(groups: &[&str], resources: &[&str], verbs: &[&str]) -> Value {
    json!({"apiGroups": groups, "resources": resources, "verbs": verbs})
}

fn cluster_role(name: &str, rules: &[Value]) -> Value {
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules})
}

fn user(name: &str) -> Value {
    json!({"kind": "User", "name": name, "apiGroup": "rbac.authorization.k8s.io"})
}

fn bound(name: &str, role: &str, subject: &Value) -> Value {
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
        "subjects": [subject], "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}})
}

fn bound_in(namespace: &str, name: &str, kind: &str, role: &str, subject: &Value) -> Value {
    let mut binding = bound(name, role, subject);
    binding["kind"] = "RoleBinding".into();
    binding["metadata"]["namespace"] = namespace.into();
    binding["roleRef"]["kind"] = kind.into();
    binding
}

/// What is made before anybody is asked.
pub(super) fn objects() -> Vec<Value> {
    let namespace = |name: &str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    let object = |kind: &str, name: &str| json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "team"}});
    let rbac = "rbac.authorization.k8s.io";
    let mut one_secret = rule(&[""], &["secrets"], &["get", "list", "watch"]);
    one_secret["resourceNames"] = json!(["s"]);
    let writes = ["create", "update", "patch", "delete"];
    let robot = json!({"kind": "ServiceAccount", "name": "robot", "namespace": "team"});
    vec![
        namespace("team"),
        namespace("other"),
        object("Secret", "s"),
        object("Secret", "t"),
        object("ServiceAccount", "robot"),
        object("ConfigMap", "c"),
        cluster_role("scaler", &[rule(&["*"], &["*/scale"], &["get", "update"])]),
        cluster_role("one-secret", &[one_secret]),
        cluster_role(
            "role-writer",
            &[rule(
                &[rbac],
                &["roles", "rolebindings", "clusterroles", "clusterrolebindings"],
                &writes,
            )],
        ),
        cluster_role("role-binder", &[rule(&[rbac], &["clusterroles", "roles"], &["bind"])]),
        cluster_role(
            "role-escalator",
            &[rule(&[rbac], &["clusterroles", "roles"], &["escalate"])],
        ),
        cluster_role(
            "paths",
            &[json!({"nonResourceURLs": ["/metrics", "/logs/*"], "verbs": ["get"]})],
        ),
        bound_in("team", "view", "ClusterRole", "view", &user("reader")),
        bound_in("team", "edit", "ClusterRole", "edit", &user("editor")),
        bound_in(
            "team",
            "admin",
            "ClusterRole",
            "admin",
            &json!({"kind": "Group", "name": "chiefs", "apiGroup": rbac}),
        ),
        bound("scaler", "scaler", &user("scaler")),
        bound_in("team", "one-secret", "ClusterRole", "one-secret", &user("one-secret")),
        bound_in("team", "lost", "Role", "no-such-role", &user("lost")),
        bound("lost", "no-such-cluster-role", &user("lost")),
        bound("giver", "role-writer", &user("giver")),
        bound_in("team", "giver", "ClusterRole", "view", &user("giver")),
        bound("binder", "role-writer", &user("binder")),
        bound("binder-binds", "role-binder", &user("binder")),
        bound("escalator", "role-writer", &user("escalator")),
        bound("escalator-escalates", "role-escalator", &user("escalator")),
        bound_in("team", "robot", "ClusterRole", "view", &robot),
        bound("paths", "paths", &user("scaler")),
    ]
}
