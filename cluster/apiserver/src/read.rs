//! Get, list, watch.

pub(crate) mod filter;
mod list;
pub(crate) mod table;
mod watch;
