//! Who is a node.

use crate::authorization::{AUTHENTICATED, User};

/// The group of all nodes.
const NODES: &str = "system:nodes";
/// What the name of a node's user begins with.
const PREFIX: &str = "system:node:";
/// Where nodes' leases are.
pub(super) const LEASES: &str = "kube-node-lease";

impl User {
    /// The agent of a node.
    pub fn node(name: &str) -> Self {
        Self::named(&format!("{PREFIX}{name}"), &[NODES, AUTHENTICATED])
    }
}

/// The node that somebody is, if any.
pub fn node_of(user: &User) -> Option<&str> {
    user.name.strip_prefix(PREFIX).filter(|_| user.is_in(NODES))
}
