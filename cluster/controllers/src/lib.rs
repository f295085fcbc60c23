//! The standard Kubernetes loops of the embedded cluster: a pure `plan()`, and the loop that carries it out.
//!
//! All of them reach the API only through `kube::Client`. [`start`] says which loop runs under which name, [`context`] what each
//! of them is given, [`objects`] what they know of each kind. They stand on `afloat_watching`: one cache per kind that all share,
//! a queue of keys each, and a ledger of own writes, without which none gets a view to decide on, because the bugs that lose
//! pods in such loops are decisions on stale views. What else every loop needs is in [`loops`].

mod context;
mod error;
mod loops;
mod objects;
mod rights;
mod start;

mod certificates;
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
pub use rights::{Identity, identity, roles};
pub use start::run;
pub use volume::local::LocalVolumes;
