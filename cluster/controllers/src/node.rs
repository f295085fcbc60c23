//! What becomes of nodes that are silent or gone, and of the pods that nobody else removes.

pub(crate) mod lifecycle;
pub(crate) mod pod_gc;
