//! Names of hosts, as the host resolves them (`/etc/hosts`, its own caches, whatever `nsswitch.conf` says).
//!
//! The inside cannot: it has another network. The outer process may not wait, so it forks a child for each question, which
//! asks the C library, writes the answer into a pipe and ends. The child dies with the outer process.

use std::fs::File;
use std::io::{self, Write as _};
use std::net::ToSocketAddrs as _;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

/// Longest name of a host (RFC 1035).
pub(super) const NAME_BYTES_MAX: usize = 253;
/// So many questions at once; more are refused and may be asked again.
const QUESTIONS_MAX: usize = 16;
/// A child that takes longer has failed.
const LIMIT_S: u32 = 25;

/// The children that are asking.
#[derive(Debug, Default)]
pub(super) struct Resolvers {
    children: Vec<Pid>,
}

impl Resolvers {
    /// Begins to ask; answers where the addresses will come. In the outer process, which has one thread.
    #[allow(unsafe_code)] // fork(2)
    pub(super) fn start(&mut self, name: &str) -> io::Result<OwnedFd> {
        self.reap();
        if self.children.len() >= QUESTIONS_MAX {
            return Err(Errno::EAGAIN.into());
        }
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        // SAFETY: there is one thread only (checked in `run`), so the child may do what the parent may.
        match unsafe { fork() }? {
            ForkResult::Parent { child } => {
                self.children.push(child);
                Ok(read)
            }
            ForkResult::Child => answer(name, write),
        }
    }

    /// Takes note of children that have ended.
    pub(super) fn reap(&mut self) {
        self.children
            .retain(|child| matches!(waitpid(*child, Some(WaitPidFlag::WNOHANG)), Ok(WaitStatus::StillAlive)));
    }
}

/// The child's whole life.
fn answer(name: &str, pipe: OwnedFd) -> ! {
    let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL);
    close_others(pipe.as_raw_fd());
    nix::unistd::alarm::set(LIMIT_S);
    let text = match (name, 0).to_socket_addrs() {
        Ok(addresses) => addresses.map(|address| format!("{}\n", address.ip())).collect(),
        Err(error) => format!("error {error}"),
    };
    let _ = File::from(pipe).write_all(text.as_bytes());
    // Not `exit`: what the parent has buffered or registered is the parent's.
    exit_now()
}

/// The parent's descriptors must not live on in here: others wait for them to be closed.
#[allow(unsafe_code)] // closing what this process was born with
fn close_others(keep: RawFd) {
    let listed = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let numbers: Vec<RawFd> = listed
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    for number in numbers.into_iter().filter(|number| *number > 2 && *number != keep) {
        // SAFETY: nothing in this process uses the descriptor after this: it only resolves a name and ends.
        unsafe { nix::libc::close(number) };
    }
}

#[allow(unsafe_code)] // _exit(2)
fn exit_now() -> ! {
    // SAFETY: it ends the process.
    unsafe { nix::libc::_exit(0) }
}
