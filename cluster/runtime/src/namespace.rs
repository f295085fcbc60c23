//! Namespaces that outlive the thread that made them: pinned by a bind mount, as `ip netns` does it.

use std::fs;
use std::io;
use std::path::Path;

use rustix::mount::{UnmountFlags, mount_bind, unmount};
use rustix::thread::UnshareFlags;

use crate::removal::removed;

/// What kind of namespace: those that one thread may have for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// System V IPC and POSIX message queues.
    Ipc,
    /// Devices, addresses, ports.
    Network,
}

impl Kind {
    /// Its name in `/proc/PID/ns`.
    fn file(self) -> &'static str {
        match self {
            Self::Ipc => "ipc",
            Self::Network => "net",
        }
    }

    fn flag(self) -> UnshareFlags {
        match self {
            Self::Ipc => UnshareFlags::NEWIPC,
            Self::Network => UnshareFlags::NEWNET,
        }
    }
}

/// Makes a namespace, pins it at `path` and does something inside. Blocks. `false`: it was there already.
pub(crate) fn pin(
    kind: Kind,
    path: &Path,
    inside: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> io::Result<bool> {
    if is_pinned(path) {
        return Ok(false);
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::File::create(path)?;
    let target = path.to_owned();
    in_thread(move || {
        unshare(kind)?;
        let thread = rustix::thread::gettid().as_raw_nonzero();
        mount_bind(format!("/proc/self/task/{thread}/ns/{}", kind.file()), &target)?;
        inside()
    })?;
    Ok(true)
}

/// Lets a namespace go; not an error where it is gone. Blocks.
pub(crate) fn unpin(path: &Path) -> io::Result<()> {
    if is_pinned(path) {
        unmount(path, UnmountFlags::DETACH)?;
    }
    removed(fs::remove_file(path))
}

/// A pinned namespace, not just the file that it is to be pinned at.
pub(crate) fn is_pinned(path: &Path) -> bool {
    /// NSFS_MAGIC, statfs(2).
    const NSFS: u64 = 0x6e73_6673;
    rustix::fs::statfs(path).is_ok_and(|found| u64::try_from(found.f_type).is_ok_and(|kind| kind == NSFS))
}

/// A thread that changed its namespace must end with its work.
pub(crate) fn in_thread<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    let thread = std::thread::Builder::new().name("namespace".into()).spawn(work)?;
    thread.join().map_err(|_| io::Error::other("the thread panicked"))?
}

#[allow(unsafe_code)] // unsafe only for shared descriptor tables
fn unshare(kind: Kind) -> io::Result<()> {
    // SAFETY: the table of file descriptors stays shared.
    unsafe { rustix::thread::unshare_unsafe(kind.flag()) }.map_err(Into::into)
}
