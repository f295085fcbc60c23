//! The node agent: pods become processes, services become sockets.
//!
//! Reaches the API server only through [`kube::Client`]; has never heard of the operator.

pub mod runtime;
