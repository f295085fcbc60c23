//! What the node agent needs from something that runs containers.
//!
//! The agent decides, a runtime obeys: it keeps no policy (no restarts, no back-off, no probes). Two implement it:
//! [`oci`] containers on this machine, and a simulated one (in the agent's crate) for tests and scale benchmarks.

pub mod below;
mod cgroup;
mod container;
pub mod heap;
pub mod host;
pub mod image;
mod namespace;
pub mod net;
pub mod oci;
pub mod process;
pub mod program;
pub mod registry;
pub mod removal;
mod runtime;

pub use cgroup::{CPU_PERIOD_US, Cgroups, Resources};
pub use container::{
    CANNOT_RUN, Container, ContainerSpec, ContainerState, ExecSession, ExecSpec, Exit, Mount, ProcessNamespace,
    Sandbox, SandboxSpec, Seccomp, Stdio, Usage,
};
pub use image::{Image, ImageConfig};
pub use runtime::{Runtime, RuntimeError};
