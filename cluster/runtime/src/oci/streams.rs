//! Standard input, output and terminals of containers.

pub(crate) mod attach;
pub(crate) mod log;
pub(crate) mod terminal;
