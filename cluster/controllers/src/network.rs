//! Services: which pods serve them, in slices and in Endpoints, and the two that the cluster itself needs.

pub(crate) mod cluster_dns;
pub(crate) mod endpoints;
pub(crate) mod endpointslice;
mod kubernetes_service;
pub(crate) mod mirroring;
pub(crate) mod own_services;
mod subsets;
mod view;
