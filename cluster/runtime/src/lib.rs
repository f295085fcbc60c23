//! What the node agent needs from something that runs containers.
//!
//! The agent decides, a runtime obeys: it keeps no policy (no restarts, no back-off, no probes). Two implement it:
//! [`oci`] containers on this machine, and a simulated one (in the agent's crate) for tests and scale benchmarks.

mod cgroup;
pub mod host;
pub mod image;
pub mod net;
pub mod oci;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

pub use cgroup::{CPU_PERIOD_US, Cgroups, Resources};

/// An image that the node has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Digest of the image's configuration, `sha256:…`; what `imageID` in a container status is made of.
    pub id: String,
    /// Every full name that points to it, for example `docker.io/library/web:v1`, sorted.
    pub names: Vec<String>,
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

/// A pod's shared surroundings: its network namespace and host name.
#[derive(Clone, Debug)]
pub struct SandboxSpec {
    /// `metadata.uid` of the pod.
    pub pod_uid: String,
    /// `namespace/name`, for messages.
    pub pod: String,
    /// Host name inside the pod.
    pub hostname: String,
    /// The address that it had before (restart of the node); a new one is chosen where None or taken.
    pub ip: Option<IpAddr>,
    /// Share the node's network instead of having an own namespace.
    pub host_network: bool,
}

/// A sandbox that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// The pod's address.
    pub ip: IpAddr,
}

/// One bind mount into a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// On the host, as the runtime sees it.
    pub source: PathBuf,
    /// In the container, absolute.
    pub target: PathBuf,
    /// No writes through it.
    pub read_only: bool,
}

/// A container to create. Everything is resolved: variables expanded, command and user decided.
#[derive(Clone, Debug)]
pub struct ContainerSpec {
    /// `metadata.uid` of the pod; its sandbox must exist.
    pub pod_uid: String,
    /// `namespace/name`, for messages.
    pub pod: String,
    /// Name of the container in the pod.
    pub name: String,
    /// How many times a container of this name was created before: the restart count that it will have.
    pub attempt: u32,
    /// [`Image::id`].
    pub image_id: String,
    /// Program and arguments.
    pub args: Vec<String>,
    /// `NAME=value`, complete, PATH included.
    pub env: Vec<String>,
    /// Absolute; made if missing.
    pub working_dir: String,
    /// Numeric user and group, and additional groups.
    pub uid: u32,
    /// Numeric primary group.
    pub gid: u32,
    /// Supplementary groups.
    pub additional_gids: Vec<u32>,
    /// Volumes and generated files, in mount order.
    pub mounts: Vec<Mount>,
    /// Root file system without writes.
    pub read_only_root: bool,
    /// All capabilities and no masked paths, inside the namespaces that the process owns.
    pub privileged: bool,
    /// Capabilities to add to the default set, without the `CAP_` prefix.
    pub add_capabilities: Vec<String>,
    /// Capabilities to drop, `ALL` included.
    pub drop_capabilities: Vec<String>,
    /// Set no_new_privs.
    pub no_new_privileges: bool,
    /// What it may use, where that can be enforced ([`Runtime::unlimited`]).
    pub resources: Resources,
    /// Where standard output and error go, in the CRI log format; made by the runtime, appended to.
    pub log_path: PathBuf,
    /// Kept with the container and given back by [`Runtime::containers`], for the agent's own use (hash, …).
    pub labels: BTreeMap<String, String>,
}

/// How a container's process stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContainerState {
    /// Made, not started.
    Created,
    /// Its process runs.
    Running,
    /// Its process ended.
    Exited(Exit),
}

/// How a container's process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Exit code; 128 + signal when a signal ended it.
    pub code: i32,
    /// The signal that ended it, or 0.
    pub signal: i32,
    /// When it was noticed.
    pub finished_at: jiff::Timestamp,
    /// The kernel killed it for its memory limit.
    pub oom_killed: bool,
}

/// A container that exists, running or not.
#[derive(Clone, Debug)]
pub struct Container {
    /// Unique over all time: 64 hexadecimal digits.
    pub id: String,
    /// `metadata.uid` of its pod.
    pub pod_uid: String,
    /// Its name in the pod.
    pub name: String,
    /// See [`ContainerSpec::attempt`].
    pub attempt: u32,
    /// See [`Image::id`].
    pub image_id: String,
    /// Its process.
    pub state: ContainerState,
    /// When it was made.
    pub created_at: jiff::Timestamp,
    /// When its process was started.
    pub started_at: Option<jiff::Timestamp>,
    /// See [`ContainerSpec::labels`].
    pub labels: BTreeMap<String, String>,
    /// See [`ContainerSpec::log_path`].
    pub log_path: PathBuf,
}

/// A command to run inside a running container.
pub struct ExecSpec {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Give it a terminal.
    pub tty: bool,
    /// Give it a standard input.
    pub stdin: bool,
}

/// A command that runs inside a container. Dropping it kills the command.
pub struct ExecSession {
    /// Its standard input, or the terminal.
    pub stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// Its standard output, or the terminal.
    pub stdout: Box<dyn AsyncRead + Send + Unpin>,
    /// Its standard error; None with a terminal.
    pub stderr: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Size of the terminal, (columns, rows); None without one.
    pub resize: Option<mpsc::Sender<(u16, u16)>>,
    /// Exit code, once it has ended.
    pub exit: tokio::sync::oneshot::Receiver<i32>,
}

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

/// Runs containers for one node.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// Finds an image by any reference a pod may use (`web:v1`, `docker.io/library/web`, `web@sha256:…`). None: the node does not have it.
    async fn image(&self, reference: &str) -> Result<Option<Image>, RuntimeError>;

    /// Everything that the node has.
    async fn images(&self) -> Result<Vec<Image>, RuntimeError>;

    /// Numeric (uid, gid, additional groups) of a user as images and pods name it, from the image's `/etc/passwd` and `/etc/group`.
    async fn resolve_user(&self, image_id: &str, user: &str) -> Result<(u32, u32, Vec<u32>), RuntimeError>;

    /// Makes the pod's network namespace, or finds it again.
    async fn create_sandbox(&self, spec: &SandboxSpec) -> Result<Sandbox, RuntimeError>;

    /// Takes it away; its containers must be gone. Not an error if it is gone already.
    async fn remove_sandbox(&self, pod_uid: &str) -> Result<(), RuntimeError>;

    /// Mounts memory on a directory (made if it is missing); one that is mounted already stays as it is.
    async fn mount_memory(&self, path: &std::path::Path, size_bytes: u64) -> Result<(), RuntimeError>;

    /// Takes away everything that is mounted below a directory. Not an error if nothing is.
    async fn unmount_below(&self, dir: &std::path::Path) -> Result<(), RuntimeError>;

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

    /// Connects to a TCP port inside the pod's network namespace (probes, hooks, port-forward).
    async fn connect(&self, pod_uid: &str, port: u16) -> Result<tokio::net::TcpStream, RuntimeError>;

    /// Why [`ContainerSpec::resources`] have no effect here; None: they are enforced.
    fn unlimited(&self) -> Option<String> {
        None
    }
}
