//! What is asked for.

use super::user::User;

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
