//! Containers and the surroundings that a pod's share, as they are asked for and as they are.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use crate::cgroup::Resources;

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
#[derive(Clone, Debug)]
pub struct Mount {
    /// On the host, as the runtime sees it.
    pub source: PathBuf,
    /// The very file or folder that is mounted, whatever has taken its place at `source` since it was looked up. None: it is looked up
    /// by that path.
    pub found: Option<Arc<OwnedFd>>,
    /// In the container, absolute.
    pub target: PathBuf,
    /// No writes through it.
    pub read_only: bool,
}

/// What a container's process has for a standard input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Stdio {
    /// Keep it open, for [`crate::Runtime::attach`]; else it is empty.
    pub stdin: bool,
    /// Input and output are a terminal.
    pub tty: bool,
}

impl Stdio {
    /// Somebody has to keep something open for it.
    pub(crate) fn relayed(self) -> bool {
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
#[derive(Clone, Debug, Default)]
pub struct ContainerSpec {
    /// `metadata.uid` of the pod; its sandbox must exist.
    pub pod_uid: String,
    /// `namespace/name`, for messages.
    pub pod: String,
    /// Name of the container in the pod.
    pub name: String,
    /// How many times a container of this name was created before: the restart count that it will have.
    pub attempt: u32,
    /// [`crate::Image::id`].
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
    /// What it may use, where that can be enforced ([`crate::Runtime::unlimited`]).
    pub resources: Resources,
    /// Its standard input and terminal.
    pub stdio: Stdio,
    /// The id of a running container whose PID namespace it shares, where each of the pod's containers has its own.
    pub process_namespace_of: Option<String>,
    /// Where standard output and error go, in the CRI log format; made by the runtime, appended to.
    pub log_path: PathBuf,
    /// Kept with the container and given back by [`crate::Runtime::containers`], for the agent's own use (hash, …).
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
    /// See [`crate::Image::id`].
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

/// How the text begins that a command's caller reads in place of its output where the command could not be run.
pub const CANNOT_RUN: &str = "cannot run the command:";

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
