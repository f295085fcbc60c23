//! What is to be done about a ContainerRecreateRequest, given what is seen of it, of its pod and of the node's containers:
//!
//! * [`fill`]: what a new request lacks, or why there can be none (OpenKruise's webhook);
//! * [`control`]: what the operator does: deadlines, the pod out of service and back, the end (OpenKruise's manager);

pub mod control;
pub mod fill;

mod pod;

pub use pod::Pod;
