//! Why there is no server.

use crate::auth::token::KeyError;
use crate::wire::status::Status;

/// Why a server could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store refused.
    #[error("store: {0}")]
    Store(#[from] afloat_store::Error),
    /// One of the objects that every cluster has could not be made.
    #[error("cannot create {what}: {why}")]
    Bootstrap {
        /// Which object.
        what: String,
        /// The refusal.
        why: Status,
    },
    /// The key of tokens cannot be used.
    #[error("{0}")]
    TokenKey(#[from] KeyError),
    /// One of the kinds that the server works with has no row.
    #[error("the kind {0} is not known")]
    UnknownKind(String),
    /// A stored object cannot be read.
    #[error("stored object {key} is unreadable: {why}")]
    Corrupt {
        /// Key in the store.
        key: String,
        /// Parser's message.
        why: String,
    },
}
