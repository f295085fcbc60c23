//! Whether a pod bears a node's taints (Kubernetes, "Taints and Tolerations").

use k8s_openapi::api::core::v1::Toleration;

/// A node's taint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taint<'a> {
    /// Its name.
    pub key: &'a str,
    /// What more it says; may be empty.
    pub value: &'a str,
    /// NoSchedule, PreferNoSchedule or NoExecute.
    pub effect: &'a str,
}

/// Whether one of the tolerations covers the taint.
pub fn tolerated(tolerations: &[Toleration], taint: Taint<'_>) -> bool {
    tolerations.iter().any(|toleration| covers(toleration, taint))
}

/// Whether this toleration covers the taint.
pub fn covers(toleration: &Toleration, taint: Taint<'_>) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or_default();
    if !effect.is_empty() && effect != taint.effect {
        return false;
    }
    let key = toleration.key.as_deref().unwrap_or_default();
    if !key.is_empty() && key != taint.key {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => !key.is_empty() && toleration.value.as_deref().unwrap_or_default() == taint.value,
        "Exists" => true,
        _ => false,
    }
}
