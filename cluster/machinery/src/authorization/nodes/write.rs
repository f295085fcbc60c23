//! A write that a node may ask for, and why it is refused.

use serde_json::Value;

use crate::admission::Operation;
use crate::authorization::User;

/// A write that somebody asks for. Texts are empty where it says nothing of them.
#[derive(Clone, Copy, Debug)]
pub struct Write<'a> {
    /// Who asks.
    pub user: &'a User,
    /// What for.
    pub operation: Operation,
    /// API group; empty for the core group.
    pub group: &'a str,
    /// Plural of the kind.
    pub resource: &'a str,
    /// `status`, `token` and the like.
    pub subresource: &'a str,
    /// Namespace of the object.
    pub namespace: &'a str,
    /// Name of the object.
    pub name: &'a str,
    /// As it is stored. None: there is none, or it is somebody else's part to read it.
    pub old: Option<&'a Value>,
    /// As it shall be; for a subresource that takes other objects, that one.
    pub object: Option<&'a Value>,
}

/// What is stored besides.
pub trait Stored {
    /// An object of the core group.
    fn find(&self, plural: &str, namespace: &str, name: &str) -> Option<Value>;
}

/// Why a write is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is forbidden.
    Forbidden(String),
    /// There is no such object: kind, in lower case, and name.
    NotFound(&'static str, String),
}

pub(super) fn refuse(why: impl Into<String>) -> Result<(), Refusal> {
    Err(Refusal::Forbidden(why.into()))
}
