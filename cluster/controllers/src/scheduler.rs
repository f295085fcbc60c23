//! The scheduler: finds a node for each pod and binds it there.
//!
//! [`place`] decides on a [`state::Cluster`] that already counts pods whose binding is under way, so a burst is decided in
//! one go without waiting for the API server, and never overcommits.

mod drive;
mod fit;
mod state;
mod volumes;

pub(crate) use drive::run;
pub(crate) use fit::{covers, suits};
pub(crate) use volumes::VolumeStep;
