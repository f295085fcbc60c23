//! The node agent: pods become containers.
//!
//! Reaches the API server only through [`kube::Client`] and containers only through [`afloat_runtime::Runtime`]; has
//! never heard of the operator.
