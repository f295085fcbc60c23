//! What a process of ours does about itself, whatever its command is.

pub(crate) mod inner;
pub(crate) mod logging;
pub(crate) mod memory;
pub(crate) mod signals;
