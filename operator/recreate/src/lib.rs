//! What is to be done about a ContainerRecreateRequest, given what is seen of it, of its pod and of the node's containers:
//!
//! * [`fill`]: what a new request lacks, or why there can be none (OpenKruise's webhook);
//! * [`control`]: what the operator does: deadlines, the pod out of service and back, the end (OpenKruise's manager);
//! * [`node`]: what the agent of the node does: whose turn it is, what is to be stopped, what is back (OpenKruise's daemon).
//!
//! The latter two talk to each other through the request alone, in OpenKruise's words, so that either may be OpenKruise's.

pub mod control;
pub mod fill;
pub mod node;
mod pod;

pub use pod::Pod;
