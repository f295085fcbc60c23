//! What is to be done about a ContainerRecreateRequest, given what is seen of it, of its pod and of the node's containers:
//!
//! * [`fill`]: what a new request lacks, or why there can be none (OpenKruise's webhook);

pub mod fill;
mod pod;

pub use pod::Pod;
