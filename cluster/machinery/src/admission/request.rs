//! What is judged.

use serde_json::Value;

use crate::resource::Resource;

/// What a client wants to do with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Store a new one.
    Create,
    /// Change it.
    Update,
    /// Delete it, or begin to.
    Delete,
}

impl Operation {
    /// What makes of an object as it is stored, if there is one, that which it shall be, if any.
    pub fn of(old: Option<&Value>, new: Option<&Value>) -> Self {
        match (old, new) {
            (None, _) => Self::Create,
            (Some(_), Some(_)) => Self::Update,
            (Some(_), None) => Self::Delete,
        }
    }

    /// As the API has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
        }
    }
}

/// A request, as policies see it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// What the object is one of.
    pub resource: &'a Resource,
    /// `status` and the like; empty for the object itself.
    pub subresource: &'a str,
    /// What is to be done.
    pub operation: Operation,
    /// The object's name.
    pub name: &'a str,
    /// Its namespace; None if the kind is not in namespaces.
    pub namespace: Option<&'a Value>,
    /// As it will be stored; None in a deletion.
    pub object: Option<&'a Value>,
    /// As it is stored; None in a creation.
    pub old: Option<&'a Value>,
    /// Who asks.
    pub user: &'a str,
    /// The user's groups.
    pub groups: &'a [String],
    /// Whether nothing will be stored.
    pub dry_run: bool,
}
