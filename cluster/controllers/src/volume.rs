//! Claims and volumes: who gets which, who makes new ones, and what becomes of them.
//!
//! [`claim`] and [`persistent_volume`] decide, [`binding`] does. Volumes of the cluster's own class are directories of a node: the object is
//! made here, the directory by the node agent when it is needed first, and deleted through [`LocalVolumes`]. Their capacity
//! is recorded and not enforced.

mod binding;
pub(crate) mod claim;
pub(crate) mod ephemeral;
pub(crate) mod matching;
pub(crate) mod persistent_volume;

use std::fmt::Debug;
use std::io;
use std::path::PathBuf;

pub(crate) use crate::objects::storage::{Claim, StorageClass, Volume};
pub(crate) use binding::{prepare, run};

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
