//! Why a cluster could not do what it was asked.

use std::io;
use std::path::PathBuf;

/// See the module.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The objects' file cannot be used, or another cluster has it.
    #[error("cannot open the store {}", path.display())]
    Store {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: afloat_store::Error,
    },
    /// The API server did not start.
    #[error(transparent)]
    ApiServer(#[from] afloat_apiserver::Error),
    /// There are no keys and certificates to serve with.
    #[error("cannot make the cluster's certificates")]
    Certificates(#[source] afloat_apiserver::pki::Error),
    /// A folder or file cannot be made.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A socket for the API cannot be opened.
    #[error("cannot serve the API to {whom}")]
    Serve {
        /// Who would have asked there.
        whom: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The network that all nodes share cannot be made.
    #[cfg(feature = "nodes")]
    #[error("cannot set up the cluster's network")]
    Network(#[source] afloat_runtime::net::NetError),
    /// A node did not start.
    #[cfg(feature = "nodes")]
    #[error("cannot start {node}")]
    Node {
        /// Its name.
        node: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The folder of the images cannot be used.
    #[cfg(feature = "nodes")]
    #[error(transparent)]
    Images(#[from] afloat_runtime::image::ImageError),
    /// An image cannot be built.
    #[cfg(feature = "nodes")]
    #[error("cannot build the image {name}")]
    Build {
        /// The name that it would have.
        name: String,
        /// Why.
        source: afloat_runtime::image::ImageError,
    },
    /// This program does not find its own file.
    #[cfg(feature = "nodes")]
    #[error("cannot find this program's own file")]
    Program(#[source] io::Error),
    /// Nodes were not Ready in time.
    #[cfg(feature = "nodes")]
    #[error("not Ready after {seconds} s: {}", nodes.join(", "))]
    NotReady {
        /// How long they had.
        seconds: u64,
        /// Their names.
        nodes: Vec<String>,
    },
    /// The tokio runtime ended meanwhile.
    #[error("interrupted: {0}")]
    Interrupted(#[from] tokio::task::JoinError),
}
