//! What the node agent needs from something that runs containers.
//!
//! The agent decides, a runtime obeys: it keeps no policy (no restarts, no back-off, no probes). Two implement it:
//! [`oci`] containers on this machine, and a simulated one (in the agent's crate) for tests and scale benchmarks.

mod cgroup;
pub mod heap;
pub mod host;
pub mod image;
mod namespace;
pub mod net;
pub mod oci;
pub mod process;
pub mod program;
pub mod registry;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use registry::{Keyring, PullError, Pulled};

pub use cgroup::{CPU_PERIOD_US, Cgroups, Resources};

/// An image that the node has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Digest of the image's configuration, `sha256:…`; what `imageID` in a container status is made of.
    pub id: String,
    /// Every full name that points to it, for example `docker.io/library/web:v1`, sorted.
    pub names: Vec<String>,
    /// Those of `names` that came from a registry; the others were made or loaded here.
    pub registry_names: Vec<String>,
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

/// Which processes a pod's containers see besides their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum ProcessNamespace {
    /// None: the first process of each container is number 1 to it.
    #[default]
    Container,
    /// Those of the pod's other containers; number 1 is a process that only holds the namespace (`shareProcessNamespace`).
    Pod,
    /// All of the node (`hostPID`). The nodes of an embedded cluster share one such namespace.
    Node,
}

/// A pod's shared surroundings: its network and IPC namespaces, its shared memory and its host name.
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
    /// Share the node's IPC namespace and `/dev/shm` instead of having own ones for the pod.
    pub host_ipc: bool,
    /// Which processes its containers see.
    pub processes: ProcessNamespace,
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

/// What a container's process has for a standard input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Stdio {
    /// Keep it open, for [`Runtime::attach`]; else it is empty.
    pub stdin: bool,
    /// Input and output are a terminal.
    pub tty: bool,
}

impl Stdio {
    /// Somebody has to keep something open for it.
    fn relayed(self) -> bool {
        self.stdin || self.tty
    }
}

/// A seccomp profile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Seccomp {
    /// None.
    #[default]
    Unconfined,
    /// The runtime's own.
    RuntimeDefault,
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
    /// Which system calls are kept from it.
    pub seccomp: Seccomp,
    /// Kernel parameters of its namespaces, `net.ipv4.tcp_syncookies` → `1`.
    pub sysctls: BTreeMap<String, String>,
    /// What it may use, where that can be enforced ([`Runtime::unlimited`]).
    pub resources: Resources,
    /// Its standard input and terminal.
    pub stdio: Stdio,
    /// The id of a running container whose PID namespace it shares, where each of the pod's containers has its own.
    pub process_namespace_of: Option<String>,
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

/// What a container has used and uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Nanoseconds of CPU time since its start.
    pub cpu_ns: u64,
    /// Bytes of memory, its working set.
    pub memory_bytes: u64,
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

/// What there is to say of an image that is not here and cannot be pulled.
fn not_here(reference: &str) -> String {
    let name = image::normalise(reference).unwrap_or_else(|_| reference.to_owned());
    format!("{name}: not in this node's image store; add it with `afloat image build` or `afloat image load`")
}

/// How a removal ended: what is gone already need not be removed.
fn removed(result: std::io::Result<()>) -> std::io::Result<()> {
    match result {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
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
    async fn pull(&self, reference: &str, _keyring: &Keyring) -> Result<Pulled, PullError> {
        Err(PullError::Refused(not_here(reference)))
    }

    /// Numeric (uid, gid, additional groups) of a user as images and pods name it, from the image's `/etc/passwd` and `/etc/group`.
    async fn resolve_user(&self, image_id: &str, user: &str) -> Result<(u32, u32, Vec<u32>), RuntimeError>;

    /// Makes the namespaces that the pod's containers share, or finds them again.
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

    /// Why [`ContainerSpec::resources`] have no effect here; None: they are enforced.
    fn unlimited(&self) -> Option<String> {
        None
    }
}
