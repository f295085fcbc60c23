//! The process that forks for each verb (`crate::host::zygote`), as all nodes of this process share it: started when it is first needed,
//! and again should it have ended.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use crate::host::zygote::{Carried, ask};

static ZYGOTE: Mutex<Option<Zygote>> = Mutex::new(None);

struct Zygote {
    process: Child,
    channel: OwnedFd,
}

/// Begins a verb. Answers where its exit code will come from; whoever drops that kills it. Blocks.
pub(super) fn begin(
    program: &Path,
    args: Vec<String>,
    stdio: &[OwnedFd; 3],
    carried: &[Carried],
) -> io::Result<UnixStream> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut slot = ZYGOTE.lock().unwrap_or_else(PoisonError::into_inner);
    let running = slot
        .take()
        .and_then(|mut zygote| matches!(zygote.process.try_wait(), Ok(None)).then_some(zygote));
    let zygote = match running {
        Some(zygote) => zygote,
        None => start(program)?,
    };
    // One that is about to end keeps its place until it has; the next one who asks finds that out.
    let zygote = slot.insert(zygote);
    ask(&zygote.channel, args, &theirs.into(), stdio, carried)?;
    Ok(ours)
}

/// The id of that process, if there is one: a part of what a cluster takes of memory.
pub fn zygote_process() -> Option<u32> {
    let slot = ZYGOTE.lock().unwrap_or_else(PoisonError::into_inner);
    slot.as_ref().map(|zygote| zygote.process.id())
}

fn start(program: &Path) -> io::Result<Zygote> {
    let (channel, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    let mut command = Command::new(program);
    command.env_clear();
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    let process = command
        .args(["oci", "zygote"])
        .stdin(theirs)
        .stdout(Stdio::null())
        .spawn()?;
    Ok(Zygote { process, channel })
}
