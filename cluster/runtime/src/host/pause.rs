//! The process that holds a pod's PID namespace, where its containers share one: number 1 in there. As a pod's "pause"
//! container it does nothing but wait for orphans, and sees nothing: it has an empty root directory and no capability.

use std::fs;
use std::io;
use std::path::Path;

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
use rustix::thread::{CapabilitySet, CapabilitySets};

/// Where the empty root directory is mounted before there is nothing else; this exists in every one of our mount trees.
const EMPTY_ROOT: &str = super::IO_DIR;

/// Starts it and writes its number down. It belongs to pid 1 as soon as the caller, which must have one thread, has ended.
#[allow(unsafe_code)] // fork
pub(super) fn start(pid_file: &Path) -> anyhow::Result<()> {
    unshare(CloneFlags::CLONE_NEWPID)?;
    // SAFETY: there is one thread, so the child finds every lock free.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(fs::write(pid_file, child.to_string())?),
        ForkResult::Child => {
            // Whoever made us hears of it: the namespace ends with its first process.
            let code = i32::from(hold().is_err());
            std::process::exit(code)
        }
    }
}

fn hold() -> io::Result<()> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT] {
        set.add(signal);
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&set), None)?;
    nix::unistd::setsid()?;
    nix::sys::prctl::set_name(c"pause")?;
    leave()?;
    loop {
        // All signals but SIGKILL are without effect: the pod's end is the node agent's to decide.
        set.wait()?;
        while !matches!(
            waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)),
            Ok(WaitStatus::StillAlive) | Err(_)
        ) {}
    }
}

/// Gives up all that the pod's containers could get at through `/proc/1`: files, directories, capabilities.
fn leave() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RDONLY;
    mount("tmpfs", EMPTY_ROOT, "tmpfs", flags, Some(c"size=4k"))?;
    rustix::process::chdir(EMPTY_ROOT)?;
    let open: Vec<i32> = fs::read_dir("/proc/self/fd")?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    // The old root comes to lie on the new one, and goes (pivot_root(2)).
    rustix::process::pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")?;
    for descriptor in open {
        // Nothing of this process uses any of them from here on. That of the listing itself is closed already.
        let _ = nix::unistd::close(descriptor);
    }
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, none)?;
    rustix::thread::set_no_new_privs(true)?;
    Ok(())
}
