//! Who may do what: role based access control as Kubernetes has it. Pure: a decision is a function of the rules that are
//! stored and of what a request asks for.
//!
//! [`Roles`] is kept up with what is stored and decides; [`covers`] says what somebody would give away without having it;
//! [`aggregation`] computes the rules of roles that are put together of others, and [`bootstrap`] what every cluster begins with.

pub mod aggregation;
pub mod bootstrap;
pub mod covers;
pub mod impersonation;
pub mod nodes;
mod roles;
mod rule;
mod subject;

use std::collections::BTreeMap;

pub use roles::Roles;
pub use rule::PolicyRule;
pub use subject::RoleRef;

/// The API group of roles and bindings.
pub const GROUP: &str = "rbac.authorization.k8s.io";

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
            &subject::service_account(namespace, name),
            &["system:serviceaccounts", &of_namespace, AUTHENTICATED],
        )
    }

    /// Whether somebody belongs to a group.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }
}

/// What a request asks for. Texts are empty where the request says nothing of them.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    /// Who asks.
    pub user: &'a User,
    /// `get`, `list`, `create`, …; for other paths than those of resources the HTTP method in lower case.
    pub verb: &'a str,
    /// Whether it is about a resource; otherwise it is about a path.
    pub is_resource: bool,
    /// API group; empty for the core group.
    pub group: &'a str,
    /// Version of the group. Nobody decides by it.
    pub version: &'a str,
    /// Namespace; empty: the whole cluster.
    pub namespace: &'a str,
    /// Plural of the kind.
    pub resource: &'a str,
    /// `status`, `exec` and the like.
    pub subresource: &'a str,
    /// Of the object.
    pub name: &'a str,
    /// Where it is not about a resource: the path.
    pub path: &'a str,
    /// Of a list or watch: which objects it is limited to, as the query says it.
    pub field_selector: &'a str,
}

impl<'a> Attributes<'a> {
    /// Nothing yet but who asks for what; to be completed with `..`.
    pub fn resource(user: &'a User, verb: &'a str, group: &'a str, resource: &'a str) -> Self {
        Self {
            user,
            verb,
            is_resource: true,
            group,
            version: "*",
            namespace: "",
            resource,
            subresource: "",
            name: "",
            path: "",
            field_selector: "",
        }
    }

    /// A path that is no resource's.
    pub fn path(user: &'a User, verb: &'a str, path: &'a str) -> Self {
        Self {
            is_resource: false,
            version: "",
            path,
            ..Self::resource(user, verb, "", "")
        }
    }
}

/// What somebody who may decide says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Yes, and why.
    Allow(String),
    /// No, whatever others say, and why.
    Deny(String),
    /// Not for me to say. What was in the way; empty if nothing was.
    NoOpinion(String),
}

/// Decides about requests.
pub trait Authorizer: Send + Sync {
    /// Whether a request may go on.
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision;

    /// The rules that hold for somebody in a namespace, for `SelfSubjectRulesReview`.
    fn rules(&self, user: &User, namespace: &str) -> HeldRules;
}

/// What holds for somebody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeldRules {
    /// The rules.
    pub rules: Vec<PolicyRule>,
    /// What could not be found out.
    pub errors: Vec<String>,
    /// Whether more is allowed than the rules say.
    pub incomplete: bool,
}

/// Several errors in one sentence, each once, as Kubernetes writes them.
pub fn joined(errors: &[String]) -> String {
    let mut unique: Vec<&str> = Vec::new();
    for error in errors {
        if !unique.contains(&error.as_str()) {
            unique.push(error);
        }
    }
    match unique.as_slice() {
        [one] => (*one).to_owned(),
        many => format!("[{}]", many.join(", ")),
    }
}

/// A text in quotation marks, as Go's `%q` writes it: clients match on messages.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\'' => out.push(c),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            _ if c.escape_debug().count() == 1 => out.push(c),
            _ => match u32::from(c) {
                code @ 0..=0x7f => out.push_str(&format!("\\x{code:02x}")),
                code @ 0x80..=0xffff => out.push_str(&format!("\\u{code:04x}")),
                code => out.push_str(&format!("\\U{code:08x}")),
            },
        }
    }
    out.push('"');
    out
}

/// A list of texts, as Go's `%q` writes it.
pub(crate) fn quoted_list(texts: &[String]) -> String {
    let all: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
    format!("[{}]", all.join(" "))
}

#[cfg(test)]
mod tests;
