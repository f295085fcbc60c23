//! What a pod's containers share beside its network, as far as it can be seen: the pinned IPC namespace, and the process that
//! holds the PID namespace.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::host::init::start_time;
use crate::namespace::is_pinned;
use crate::process::kill;

/// A process, named for ever: by its number and when it was started (ticks since the machine's start).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holder {
    pub(super) pid: i32,
    pub(super) start_time: u64,
}

impl Holder {
    pub(crate) fn lives(self) -> bool {
        start_time(self.pid) == Some(self.start_time)
    }

    /// Ends it and with it every process of its namespace.
    pub(super) fn kill(self) {
        kill(self.pid, || self.lives());
    }
}

pub(super) fn ipc_path(pod_uid: &str) -> PathBuf {
    Path::new("/run/ipcns").join(pod_uid)
}

/// Something of what a pod's containers share still exists.
pub(super) fn is_shared(pod_uid: &str, holder: Option<Holder>) -> bool {
    is_pinned(&ipc_path(pod_uid)) || holder.is_some_and(Holder::lives)
}
