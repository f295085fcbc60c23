//! What a binding binds: a role, and subjects to have it.

use serde_json::Value;

use super::kind::{GROUP, SERVICE_ACCOUNT};
use super::text::quoted;
use super::user::service_account;

/// The role that a binding gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoleRef {
    /// API group of the role.
    pub group: String,
    /// `Role` or `ClusterRole`.
    pub kind: String,
    /// Its name. A Role is in the namespace of the binding.
    pub name: String,
}

impl RoleRef {
    /// Of a binding. A group that it does not name is its default.
    pub fn of(binding: &Value) -> Self {
        let text = |field: &str| binding["roleRef"][field].as_str().unwrap_or_default().to_owned();
        let group = Some(text("apiGroup")).filter(|group| !group.is_empty());
        Self {
            group: group.unwrap_or_else(|| GROUP.to_owned()),
            kind: text("kind"),
            name: text("name"),
        }
    }
}

/// What a subject is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SubjectKind {
    User,
    Group,
    ServiceAccount,
}

/// Somebody who is bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) kind: SubjectKind,
    pub(super) name: String,
    /// Of a service account; empty: that of the binding.
    namespace: String,
}

impl Subject {
    /// Reads one. None: it is nobody, and stands for nobody.
    pub(super) fn read(subject: &Value) -> Option<Self> {
        let text = |field: &str| subject[field].as_str().unwrap_or_default();
        let kind = match text("kind") {
            "User" => SubjectKind::User,
            "Group" => SubjectKind::Group,
            SERVICE_ACCOUNT => SubjectKind::ServiceAccount,
            _ => return None,
        };
        Some(Self {
            kind,
            name: text("name").to_owned(),
            namespace: text("namespace").to_owned(),
        })
    }

    /// The name of the user that it stands for, if it stands for one. `namespace`: of the binding, empty if it is the cluster's.
    pub(super) fn user(&self, namespace: &str) -> Option<String> {
        match self.kind {
            SubjectKind::User => Some(self.name.clone()),
            SubjectKind::Group => None,
            SubjectKind::ServiceAccount => {
                let own = self.own_namespace(namespace);
                (!own.is_empty()).then(|| service_account(own, &self.name))
            }
        }
    }

    /// For messages.
    pub(super) fn text(&self, namespace: &str) -> String {
        match self.kind {
            SubjectKind::User => format!("User {}", quoted(&self.name)),
            SubjectKind::Group => format!("Group {}", quoted(&self.name)),
            SubjectKind::ServiceAccount => {
                let place = format!("{}/{}", self.name, self.own_namespace(namespace));
                format!("ServiceAccount {}", quoted(&place))
            }
        }
    }

    fn own_namespace<'a>(&'a self, namespace: &'a str) -> &'a str {
        if self.namespace.is_empty() {
            namespace
        } else {
            &self.namespace
        }
    }
}
