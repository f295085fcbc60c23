//! One pod's way: what it is, what may change on it while it lives, in which steps, and whether a step is complete.

pub mod batch;
pub mod complete;
pub mod environment;
pub mod images;
pub mod inplace;
pub mod launch;
pub mod lifecycle;
pub mod object;
pub mod resources;
mod restart;
pub mod state;
pub mod wire;

pub use object::{Controller, LAST_APPLIED, Pod, Wire, same_revision};
