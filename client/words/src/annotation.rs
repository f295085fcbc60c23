//! Annotations that clients of Kubernetes write for themselves.

/// In which `kubectl apply` keeps the whole object that it applied last (client-side apply,
/// <https://kubernetes.io/docs/reference/labels-annotations-taints/>).
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
