//! The scheduler: finds a node for each pod and binds it there.
//!
//! [`fit::place`] decides on a [`cluster::Cluster`] that already counts pods whose binding is under way, so a burst is decided in
//! one go without waiting for the API server, and never overcommits.

mod affinity;
mod bind;
mod changes;
mod cluster;
mod drive;
mod fit;
mod node;
mod refusal;
mod volumes;

pub(crate) use drive::run_scheduler;
