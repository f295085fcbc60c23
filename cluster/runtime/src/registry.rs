//! Pulls images from registries: the OCI distribution API over HTTP(S).
//!
//! What is pure (names, challenges, credentials, manifests) is in modules of its own; `session` talks to one repository,
//! `blob` fetches one blob and goes on where it broke off, `puller` puts an image together. Nothing is trusted that a
//! registry says: manifest, configuration and every layer are checked against their digests before they count.

mod blob;
mod challenge;
mod hosts;
mod manifest;
mod network;
mod puller;
mod session;
mod tls;
mod transport;

#[cfg(test)]
mod fuzz;

pub use afloat_words::keyring::{Credentials, Keyring};
pub use afloat_words::progress::Progress;
pub use hosts::{Mirror, RegistryOptions};
pub use network::{HostNetwork, Network};
pub use puller::{Pulled, Puller};

/// Why an image could not be pulled. The texts are for pods' status and events, and for the command line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PullError {
    /// The reference is not one.
    #[error("{0}")]
    InvalidName(String),
    /// The registry cannot be reached, or does not work.
    #[error("{0}")]
    Unavailable(String),
    /// The registry answered, and the image cannot be had: not there, not allowed, broken.
    #[error("{0}")]
    Refused(String),
    /// This machine could not keep it.
    #[error("{0}")]
    Local(String),
    /// The disk is full.
    #[error("{0}")]
    DiskFull(String),
}

impl From<crate::image::ImageError> for PullError {
    fn from(error: crate::image::ImageError) -> Self {
        use crate::image::ImageError;
        match &error {
            ImageError::Name(..) => Self::InvalidName(error.to_string()),
            ImageError::Io { path, source } if source.kind() == std::io::ErrorKind::StorageFull => {
                Self::DiskFull(format!(
                    "no space left on the node's disk while the image was stored ({})",
                    path.display()
                ))
            }
            _ => Self::Local(error.to_string()),
        }
    }
}
