//! Claims and volumes: who gets which, who makes new ones, and what becomes of them.
//!
//! [`claim`] and [`persistent_volume`] decide, [`binding`] does. Volumes of the cluster's own class are directories of a node: the object is
//! made here, the directory by the node agent when it is needed first, and deleted through [`local::LocalVolumes`]. Their capacity
//! is recorded and not enforced.

mod binding;
pub(crate) mod claim;
pub(crate) mod ephemeral;
pub(crate) mod local;
pub(crate) mod matching;
pub(crate) mod persistent_volume;

pub(crate) use binding::run_volumes;
