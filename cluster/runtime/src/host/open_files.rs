//! How many files this process and containers may have open.

use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What we were started with. `None` in either means no limit.
static BEFORE: OnceLock<Rlimit> = OnceLock::new();

/// Raises our own limit as far as it goes without asking anybody: a cluster has many connections and files. Not that of containers: programs
/// that use select(2), or close every descriptor there might be, rely on a low one.
pub(super) fn raise() {
    let before = *BEFORE.get_or_init(|| getrlimit(Resource::Nofile));
    let most = Rlimit {
        current: before.maximum,
        ..before
    };
    if let Err(error) = setrlimit(Resource::Nofile, most) {
        tracing::debug!(%error, "the limit of open files stays");
    }
}

/// The limits that containers have: soft and hard.
pub(crate) fn of_containers() -> (u64, u64) {
    let Rlimit { current, maximum } = BEFORE.get_or_init(|| getrlimit(Resource::Nofile));
    (current.unwrap_or(u64::MAX), maximum.unwrap_or(u64::MAX))
}
