//! What the containers of a pod share: namespaces, an address, memory.

pub(crate) mod holder;
pub(crate) mod namespaces;
pub(crate) mod record;
pub(crate) mod sandbox;
