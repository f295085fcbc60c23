//! The mounts as they were before the first pod, in a mount namespace that pid 1 holds open.
//!
//! Each pod mounts half a dozen things where inner lives. A container's own namespace begins as a copy of that of whoever makes it, and
//! libcontainer reads the table of mounts a dozen times for one container: with hundreds of pods that took most of the time. What makes
//! containers (`super::zygote`) lives here instead, and is handed what it needs of the pods' mounts.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::MetadataExt as _;

use nix::sched::{CloneFlags, setns, unshare};
use rustix::fs::{CWD, Mode, OFlags, openat};

use super::EARLY_MOUNTS;

/// In pid 1, when its own mounts are there: keeps a copy of them. The namespace lives as long as what is answered. None: this process
/// has not the root directory of its namespace, which whoever joins the copy would have.
///
/// # Errors
/// The kernel refuses a step; the caller's namespace may be another then.
pub(super) fn keep() -> io::Result<Option<File>> {
    let place = |path| openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    let (root, here) = (place("/")?, place(".")?);
    let own = File::open("/proc/self/ns/mnt")?;
    unshare(CloneFlags::CLONE_NEWNS)?;
    let copy = File::open("/proc/self/ns/mnt")?;
    setns(own.as_fd(), CloneFlags::CLONE_NEWNS)?;
    // Coming back has led to the namespace's root directory.
    let first = fs::metadata("/")?;
    rustix::process::fchdir(&root)?;
    rustix::process::chroot(".")?;
    rustix::process::fchdir(&here)?;
    let own = fs::metadata("/")?;
    if (first.dev(), first.ino()) != (own.dev(), own.ino()) {
        return Ok(None);
    }
    std::os::unix::fs::symlink(format!("/proc/1/fd/{}", copy.as_raw_fd()), EARLY_MOUNTS)?;
    Ok(Some(copy))
}

/// Moves a process of one thread there; it stays where it is if there is no copy.
///
/// # Errors
/// The kernel refuses it.
pub(super) fn enter() -> io::Result<()> {
    match File::open(EARLY_MOUNTS) {
        Ok(copy) => Ok(setns(copy.as_fd(), CloneFlags::CLONE_NEWNS)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}
