//! Why a loop could not do its work.

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
    /// A field of an object is not valid; the message names it.
    #[error("{0}")]
    Invalid(String),
    /// The watch does not show what this loop wrote; it waits rather than decide on an old view.
    #[error("the watch of {0} is behind its own writes")]
    Stale(&'static str),
    /// More work than one turn does, or than may be done now.
    #[error("not finished yet: {0}")]
    Unfinished(String),
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
