//! The contents of the cluster's own volumes: directories of nodes, which somebody else keeps.

use std::fmt::Debug;
use std::io;
use std::path::PathBuf;

/// Where the contents of the cluster's own volumes are kept.
pub trait LocalVolumes: Debug + Send + Sync + 'static {
    /// The directory of a volume on a node.
    fn path(&self, node: &str, volume: &str) -> PathBuf;

    /// Deletes the contents. Not an error if there are none. Blocks on the file system.
    ///
    /// # Errors
    /// What the system said.
    fn remove(&self, node: &str, volume: &str) -> io::Result<()>;
}
