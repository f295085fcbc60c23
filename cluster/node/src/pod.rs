//! A pod on this node: what is known of it, what to do about it, and how that is told.
//!
//! `state` is observed, [`plan`] decides, `status` tells; `container` is what the runtime is told. All of it is pure: the doing
//! is in the crate's `worker` and `handler`.

pub mod action;
pub(crate) mod admission;
pub mod back_off;
pub(crate) mod container;
pub(crate) mod ephemeral;
pub(crate) mod found;
pub mod hash;
pub mod instance;
pub(crate) mod obstacle;
pub(crate) mod orphan;
pub mod plan;
pub(crate) mod probe;
pub(crate) mod progress;
pub(crate) mod pull;
pub(crate) mod recover;
pub(crate) mod resize;
pub mod spec;
pub mod state;
pub mod status;
pub(crate) mod volumes;
