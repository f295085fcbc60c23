//! What the agent of a node may do: read what its pods need, and write of itself and its pods.
//!
//! [`decide`] is Kubernetes' Node authorizer, [`restrict`] its admission plugin NodeRestriction; both know nodes by their names and
//! their group. Source: <https://kubernetes.io/docs/reference/access-authn-authz/node/>, as of Kubernetes 1.32.

mod authorizer;
mod identity;
mod labels;
mod links;
mod mirror;
mod restriction;
#[cfg(test)]
mod tests;
mod write;

pub use authorizer::{Related, decide, rules};
pub use identity::node_of;
pub use links::{Claim, PodLinks, Source, VolumeLinks};
pub use restriction::restrict;
pub use write::{Refusal, Stored, Write};
