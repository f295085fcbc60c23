//! Notices when a container's first process ends, and how.

use std::fs;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::FutureExt;
use jiff::Timestamp;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::containers::Entry;
use super::record::{ExitRecord, Record, Seen, UNKNOWN_EXIT};
use super::shared::Shared;
use super::streams::listeners::Listeners;
use super::streams::log;
use super::work::blocking;
use crate::host::EXITS_DIR;
use crate::host::init::{ChildExit, exit_file, parse_stat};
use crate::process::kill_members;

/// How long pid 1 may take to write down an exit, and how often we look.
const EXIT_LIMIT: Duration = Duration::from_secs(3);
const EXIT_STEP: Duration = Duration::from_millis(1);

/// How long what a container has said may take to its log. What holds its output open beyond its end is not waited for.
const OUTPUT_LIMIT: Duration = Duration::from_millis(500);

/// How long an exit that nobody asked for is kept, and how often we look.
const EXIT_KEPT: Duration = Duration::from_secs(300);
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// What can be seen of a recorded process now.
pub(super) fn look(record: &Record) -> Seen {
    let (Some(pid), Some(started)) = (record.pid, record.start_time) else {
        return Seen::Gone;
    };
    if let Some(exit) = read_exit(pid, started) {
        return Seen::Ended(exit.code, exit.signal);
    }
    match fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|stat| parse_stat(&stat))
    {
        // A zombie is about to be written down: whoever watches it will see that at once.
        Some((_, start)) if start == started => Seen::Alive,
        _ => read_exit(pid, started).map_or(Seen::Gone, |exit| Seen::Ended(exit.code, exit.signal)),
    }
}

fn read_exit(pid: i32, started: u64) -> Option<ChildExit> {
    serde_json::from_slice(&fs::read(exit_file(pid, started)).ok()?).ok()
}

/// Removes exits that nobody asked for, until the runtime is gone: of processes between the OCI runtime and a container
/// that could not be made, of commands whose caller went away.
pub(super) async fn sweep_exits(shared: Weak<Shared>) {
    let mut ticks = tokio::time::interval(SWEEP_EVERY);
    // The first tick comes at once, when other nodes of this process may still look for theirs.
    ticks.tick().await;
    loop {
        ticks.tick().await;
        if shared.strong_count() == 0 {
            return;
        }
        let swept = blocking(|| {
            for entry in fs::read_dir(EXITS_DIR).into_iter().flatten().flatten() {
                let written = entry.metadata().and_then(|metadata| metadata.modified());
                if written.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > EXIT_KEPT)) {
                    let _ = fs::remove_file(entry.path());
                }
            }
            Ok(())
        });
        if let Err(error) = swept.await {
            tracing::warn!(%error, "exits are not swept");
        }
    }
}

impl Shared {
    /// Starts to watch a container that was recorded.
    pub(super) fn adopt(self: &Arc<Self>, record: Record) {
        let id = record.id.clone();
        let running = record.exit.is_none();
        // Somebody may have attached before: what was said since is not for the next one.
        let listeners = Arc::new(Listeners::new(false));
        if running {
            match Self::pipes(&id).readers() {
                Ok(readers) => {
                    let following = log::follow(readers, record.log_path.clone(), Arc::clone(&listeners));
                    drop(tokio::spawn(following.boxed()));
                }
                Err(error) => tracing::warn!(container = id, %error, "output cannot be followed"),
            }
        }
        self.insert(record, listeners);
    }

    /// Makes a container known and watches its process. In this order: the watcher looks for the entry.
    pub(super) fn insert(self: &Arc<Self>, record: Record, listeners: Arc<Listeners>) {
        let (id, running) = (record.id.clone(), record.exit.is_none());
        let entry = Entry {
            record: record.clone(),
            process: None,
            listeners,
        };
        self.containers().insert(id.clone(), entry);
        let process = if running { self.watch(&record) } else { None };
        if let Some(entry) = self.containers().get_mut(&id)
            && entry.record.exit.is_none()
        {
            entry.process = process;
        }
    }

    /// Watches the process of a container from now on. None: it is gone, which is then recorded as soon as may be.
    fn watch(self: &Arc<Self>, record: &Record) -> Option<Arc<OwnedFd>> {
        let (id, pid, started) = (record.id.clone(), record.pid?, record.start_time?);
        let process = Pid::from_raw(pid)
            .and_then(|pid| pidfd_open(pid, PidfdFlags::NONBLOCK).ok())
            .map(Arc::new);
        let shared = Arc::clone(self);
        let watched = process.clone();
        tokio::spawn(FutureExt::boxed(async move {
            // The number may belong to somebody else by now: then our process has ended.
            let ours = crate::host::init::start_time(pid) == Some(started);
            if let Some(process) = watched.filter(|_| ours)
                && let Ok(descriptor) = register(process)
            {
                let _ = descriptor.readable().await;
            }
            let exit = wait_for_exit(pid, started).await;
            shared.ended(&id, exit, exit_file(pid, started)).await;
        }));
        process
    }

    async fn ended(self: &Arc<Self>, id: &str, exit: ChildExit, file: std::path::PathBuf) {
        let finished_at = Timestamp::now();
        let (shared, name) = (Arc::clone(self), id.to_owned());
        let oom_killed = blocking(move || {
            if let Some(namespace) = shared.record(&name)?.mount_namespace {
                kill_members(&namespace);
            }
            Ok(shared.cgroups.oom_killed(&name))
        })
        .await
        .unwrap_or(false);
        // What it has said is in its log before anybody hears of its end: that may be asked for why.
        let listeners = self.containers().get(id).map(|entry| Arc::clone(&entry.listeners));
        if let Some(listeners) = listeners {
            let _ = tokio::time::timeout(OUTPUT_LIMIT, listeners.ended()).await;
        }
        if let Some(entry) = self.containers().get_mut(id) {
            entry.record.exit = Some(ExitRecord {
                code: exit.code,
                signal: exit.signal,
                finished_at,
                oom_killed,
            });
            entry.process = None;
        }
        match self.persist(id).await {
            // Only now nobody will ask for it again; on a tmpfs, this does not wait for a disk.
            Ok(()) => drop(fs::remove_file(file)),
            Err(error) => tracing::warn!(container = id, %error, "the end of a container is not on disk"),
        }
        // After that: whoever hears of it may remove the container's directory.
        let _ = self.exits.send(id.to_owned());
    }
}

#[allow(unsafe_code)] // the descriptor must stay the same while it is registered
pub(super) fn register(process: Arc<OwnedFd>) -> std::io::Result<AsyncFd<Arc<OwnedFd>>> {
    // SAFETY: an `OwnedFd` is one descriptor for its whole life, and nobody can replace it behind a shared pointer.
    unsafe { AsyncFd::register_with_interest(process, Interest::READABLE) }.map_err(Into::into)
}

async fn wait_for_exit(pid: i32, started: u64) -> ChildExit {
    let end = tokio::time::Instant::now() + EXIT_LIMIT;
    let mut step = EXIT_STEP;
    loop {
        if let Some(exit) = read_exit(pid, started) {
            return exit;
        }
        if tokio::time::Instant::now() >= end {
            return ChildExit {
                code: UNKNOWN_EXIT,
                signal: 0,
            };
        }
        tokio::time::sleep(step).await;
        step = (step * 2).min(Duration::from_millis(50));
    }
}
