//! What the agent of a node may do: read what its pods need, and write of itself and its pods.
//!
//! [`decide`] is Kubernetes' Node authorizer, [`restrict`] its admission plugin NodeRestriction; both know nodes by their names and
//! their group. Source: <https://kubernetes.io/docs/reference/access-authn-authz/node/>, as of Kubernetes 1.32.

mod authorizer;
mod labels;
mod links;
mod mirror;
mod restriction;
#[cfg(test)]
mod tests;

pub use authorizer::{Related, decide, rules};
pub use links::{Claim, PodLinks, Source, VolumeLinks};
pub use restriction::{Operation, Refusal, Stored, Write, restrict};

use crate::authorization::User;

/// The group of all nodes.
const NODES: &str = "system:nodes";
/// What the name of a node's user begins with.
const PREFIX: &str = "system:node:";
/// Where nodes' leases are.
const LEASES: &str = "kube-node-lease";

impl User {
    /// The agent of a node.
    pub fn node(name: &str) -> Self {
        Self::named(
            &format!("{PREFIX}{name}"),
            &[NODES, crate::authorization::AUTHENTICATED],
        )
    }
}

/// The node that somebody is, if any.
pub fn node_of(user: &User) -> Option<&str> {
    user.name.strip_prefix(PREFIX).filter(|_| user.is_in(NODES))
}
