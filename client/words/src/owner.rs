//! Who an object belongs to (<https://kubernetes.io/docs/concepts/overview/working-with-objects/owners-dependents/>).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

/// The owner that manages the object; there is at most one.
pub fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    let mut owners = meta.owner_references.iter().flatten();
    owners.find(|owner| owner.controller == Some(true))
}

/// Whether the object with this uid is an owner, managing or not. No object has an empty uid.
pub fn is_owned_by(meta: &ObjectMeta, uid: &str) -> bool {
    let mut owners = meta.owner_references.iter().flatten();
    !uid.is_empty() && owners.any(|owner| owner.uid == uid)
}

/// The reference that makes the object of `meta` the one that manages.
pub fn controller_reference(api_version: &str, kind: &str, meta: &ObjectMeta) -> OwnerReference {
    OwnerReference {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_owner_manages() {
        let named = |uid: &str| ObjectMeta {
            name: Some("set".into()),
            uid: Some(uid.into()),
            ..ObjectMeta::default()
        };
        let managing = controller_reference("apps/v1", "ReplicaSet", &named("b"));
        let other = OwnerReference {
            controller: None,
            ..controller_reference("v1", "Node", &named("a"))
        };
        let child = ObjectMeta {
            owner_references: Some(vec![other, managing.clone()]),
            ..ObjectMeta::default()
        };
        assert_eq!(controller_of(&child), Some(&managing));
        assert!(is_owned_by(&child, "a") && is_owned_by(&child, "b"));
        assert!(!is_owned_by(&child, "c") && !is_owned_by(&child, ""));
        assert_eq!(controller_of(&ObjectMeta::default()), None);
    }
}
