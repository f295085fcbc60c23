//! What is remembered of a container, in `containers/<id>/container.json`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::container::{Container, ContainerSpec, ContainerState, Exit, ProcessNamespace, Stdio};

/// Exit code where nobody could say it, as container runtimes use it.
pub(super) const UNKNOWN_EXIT: i32 = 255;
const SIGKILL: i32 = 9;

/// A container as it is written down. `pid` and `start_time` name its process for ever, `boot` the run of pid 1 that it
/// belongs to: in another run the process cannot exist.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) id: String,
    pub(super) pod_uid: String,
    pub(super) pod: String,
    pub(super) name: String,
    pub(super) attempt: u32,
    pub(super) image_id: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) log_path: PathBuf,
    #[serde(default)]
    pub(super) stdio: Stdio,
    /// Its PID namespace is not its own: what is left of it does not end with its first process by itself.
    #[serde(default)]
    pub(super) shares_processes: bool,
    /// Of such a container alone: its mount namespace, whose processes are to be killed when the first one has ended
    /// ([`crate::process::mount_namespace`]).
    #[serde(default)]
    pub(super) mount_namespace: Option<String>,
    pub(super) boot: String,
    pub(super) created_at: Timestamp,
    #[serde(default)]
    pub(super) started_at: Option<Timestamp>,
    #[serde(default)]
    pub(super) pid: Option<i32>,
    #[serde(default)]
    pub(super) start_time: Option<u64>,
    #[serde(default)]
    pub(super) exit: Option<ExitRecord>,
}

/// [`Exit`] on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ExitRecord {
    pub(super) code: i32,
    pub(super) signal: i32,
    pub(super) finished_at: Timestamp,
    #[serde(default)]
    pub(super) oom_killed: bool,
}

/// What is seen of a process after a restart of the inner process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// It lives.
    Alive,
    /// Pid 1 wrote down how it ended: (code, signal).
    Ended(i32, i32),
    /// It is gone and nobody knows how it ended.
    Gone,
}

impl Record {
    pub(super) fn new(
        id: String,
        spec: &ContainerSpec,
        processes: ProcessNamespace,
        boot: String,
        now: Timestamp,
    ) -> Self {
        Self {
            id,
            pod_uid: spec.pod_uid.clone(),
            pod: spec.pod.clone(),
            name: spec.name.clone(),
            attempt: spec.attempt,
            image_id: spec.image_id.clone(),
            labels: spec.labels.clone(),
            log_path: spec.log_path.clone(),
            stdio: spec.stdio,
            shares_processes: processes != ProcessNamespace::Container || spec.process_namespace_of.is_some(),
            mount_namespace: None,
            boot,
            created_at: now,
            started_at: None,
            pid: None,
            start_time: None,
            exit: None,
        }
    }

    pub(super) fn state(&self) -> ContainerState {
        match (&self.exit, self.started_at) {
            (Some(exit), _) => ContainerState::Exited(Exit {
                code: if exit.signal == 0 { exit.code } else { 128 + exit.signal },
                signal: exit.signal,
                finished_at: exit.finished_at,
                oom_killed: exit.oom_killed,
            }),
            (None, Some(_)) => ContainerState::Running,
            (None, None) => ContainerState::Created,
        }
    }

    pub(super) fn container(&self) -> Container {
        Container {
            id: self.id.clone(),
            pod_uid: self.pod_uid.clone(),
            name: self.name.clone(),
            attempt: self.attempt,
            image_id: self.image_id.clone(),
            state: self.state(),
            created_at: self.created_at,
            started_at: self.started_at,
            labels: self.labels.clone(),
            log_path: self.log_path.clone(),
        }
    }

    /// The record brought up to what is seen now. `true`: it changed. Pure.
    pub(super) fn recover(&mut self, boot: &str, seen: Seen, now: Timestamp) -> bool {
        if self.exit.is_some() {
            return false;
        }
        let (code, signal) = if self.boot != boot {
            // The node was rebooted under it.
            (0, SIGKILL)
        } else {
            match seen {
                Seen::Alive => return false,
                Seen::Ended(code, signal) => (code, signal),
                Seen::Gone => (UNKNOWN_EXIT, 0),
            }
        };
        self.exit = Some(ExitRecord {
            code,
            signal,
            finished_at: now,
            oom_killed: false,
        });
        true
    }

    /// Writes it, whole or not at all.
    pub(super) fn save(&self, dir: &Path) -> io::Result<()> {
        write_json(&dir.join("container.json"), self)
    }

    pub(super) fn load(dir: &Path) -> io::Result<Self> {
        read_json(&dir.join("container.json"))
    }
}

pub(super) fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let temporary = path.with_extension("new");
    fs::write(&temporary, serde_json::to_vec(value)?)?;
    fs::rename(&temporary, path)
}

pub(super) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> io::Result<T> {
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            id: "a".into(),
            pod_uid: "u".into(),
            pod: "d/p".into(),
            name: "c".into(),
            attempt: 2,
            image_id: "sha256:0".into(),
            labels: BTreeMap::new(),
            log_path: "/log".into(),
            stdio: Stdio::default(),
            shares_processes: false,
            mount_namespace: None,
            boot: "one".into(),
            created_at: Timestamp::UNIX_EPOCH,
            started_at: Some(Timestamp::UNIX_EPOCH),
            pid: Some(7),
            start_time: Some(8),
            exit: None,
        }
    }

    fn recovered(boot: &str, seen: Seen) -> ContainerState {
        let mut record = record();
        record.recover(boot, seen, Timestamp::UNIX_EPOCH);
        record.state()
    }

    fn exited(code: i32, signal: i32) -> ContainerState {
        ContainerState::Exited(Exit {
            code,
            signal,
            finished_at: Timestamp::UNIX_EPOCH,
            oom_killed: false,
        })
    }

    #[test]
    fn a_restart_finds_what_runs_and_a_reboot_finds_nothing() {
        assert_eq!(recovered("one", Seen::Alive), ContainerState::Running);
        assert_eq!(recovered("one", Seen::Ended(3, 0)), exited(3, 0));
        assert_eq!(recovered("one", Seen::Ended(0, 15)), exited(143, 15));
        assert_eq!(recovered("one", Seen::Gone), exited(255, 0));
        assert_eq!(
            recovered("two", Seen::Alive),
            exited(137, 9),
            "a pid of another run means nothing"
        );
    }
}
