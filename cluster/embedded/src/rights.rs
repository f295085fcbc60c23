//! Who the parts of a cluster are, and what they may do besides what Kubernetes' own roles allow them.

use afloat_apiserver::User;
use afloat_controllers::Identity;
use serde_json::{Value, json};

/// The roles and bindings that a cluster needs for its parts.
pub(crate) fn roles() -> Vec<Value> {
    let mut all = afloat_controllers::roles();
    all.push(own_certificates());
    #[cfg(feature = "nodes")]
    all.extend(dns_roles());
    all
}

/// Nodes may have certificates of their own renewed without being asked about, as in clusters of kubeadm.
fn own_certificates() -> Value {
    let group = "rbac.authorization.k8s.io";
    let role = "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient";
    json!({
        "apiVersion": format!("{group}/v1"), "kind": "ClusterRoleBinding",
        "metadata": {"name": "kubeadm:node-autoapprove-certificate-rotation"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": group, "kind": "Group", "name": "system:nodes"}],
    })
}

/// A controller or the scheduler.
pub(crate) fn controller(name: &str) -> User {
    match afloat_controllers::identity(name) {
        Identity::User(name) => User::named(name, &["system:authenticated"]),
        Identity::Account(name) => User::service_account("kube-system", name),
    }
}

/// The service proxy of a node: Kubernetes' role `system:node-proxier` is bound to it.
#[cfg(feature = "nodes")]
pub(crate) fn proxy() -> User {
    User::named("system:kube-proxy", &["system:authenticated"])
}

/// The DNS server.
#[cfg(feature = "nodes")]
pub(crate) fn dns() -> User {
    User::service_account("kube-system", "coredns")
}

/// As kubeadm has them.
#[cfg(feature = "nodes")]
fn dns_roles() -> [Value; 2] {
    let group = "rbac.authorization.k8s.io";
    let read = |group: &str, resources: &[&str]| json!({"apiGroups": [group], "resources": resources, "verbs": ["list", "watch"]});
    let role = json!({
        "apiVersion": format!("{group}/v1"), "kind": "ClusterRole", "metadata": {"name": "system:coredns"},
        "rules": [
            read("", &["endpoints", "services", "pods", "namespaces"]),
            read("discovery.k8s.io", &["endpointslices"]),
        ],
    });
    let binding = json!({
        "apiVersion": format!("{group}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": "system:coredns"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "system:coredns"},
        "subjects": [{"kind": "ServiceAccount", "namespace": "kube-system", "name": "coredns"}],
    });
    [role, binding]
}
