//! From a container in the spec to what the runtime is told of it.

pub(crate) mod env;
pub(crate) mod links;
pub(crate) mod resolve;
pub(crate) mod resources;
pub(crate) mod security;
pub(crate) mod termination;
