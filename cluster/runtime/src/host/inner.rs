//! `inner`: what the inner process finds when it starts.

use std::net::TcpListener;
use std::os::fd::{AsFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use super::init::Handover;
use super::{Broker, CGROUPS_FILE, HostError, INHERITED_VARIABLE};
use crate::cgroup::Cgroups;

/// Descriptors may be taken over once only.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// What the inner process has from outside.
#[derive(Debug)]
pub struct Inherited {
    /// In the order of [`super::HostOptions::listen`].
    pub listeners: Vec<TcpListener>,
    /// Where state is kept.
    pub data_dir: PathBuf,
    /// The inside is a user namespace: only mapped users exist.
    pub rootless: bool,
    /// How often this process was started again after an accident.
    pub restarts: u32,
    /// Whether limits of containers are enforced.
    pub cgroups: Cgroups,
    /// Sockets of the host.
    pub broker: Broker,
}

/// Takes over what the outer process left; in the inner process, once, before any thread is made.
///
/// # Errors
/// [`HostError::NotInside`] elsewhere or the second time.
pub fn inherited() -> Result<Inherited, HostError> {
    let text = std::env::var(INHERITED_VARIABLE).map_err(|_| HostError::NotInside("no inherited descriptors"))?;
    let handover: Handover = serde_json::from_str(&text).map_err(|_| HostError::NotInside("unreadable environment"))?;
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Err(HostError::NotInside("inherited descriptors were taken before"));
    }
    super::open_files::raise();
    let listeners = handover
        .listeners
        .iter()
        .map(|fd| take(*fd).map(TcpListener::from))
        .collect::<Result<_, _>>()?;
    Ok(Inherited {
        listeners,
        data_dir: handover.data_dir,
        rootless: handover.rootless,
        restarts: handover.restarts,
        cgroups: cgroups(),
        broker: Broker::new(take(handover.channel)?),
    })
}

/// What pid 1 left about cgroups.
pub(crate) fn cgroups() -> Cgroups {
    std::fs::read(CGROUPS_FILE)
        .map_err(|e| e.to_string())
        .and_then(|bytes| serde_json::from_slice(&bytes).map_err(|e| e.to_string()))
        .map(Cgroups::checked)
        .unwrap_or_else(|e| Cgroups::Unavailable {
            reason: format!("reading {CGROUPS_FILE}: {e}"),
        })
}

/// Containers must not inherit it further.
#[allow(unsafe_code)] // descriptors named by pid 1, taken once
fn take(fd: RawFd) -> Result<OwnedFd, HostError> {
    // SAFETY: pid 1 left the descriptor open for us under this number, and `TAKEN` lets it be taken once.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    rustix::io::fcntl_setfd(fd.as_fd(), rustix::io::FdFlags::CLOEXEC)
        .map_err(|e| HostError::system("taking over an inherited descriptor")(e.into()))?;
    Ok(fd)
}
