//! Standard input, output and terminals of containers.

pub(crate) mod attach;
pub(crate) mod listeners;
pub(crate) mod log;
pub(crate) mod pipes;
pub(crate) mod terminal;
