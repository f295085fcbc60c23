//! Process layout: outer process, pid 1, inner process (design decision 14).
//!
//! `outer`, the process that the user started, stays in the host's namespaces and single-threaded; it opens the listening
//! sockets, makes `init` in new namespaces and brokers sockets. `init` is pid 1 of the new pid namespace: it mounts, reaps and
//! starts `inner` again if that dies by accident. `inner` is the tokio process; every container's first process becomes a
//! child of `init`.
//!
//! The pid namespace and the parent-death signal together make sure that `kill -9` of `outer` leaves nothing: each alone does
//! not. Nothing in here may ever change the host's mounts, devices or temporary directories, nor any cgroup but those that
//! it makes inside of its own and removes again.

pub(crate) mod broker;
mod cgroup;
mod early_mounts;
pub(crate) mod init;
pub(crate) mod inner;
pub(crate) mod mounts;
pub(crate) mod oci_command;
pub(crate) mod open_files;
mod outer;
mod pause;
mod private_dir;
mod resolve;
pub(crate) mod seccomp;
pub(crate) mod stdio;
pub(crate) mod zygote;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

pub use broker::Broker;
pub use inner::{Inherited, inherited};
pub use oci_command::oci_main;
pub use outer::run;
pub use private_dir::private_dir;

/// Everything private to one run lives here, on a tmpfs that is gone with the process.
pub(crate) const RUN_DIR: &str = "/run/afloat";
/// Where `init` leaves the exit status of every child that it reaps, named `<pid>-<start time in ticks>`.
pub(crate) const EXITS_DIR: &str = "/run/afloat/exits";
/// State directory of the OCI runtime.
pub(crate) const OCI_STATE_DIR: &str = "/run/afloat/oci";
/// Pipes of containers and requests of execs.
pub(crate) const IO_DIR: &str = "/run/afloat/io";
/// Configurations of containers, which nobody is to find on a disk.
pub(crate) const BUNDLES_DIR: &str = "/run/afloat/bundles";
/// Sources of mounts while a container is made.
pub(crate) const MOUNTS_DIR: &str = "/run/afloat/mounts";
/// Names this run of `init`: whatever was started under another name died with its pid namespace.
pub(crate) const BOOT_FILE: &str = "/run/afloat/boot";
/// Where cgroups of containers are made, as pid 1 tells it.
pub(crate) const CGROUPS_FILE: &str = "/run/afloat/cgroups";
/// Our own program, not to be written; missing where the kernel refused that.
pub(crate) const PROGRAM: &str = "/run/afloat/program";
/// Leads to the mounts that were there before the first pod; missing where they could not be kept.
pub(crate) const EARLY_MOUNTS: &str = "/run/afloat/early-mounts";
/// How `init` tells `inner` what it inherits.
const INHERITED_VARIABLE: &str = "AFLOAT_INHERITED";

/// What the outer process is to do.
#[derive(Clone, Debug, Default)]
pub struct HostOptions {
    /// TCP addresses of the host to listen on.
    pub listen: Vec<SocketAddr>,
    /// Where state is kept; made if missing. None: a private tmpfs, gone with the process.
    pub data_dir: Option<PathBuf>,
    /// Arguments of the inner process, which runs the same program.
    pub inner_args: Vec<OsString>,
    /// Variables set for the inner process, in addition to the inherited ones.
    pub environment: Vec<(OsString, OsString)>,
}

/// Why the process layout could not be made.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// Somebody else listens there.
    #[error("address {0} is in use: choose another port, or stop the program that listens there")]
    AddressInUse(SocketAddr),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address as given.
        address: SocketAddr,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The data directory cannot be made or used.
    #[error("data directory {path}: {source}")]
    DataDir {
        /// The directory as given.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The machine lacks a feature; the text names it and what to do.
    #[error("{0}")]
    Unsupported(String),
    /// A system call failed that should not.
    #[error("{what}: {source}")]
    System {
        /// What was being done.
        what: &'static str,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// [`inherited`] was called outside of the inner process, or twice.
    #[error("this must run once, inside of the process that `run` starts ({0})")]
    NotInside(&'static str),
}

impl HostError {
    fn system(what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::System { what, source }
    }
}

fn pipe() -> Result<(OwnedFd, OwnedFd), HostError> {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|e| HostError::system("making a pipe")(e.into()))
}
