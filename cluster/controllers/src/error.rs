//! Why a loop could not do its work.

use std::io;

use kube::core::ParseExpressionError;

use crate::loops::answer::is_status;

/// Why a loop could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused or could not be reached.
    #[error("{0}")]
    Api(#[from] kube::Error),
    /// An object could not be read or built.
    #[error("an object has an unexpected form: {0}")]
    Object(#[from] serde_json::Error),
    /// A label selector cannot be read: an unknown operator, or values are missing.
    #[error("spec.selector: {0}")]
    Selector(#[from] ParseExpressionError),
    /// A workload's selector must not take pods that are not its own.
    #[error("spec.selector: selects all pods; give it labels")]
    SelectsAll,
    /// The watch does not show what this loop wrote; it waits rather than decide on an old view.
    #[error("the watch of {0} is behind its own writes")]
    Stale(&'static str),
    /// More work than one turn does, or than may be done now.
    #[error("not finished yet: {0}")]
    Unfinished(#[from] Unfinished),
    /// The contents of a volume could not be deleted.
    #[error("cannot delete the contents: {0}")]
    Contents(io::Error),
    /// A watch ended for good, which none should.
    #[error("the watches of {0} have ended")]
    WatchEnded(&'static str),
}

/// What a loop waits for before it goes on.
#[derive(Debug, thiserror::Error)]
pub enum Unfinished {
    /// An owner that is to adopt something is being deleted.
    #[error("{kind} {name} is being deleted")]
    OwnerIsLeaving {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
    },
    /// The ReplicaSet of this name that was in the way is gone.
    #[error("replica set {0} was just deleted")]
    JustDeleted(String),
    /// The ReplicaSet exists, but the watch has not shown it.
    #[error("replica set {0} has not been seen yet")]
    NotSeen(String),
    /// Another template's ReplicaSet has the name.
    #[error("replica set name {0} is taken, choosing another")]
    NameTaken(String),
    /// The pod's claims have no volumes yet.
    #[error("the volumes of the pod are not bound yet")]
    VolumesNotBound,
    /// A volume is not released while its claim exists.
    #[error("claim {claim} of volume {volume} is still there")]
    ClaimIsThere {
        /// The claim's name.
        claim: String,
        /// The volume's name.
        volume: String,
    },
    /// Nobody can say whether an owner of such a kind exists.
    #[error("{kind} {name} is of a kind not served")]
    KindNotServed {
        /// The owner's kind.
        kind: String,
        /// The owner's name.
        name: String,
    },
}

impl Error {
    /// Whether somebody else was quicker, be it the end of the namespace: nothing to worry about.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        match self {
            Self::Api(error) => is_status(error, 409) || is_status(error, 404) || self.is_end_of_namespace(),
            Self::Unfinished(_) => true,
            _ => false,
        }
    }

    /// Whether something could not be created because its namespace is going or gone: nothing to worry about, either.
    pub(crate) fn is_end_of_namespace(&self) -> bool {
        let Self::Api(kube::Error::Api(status)) = self else {
            return false;
        };
        let causes = status.details.iter().flat_map(|details| &details.causes);
        status.code == 404 || causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
    }

    /// The error as a user shall read it: of the API server's answer the message alone.
    pub(crate) fn told(&self) -> String {
        match self {
            Self::Api(kube::Error::Api(status)) => status.message.clone(),
            other => other.to_string(),
        }
    }
}
