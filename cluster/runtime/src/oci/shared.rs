//! What all parts of a node's runtime share.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, broadcast};

use super::bundle::host_facts::HostFacts;
use super::command::OciCommand;
use super::containers::{Containers, Entry};
use super::image_service::ImageService;
use super::pod::record::Sandboxes;
use super::record::Record;
use super::streams::pipes::Pipes;
use crate::cgroup::Cgroups;
use crate::cgroup::view::View;
use crate::host::{BUNDLES_DIR, IO_DIR, MOUNTS_DIR};
use crate::image::ImageStore;
use crate::net::Bridge;
use crate::runtime::RuntimeError;

/// How long a pod may take to accept a connection; callers usually have a shorter limit of their own.
pub(super) const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// What a node's runtime needs to know.
#[derive(Clone, Debug)]
pub struct OciOptions {
    /// Name of the node, for messages.
    pub node: String,
    /// Where containers and sandboxes of this node are kept.
    pub dir: PathBuf,
    /// The images, shared with other nodes.
    pub images: Arc<ImageStore>,
    /// The node's bridge, which exists.
    pub bridge: Bridge,
    /// `/proc/self/exe` for our own (then called as `… oci …`), or the path of runc.
    pub oci_runtime: PathBuf,
    /// The process lives in a user namespace.
    pub rootless: bool,
}

/// See the module.
pub(super) struct Shared {
    pub(super) options: OciOptions,
    pub(super) command: OciCommand,
    /// Names the run of pid 1 that we live in.
    pub(super) boot: String,
    pub(super) containers: Arc<Containers>,
    pub(super) sandboxes: Mutex<Sandboxes>,
    /// Held while a record is written; on blocking threads only.
    pub(super) saving: Mutex<()>,
    pub(super) exits: broadcast::Sender<String>,
    pub(super) creating: Semaphore,
    pub(super) facts: HostFacts,
    pub(super) cgroups: Cgroups,
    /// How containers see theirs; None: it cannot be had. Made with the first that has one.
    pub(super) view: OnceLock<Option<View>>,
    pub(super) images: OnceLock<Arc<ImageService>>,
}

impl Shared {
    pub(super) fn container_dir(&self, id: &str) -> PathBuf {
        self.options.dir.join("containers").join(id)
    }

    /// Where a container's configuration is, in memory: it has the values of Secrets in its environment.
    pub(super) fn bundle_dir(id: &str) -> PathBuf {
        Path::new(BUNDLES_DIR).join(id)
    }

    /// Where sources of mounts are while this node makes containers.
    pub(super) fn staging_dir(&self) -> PathBuf {
        Path::new(MOUNTS_DIR).join(&self.options.node)
    }

    /// Why containers could use every device of the machine if their filters did not refuse to make one. Without root the kernel itself
    /// lets nobody make or open one through a file system of ours (user_namespaces(7)).
    pub(super) fn unguarded(&self) -> Option<String> {
        self.cgroups.unguarded().filter(|_| !self.options.rootless)
    }

    pub(super) fn pipes(id: &str) -> Pipes {
        Pipes::new(Path::new(IO_DIR), id)
    }

    /// Held for a look-up only.
    pub(super) fn containers(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.containers.lock()
    }

    pub(super) fn sandboxes(&self) -> MutexGuard<'_, Sandboxes> {
        self.sandboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn record(&self, id: &str) -> Result<Record, RuntimeError> {
        self.containers()
            .get(id)
            .map(|entry| entry.record.clone())
            .ok_or_else(|| RuntimeError::NotFound(format!("container {id}")))
    }
}
