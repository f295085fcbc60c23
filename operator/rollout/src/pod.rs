//! One pod's way: what it is, what may change on it while it lives, in which steps, and whether a step is complete.

pub mod batch;
pub mod change;
pub mod complete;
mod defaults;
pub mod drain;
pub mod environment;
pub mod images;
pub mod inplace;
pub mod label;
pub mod launch;
pub mod lifecycle;
pub mod meaning;
pub mod object;
pub mod resize;
pub mod resources;
mod restart;
pub mod server;
pub mod service;
pub mod update;
pub mod wire;

pub use label::same_revision;
pub use object::incoming::{Wire, read};
pub use object::{Controller, Pod};
