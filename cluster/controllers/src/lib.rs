//! The standard Kubernetes loops of the embedded cluster: `plan()` above, loop below, one file each.
//!
//! All of them reach the API only through `kube::Client`. They share one cache per kind ([`cache`]); each has a queue of keys
//! ([`queue`]) and a way to write ([`shell`]) that remembers what it wrote until the cache shows it, because the bugs that
//! lose pods in such loops are decisions on stale views.

mod cache;
mod cluster_dns;
mod daemonset;
mod discovery;
mod events;
mod objects;
mod pod;
mod pod_control;
mod queue;
mod run;
mod selector;
mod shell;

mod deployment;
mod disruption;
mod garbage;
mod history;
mod job;
mod kubernetes_service;
mod namespace;
mod node_lifecycle;
mod pod_gc;
mod replicaset;
mod scheduler;
mod serviceaccount;
mod statefulset;
mod volume;

pub mod endpointslice;

pub use cluster_dns::address as cluster_dns_address;
pub use run::{Error, Options, run};
pub use volume::LocalVolumes;
