//! Who asks.

use std::collections::BTreeMap;

/// Whoever belongs to this group may do everything, whatever is stored.
pub const MASTERS: &str = "system:masters";

/// The group of everybody who has shown who they are.
pub const AUTHENTICATED: &str = "system:authenticated";

/// The group of everybody who has not.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";

/// An identity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// For example `kubernetes-admin` or `system:serviceaccount:default:default`.
    pub name: String,
    /// Tells apart who had the same name at different times. Empty: nothing is known.
    pub uid: String,
    /// For example `system:masters`.
    pub groups: Vec<String>,
    /// What else is known: the pod that a token is bound to, and the like.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// Somebody with a name and just these groups.
    pub fn named(name: &str, groups: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            groups: groups.iter().map(|&group| group.to_owned()).collect(),
            ..Self::default()
        }
    }

    /// A member of `system:masters`.
    pub fn master(name: &str) -> Self {
        Self::named(name, &[MASTERS, AUTHENTICATED])
    }

    /// Somebody who has shown nothing.
    pub fn anonymous() -> Self {
        Self::named("system:anonymous", &[UNAUTHENTICATED])
    }

    /// A service account.
    pub fn service_account(namespace: &str, name: &str) -> Self {
        let of_namespace = format!("system:serviceaccounts:{namespace}");
        Self::named(
            &service_account(namespace, name),
            &["system:serviceaccounts", &of_namespace, AUTHENTICATED],
        )
    }

    /// Whether somebody belongs to a group.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }
}

/// The user name of a service account.
pub(super) fn service_account(namespace: &str, name: &str) -> String {
    format!("system:serviceaccount:{namespace}:{name}")
}
