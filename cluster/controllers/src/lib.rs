//! The standard Kubernetes loops of the embedded cluster: `plan()` above, loop below, one file each.
//!
//! All of them reach the API only through `kube::Client`. They share one cache per kind ([`loops::cache`]); each has a queue of keys
//! ([`loops::queue`]) and a way to write ([`loops::shell`]) that remembers what it wrote until the cache shows it, because the bugs that
//! lose pods in such loops are decisions on stale views.

mod context;
mod error;
mod loops;
mod objects;
mod quantity;
mod start;

mod garbage;
mod namespace;
mod network;
mod node;
mod scheduler;
mod volume;
mod workload;

pub use context::Options;
pub use error::{Error, Unfinished};
pub use network::cluster_dns::address as cluster_dns_address;
pub use start::run;
pub use volume::local::LocalVolumes;
