//! What every client of Kubernetes needs that follows objects and writes to them:
//!
//! * [`cache`]: list and watch → a cache of what is kept of each object, with indexes and subscribers;
//! * [`ledger`]: what an author has written and must see before it decides again. A view to decide on can be had from there alone;
//! * [`feed`]: the watch itself, for those that keep no cache;
//! * [`queue`]: names of objects to look at, with urgency, rest and back-off.
//!
//! What a cache holds and how far it has seen are one value ([`content`]) under one lock, so that neither is ever ahead of
//! the other. It is pure, as are the expectations ([`written`]); `tests/orders.rs` walks every order of their events.
//!
//! kube-runtime's reflector is not used: it finds objects by name alone, does not tell what an object was before, keeps whole
//! objects, and cannot say whether it has seen a write. Its watcher is: everything here is fed by it.

pub mod cache;
pub mod content;
pub mod feed;
mod item;
pub mod kind;
pub mod ledger;
mod members;
pub mod queue;
pub mod written;

pub use cache::{Cache, View, Watchable};
pub use content::{Change, Follower, News};
pub use kind::{Kind, Whole};
pub use ledger::{Ledger, Looking, Witness, Writing};
pub use queue::{Queue, Urgency};
pub use written::Written;
