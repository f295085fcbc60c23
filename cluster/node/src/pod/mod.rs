//! A pod on this node: what is known of it, what to do about it, and how that is told.
//!
//! `state` is observed, [`plan`] decides, `status` tells; all of that is pure. Only `handler` (and `tls`, `grpc` below it)
//! talks to the world here, for probes and hooks; the rest of the doing is in the crate's `worker` and `act`.

pub mod back_off;
pub(crate) mod claim;
pub(crate) mod container_status;
pub(crate) mod env;
pub(crate) mod ephemeral;
mod grpc;
pub(crate) mod handler;
#[cfg(test)]
mod handler_test;
pub mod hash;
pub(crate) mod orphan;
pub mod plan;
#[cfg(test)]
mod plan_test;
pub(crate) mod probe;
pub(crate) mod pull;
pub(crate) mod recover;
pub(crate) mod resize;
pub(crate) mod resolve;
pub(crate) mod resources;
pub(crate) mod security;
#[cfg(test)]
mod sidecar_test;
pub mod spec;
mod start;
pub mod state;
pub mod status;
mod tls;
pub(crate) mod volumes;
pub(crate) mod write;
