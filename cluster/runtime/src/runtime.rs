//! What runs containers, as the node agent sees it.

use std::collections::BTreeMap;
use std::path::Path;

use async_trait::async_trait;

use crate::cgroup::Resources;
use crate::container::{Container, ContainerSpec, ExecSession, ExecSpec, Sandbox, SandboxSpec, Usage};
use crate::image::{self, Image, ImageError};
use crate::net::NetError;
use crate::registry::{Keyring, Progress, PullError, Pulled};

/// Why a runtime could not do it.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// There is no such container, sandbox or image.
    #[error("{0} not found")]
    NotFound(String),
    /// What was asked for cannot be (bad command, user, image): trying again will not help by itself.
    #[error("{0}")]
    Invalid(String),
    /// The machine said no; trying again may help.
    #[error("{0}")]
    Failed(String),
}

/// What there is to say of an image that is not here and cannot be pulled.
pub(crate) fn not_here(reference: &str) -> String {
    let name = image::normalise(reference).unwrap_or_else(|_| reference.to_owned());
    format!("{name}: not in this node's image store; add it with `afloat image build` or `afloat image load`")
}

impl From<NetError> for RuntimeError {
    fn from(error: NetError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<ImageError> for RuntimeError {
    fn from(error: ImageError) -> Self {
        match error {
            ImageError::Name(..) => Self::Invalid(error.to_string()),
            ImageError::NotFound(name) => Self::NotFound(format!("image {name}")),
            ImageError::Bad { .. } | ImageError::Io { .. } => Self::Failed(error.to_string()),
        }
    }
}

/// Runs containers for one node.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// Finds an image by any reference a pod may use (`web:v1`, `docker.io/library/web`, `web@sha256:…`). None: the node does not have it.
    async fn image(&self, reference: &str) -> Result<Option<Image>, RuntimeError>;

    /// Everything that the node has.
    async fn images(&self) -> Result<Vec<Image>, RuntimeError>;

    /// Pulls an image from its registry, unless the very same is here; dropped when nobody wants it any more.
    async fn pull(&self, reference: &str, _keyring: &Keyring, _progress: &Progress) -> Result<Pulled, PullError> {
        Err(PullError::Refused(not_here(reference)))
    }

    /// Numeric (uid, gid, additional groups) of a user as images and pods name it, from the image's `/etc/passwd` and `/etc/group`.
    async fn resolve_user(&self, image_id: &str, user: &str) -> Result<(u32, u32, Vec<u32>), RuntimeError>;

    /// Makes the namespaces that the pod's containers share, or finds them again.
    async fn create_sandbox(&self, spec: &SandboxSpec) -> Result<Sandbox, RuntimeError>;

    /// Takes it away; its containers must be gone. Not an error if it is gone already.
    async fn remove_sandbox(&self, pod_uid: &str) -> Result<(), RuntimeError>;

    /// Mounts memory on a directory (made if it is missing); one that is mounted already stays as it is.
    async fn mount_memory(&self, path: &Path, size_bytes: u64) -> Result<(), RuntimeError>;

    /// Takes away everything that is mounted below a directory. Not an error if nothing is.
    async fn unmount_below(&self, dir: &Path) -> Result<(), RuntimeError>;

    /// Makes a container, its process waiting at the gate. Answers its id.
    async fn create_container(&self, spec: &ContainerSpec) -> Result<String, RuntimeError>;

    /// Lets its process go.
    async fn start_container(&self, id: &str) -> Result<(), RuntimeError>;

    /// Changes what a running container may use, without a stop. An error leaves it as it was, as far as the kernel lets:
    /// [`RuntimeError::Failed`] where it uses more memory than it is to have.
    async fn update_container(&self, id: &str, resources: &Resources) -> Result<(), RuntimeError>;

    /// Sends a signal (`SIGTERM`, `TERM` or a number) to its first process. Not an error if that has ended.
    async fn signal_container(&self, id: &str, signal: &str) -> Result<(), RuntimeError>;

    /// Removes an ended or created container with its file system. Not an error if it is gone already.
    async fn remove_container(&self, id: &str) -> Result<(), RuntimeError>;

    /// All containers of this node, ended ones that were not removed included.
    async fn containers(&self) -> Result<Vec<Container>, RuntimeError>;

    /// Ids of containers whose process has ended, as it happens. The state is read by [`Runtime::containers`].
    /// A receiver that lags sees an error and must list.
    fn exits(&self) -> tokio::sync::broadcast::Receiver<String>;

    /// Runs a command in a running container.
    async fn exec(&self, id: &str, spec: ExecSpec) -> Result<ExecSession, RuntimeError>;

    /// Joins the standard streams of a running container's own process: output from now on (and, for the first to come, what a
    /// container with an input said before), input if it was made with one, resizing if it has a terminal. Shutting the
    /// input down closes it for good; dropping the session only leaves. `exit` says nothing.
    async fn attach(&self, id: &str) -> Result<ExecSession, RuntimeError> {
        Err(RuntimeError::Failed(format!(
            "container {id} cannot be attached to here"
        )))
    }

    /// Connects to a TCP port of the pod's address (probes, hooks).
    async fn connect(&self, pod_uid: &str, port: u16) -> Result<tokio::net::TcpStream, RuntimeError>;

    /// The disk that images are on is short of space, although unused images were removed.
    fn disk_pressure(&self) -> bool {
        false
    }

    /// Connects to a TCP port of the loopback address inside the pod's network namespace (port-forward): also reaches what
    /// listens for the pod's own containers only.
    async fn connect_loopback(&self, pod_uid: &str, port: u16) -> Result<tokio::net::TcpStream, RuntimeError> {
        self.connect(pod_uid, port).await
    }

    /// What running containers use now, by id. Those that are not in the answer cannot be told.
    async fn usage(&self) -> Result<BTreeMap<String, Usage>, RuntimeError> {
        Ok(BTreeMap::new())
    }

    /// The variables that the first process of a running container was started with.
    async fn environment(&self, id: &str) -> Result<BTreeMap<String, String>, RuntimeError> {
        Err(RuntimeError::Failed(format!(
            "variables of container {id} are not told here"
        )))
    }

    /// Why nothing but a refusal to make their nodes keeps containers from the machine's devices; None: they are kept from them.
    fn unguarded(&self) -> Option<String> {
        None
    }

    /// Why [`ContainerSpec::resources`] have no effect here; None: they are enforced.
    fn unlimited(&self) -> Option<String> {
        None
    }
}
