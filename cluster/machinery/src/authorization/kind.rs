//! Names that bindings say themselves, beside those in the kinds' rows.

/// The API group of roles and bindings.
pub const GROUP: &str = "rbac.authorization.k8s.io";

/// A role of the whole cluster, as bindings refer to it.
pub(crate) const CLUSTER_ROLE: &str = "ClusterRole";
/// A role of a namespace, as bindings refer to it.
pub(crate) const ROLE: &str = "Role";
/// A binding for the whole cluster.
pub(crate) const CLUSTER_ROLE_BINDING: &str = "ClusterRoleBinding";
/// A binding in a namespace.
pub(crate) const ROLE_BINDING: &str = "RoleBinding";
/// A subject that is an account.
pub(crate) const SERVICE_ACCOUNT: &str = "ServiceAccount";
