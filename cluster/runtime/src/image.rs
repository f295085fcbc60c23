//! Images: built from files, loaded, stored once per layer.
//!
//! A store may be used by several processes at once (`afloat image …` while `up` runs): every file appears by an atomic
//! rename, names change under a lock file, and nothing is kept in memory between two calls.

mod archive;
mod build;
mod collect;
mod config;
mod export;
mod layer;
mod lease;
mod library;
mod merged;
mod name;
mod paths;
mod pulled;
mod stack;
mod store;
mod user;

pub use build::BuildSpec;
pub use collect::{Candidate, Disk, Thresholds, collection};
pub use config::architecture;
pub(crate) use lease::LAYERS_NOTE;
pub use lease::{Lease, images_in_use, layers_in_use};
pub use name::normalise;
pub(crate) use pulled::diff_ids;
pub(crate) use stack::extended;
pub use store::ImageStore;
pub(crate) use user::resolve_user;

use std::io;
use std::path::PathBuf;

use afloat_words::image::BadImageName;

/// An overlay may have 500 (`OVL_MAX_STACK`), one of them with the right modes of folders.
pub(crate) const LAYERS_MAX: usize = 499;

/// An image that the node has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Digest of the image's configuration, `sha256:…`; what `imageID` in a container status is made of.
    pub id: String,
    /// Every full name that points to it, for example `docker.io/library/web:v1`, sorted.
    pub names: Vec<String>,
    /// Those of `names` that came from a registry; the others were made or loaded here.
    pub registry_names: Vec<String>,
    /// Those names with the digests of manifests and indexes that they had in their registries: `docker.io/library/web@sha256:…`,
    /// first of each what the registry had under the name.
    pub digests: Vec<String>,
    /// Bytes of all layers, unpacked.
    pub size_bytes: u64,
    /// Configuration: entrypoint, cmd, env, user, working directory, stop signal.
    pub config: ImageConfig,
}

/// The part of the OCI image configuration that decides how a container is started.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ImageConfig {
    /// ENTRYPOINT.
    #[serde(default)]
    pub entrypoint: Vec<String>,
    /// CMD.
    #[serde(default)]
    pub cmd: Vec<String>,
    /// ENV as `NAME=value`.
    #[serde(default)]
    pub env: Vec<String>,
    /// USER as written: name, uid, or `user:group`.
    #[serde(default)]
    pub user: String,
    /// WORKDIR; empty means `/`.
    #[serde(default)]
    pub working_dir: String,
    /// STOPSIGNAL; empty means SIGTERM.
    #[serde(default)]
    pub stop_signal: String,
}

/// Why something with images could not be done.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The name of an image is not one.
    #[error("invalid image name {0:?}: {1}")]
    Name(String, BadImageName),
    /// There is no such image.
    #[error("image {0} not found")]
    NotFound(String),
    /// A file, layout or archive is not what it should be.
    #[error("{path}: {reason}")]
    Bad {
        /// What was read.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Reading or writing failed.
    #[error("{path}: {source}")]
    Io {
        /// What was read or written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl ImageError {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    pub(crate) fn bad(path: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Self::Bad {
            path: path.into(),
            reason: reason.into(),
        }
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
