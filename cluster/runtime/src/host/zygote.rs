//! `afloat oci zygote`: a process that is started once and forks for each verb of the OCI runtime.
//!
//! libcontainer forks and then does what is only safe without threads, so it cannot run in inner; and starting a program of this size
//! again costs more than most verbs. This process has one thread and its libraries loaded, and it sees few mounts
//! (`super::early_mounts`): what a verb needs of others comes with the request. It is no way around a boundary, as only inner has the other
//! end of its socket; it runs from the view of the program that cannot be written, as its children enter containers. It ends with inner:
//! the socket has no other end then.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::path::PathBuf;

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use rustix::process::{PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

/// Most bytes of a request, and most mounts of one.
const REQUEST_BYTES: usize = 64 * 1024;
const MOUNTS_MAX: usize = 16;
/// Descriptors that come before those of mounts: where to answer, standard input, output and error.
const FIRST: usize = 4;

/// One verb.
#[derive(Serialize, Deserialize)]
struct Request {
    /// As of `afloat oci`.
    args: Vec<String>,
    /// Where the mounts go that come with it.
    places: Vec<PathBuf>,
}

/// A mount that is to be at a place, taken from a namespace where it is there.
pub(crate) struct Carried {
    place: PathBuf,
    tree: OwnedFd,
}

impl Carried {
    /// A copy of what is mounted there, with all below it.
    ///
    /// # Errors
    /// Nothing is there.
    pub(crate) fn from(place: PathBuf) -> io::Result<Self> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
        let tree = open_tree(CWD, &place, flags)?;
        Ok(Self { place, tree })
    }
}

/// Asks for a verb. `answer`: gets the exit code, four bytes, little end first; when its other end is closed, the verb is killed. Blocks.
///
/// # Errors
/// The zygote is gone, or the request too long.
pub(crate) fn ask(
    channel: &OwnedFd,
    args: Vec<String>,
    answer: &OwnedFd,
    stdio: &[OwnedFd; 3],
    carried: &[Carried],
) -> io::Result<()> {
    let request = Request {
        args,
        places: carried.iter().map(|one| one.place.clone()).collect(),
    };
    let bytes = serde_json::to_vec(&request)?;
    if bytes.len() > REQUEST_BYTES || carried.len() > MOUNTS_MAX {
        return Err(io::ErrorKind::ArgumentListTooLong.into());
    }
    let trees = carried.iter().map(|one| &one.tree);
    let fds = std::iter::once(answer).chain(stdio).chain(trees);
    let fds: Vec<RawFd> = fds.map(std::os::fd::AsRawFd::as_raw_fd).collect();
    let control = [ControlMessage::ScmRights(&fds)];
    let parts = [IoSlice::new(&bytes)];
    sendmsg::<UnixAddr>(channel.as_raw_fd(), &parts, &control, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// A verb that runs.
struct Step {
    pid: Pid,
    process: OwnedFd,
    /// None: nobody waits for it any more, and it was killed.
    answer: Option<File>,
}

impl Step {
    fn of(pid: Pid, answer: OwnedFd) -> io::Result<Self> {
        let process = rustix::process::Pid::from_raw(pid.as_raw()).ok_or(io::ErrorKind::NotFound)?;
        Ok(Self {
            pid,
            process: pidfd_open(process, PidfdFlags::empty())?,
            answer: Some(answer.into()),
        })
    }

    /// What is to be heard of: its end, and that nobody waits for it.
    fn events(&self) -> [PollFd<'_>; 2] {
        let ends = PollFd::new(&self.process, PollFlags::IN);
        let left = self
            .answer
            .as_ref()
            .map(|answer| PollFd::new(answer, PollFlags::empty()));
        [ends.clone(), left.unwrap_or(ends)]
    }

    /// Acts on what was heard. `false`: it has ended, which was told.
    fn goes_on(&mut self, ended: bool, left: bool) -> bool {
        if ended {
            self.finish();
        } else if left {
            self.answer = None;
            // It cannot be somebody else: it is still to be waited for.
            let _ = kill(self.pid, Signal::SIGKILL);
        }
        !ended
    }

    fn finish(&mut self) {
        let code = match waitpid(self.pid, None) {
            Ok(WaitStatus::Exited(_, code)) => code,
            Ok(WaitStatus::Signaled(_, signal, _)) => 128 + signal as i32,
            _ => 1,
        };
        if let Some(mut answer) = self.answer.take() {
            // Who asked may have gone away this moment.
            let _ = answer.write_all(&code.to_le_bytes());
        }
    }
}

/// What a child does before its verb.
pub(super) type Settle = Box<dyn FnOnce() -> anyhow::Result<()>>;

/// The whole life of the process; its standard input is its end of the socket. `verb`: what a child does, with the arguments of
/// `afloat oci`; answers its exit code.
///
/// # Errors
/// It cannot begin, or the kernel refuses it what it needs to go on.
pub(super) fn serve(verb: impl Fn(&[OsString], Settle) -> i32) -> anyhow::Result<i32> {
    let channel = take_stdin()?;
    nix::sys::prctl::set_name(c"zygote")?;
    super::early_mounts::enter()?;
    // Of the program it uses little: not the neighbours of that, and not what only the start needed.
    let _singly = crate::program::map_singly();
    let _ = crate::program::release_pages();
    let mut steps: Vec<Step> = Vec::new();
    loop {
        let mut events = vec![PollFd::new(&channel, PollFlags::IN)];
        events.extend(steps.iter().flat_map(Step::events));
        match poll(&mut events, None) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other?,
        };
        let heard: Vec<bool> = events.iter().map(|event| !event.revents().is_empty()).collect();
        drop(events);
        let mut of_steps = heard.iter().skip(1).copied();
        steps.retain_mut(|step| {
            let (ended, left) = (of_steps.next(), of_steps.next());
            step.goes_on(ended == Some(true), left == Some(true))
        });
        if heard.first() == Some(&true) {
            let Some((request, answer, own)) = receive(&channel)? else {
                return Ok(0);
            };
            match fork()? {
                ForkResult::Parent { child } => steps.push(Step::of(child, answer)?),
                ForkResult::Child => {
                    drop((channel, steps, answer));
                    let Request { args, places } = request;
                    let args: Vec<OsString> = args.into_iter().map(OsString::from).collect();
                    std::process::exit(verb(&args, Box::new(move || settle(&places, own))));
                }
            }
        }
    }
}

#[allow(unsafe_code)] // fork
fn fork() -> nix::Result<ForkResult> {
    // SAFETY: this process has one thread, so the child finds every lock free.
    unsafe { nix::unistd::fork() }
}

/// Its end of the socket, and nothing in its place.
fn take_stdin() -> io::Result<OwnedFd> {
    let channel = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let nothing = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&nothing)?;
    Ok(channel)
}

/// What a child makes its own before it begins: its streams, and the mounts in a namespace of its own.
fn settle(places: &[PathBuf], own: Vec<OwnedFd>) -> anyhow::Result<()> {
    let mut own = own.into_iter();
    let (Some(stdin), Some(stdout), Some(stderr)) = (own.next(), own.next(), own.next()) else {
        anyhow::bail!("the request has no streams");
    };
    rustix::stdio::dup2_stdin(stdin)?;
    rustix::stdio::dup2_stdout(stdout)?;
    rustix::stdio::dup2_stderr(stderr)?;
    if places.is_empty() {
        return Ok(());
    }
    unshare(CloneFlags::CLONE_NEWNS)?;
    for (place, tree) in places.iter().zip(own) {
        move_mount(tree, "", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .map_err(|error| anyhow::anyhow!("mounting {}: {}", place.display(), io::Error::from(error)))?;
    }
    Ok(())
}

/// The next request, where its answer goes, and the descriptors that it brings. None: there will be no more.
#[allow(unsafe_code)] // descriptors out of a control message are ours alone: the kernel has just made them
fn receive(channel: &OwnedFd) -> io::Result<Option<(Request, OwnedFd, Vec<OwnedFd>)>> {
    let mut bytes = vec![0; REQUEST_BYTES];
    let mut control = nix::cmsg_space!([RawFd; FIRST + MOUNTS_MAX]);
    let mut fds = Vec::new();
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let message = recvmsg::<UnixAddr>(
        channel.as_raw_fd(),
        &mut parts,
        Some(&mut control),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )?;
    for item in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(received) = item {
            // SAFETY: see above; each descriptor is taken once.
            fds.extend(received.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    let length = message.bytes;
    if length == 0 || fds.is_empty() {
        return Ok(None);
    }
    let request = serde_json::from_slice(bytes.get(..length).unwrap_or_default())?;
    let answer = fds.remove(0);
    Ok(Some((request, answer, fds)))
}
