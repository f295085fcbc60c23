//! Limits of containers, by plain writes into control groups of our own.
//!
//! libcontainer cannot leave the host's cgroups alone, so it is shown none (see `host::mounts`); what is limited is limited
//! here, between the creation of a container and its start. Only containers that ask for something get a cgroup: moving a
//! process costs a grace period of the kernel. What is decided is pure; the rest is `mkdir`, `write` and `rmdir`.

pub(crate) mod detect;
pub(crate) mod devices;
mod settings;
mod usage;
pub(crate) mod view;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::settings::{Setting, cpu_v1, memory_v1, pids_max, settings_v2};

pub use self::settings::{CPU_PERIOD_US, Resources};

/// Where our own processes live in a unified hierarchy: there only leaves may have any.
pub(crate) const MANAGER: &str = "manager";

/// A cgroup whose last process has just ended may still be busy.
const REMOVE_TRIES: u32 = 20;
const REMOVE_STEP: Duration = Duration::from_millis(5);

/// Where cgroups of containers are made, as the inside sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cgroups {
    /// One hierarchy for each controller; each directory is this run's own.
    V1 {
        /// Controller `memory`.
        memory: PathBuf,
        /// Controller `cpu`, where it may be written.
        cpu: Option<PathBuf>,
        /// Controller `pids`, where it may be written.
        pids: Option<PathBuf>,
        /// Controller `devices`, where it may be written: all but privileged containers are in its [`devices::CONTAINED`].
        devices: Option<PathBuf>,
    },
    /// The unified hierarchy.
    V2 {
        /// This run's own directory.
        dir: PathBuf,
        /// Controllers that work in it.
        controllers: Vec<String>,
        /// Why devices are not guarded; None: they are, in all of its cgroups but those of privileged containers.
        unguarded: Option<String>,
    },
    /// Limits are not enforced.
    Unavailable {
        /// Why, and what to do.
        reason: String,
    },
}

/// A container's directory in one hierarchy, with what is to be written there.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    dir: PathBuf,
    settings: Vec<Setting>,
}

impl Cgroups {
    /// Why limits are not enforced; None: they are.
    pub fn unavailable(&self) -> Option<&str> {
        match self {
            Self::Unavailable { reason } => Some(reason),
            Self::V1 { .. } | Self::V2 { .. } => None,
        }
    }

    /// Why containers could use every device of the machine; None: they cannot.
    pub(crate) fn unguarded(&self) -> Option<String> {
        match self {
            Self::V1 { devices: Some(_), .. } => None,
            Self::V1 { devices: None, .. } => Some("the cgroup controller `devices` cannot be written".to_owned()),
            Self::V2 { unguarded, .. } => unguarded.clone(),
            Self::Unavailable { reason } => Some(reason.clone()),
        }
    }

    /// Takes a directory that cannot be reached for none at all.
    pub(crate) fn checked(self) -> Self {
        let missing = self.roots().into_iter().find(|dir| !dir.is_dir());
        match missing {
            Some(dir) => Self::Unavailable {
                reason: format!("{} cannot be reached", dir.display()),
            },
            None => self,
        }
    }

    fn roots(&self) -> Vec<&Path> {
        match self {
            Self::V1 {
                memory,
                cpu,
                pids,
                devices,
            } => std::iter::once(memory)
                .chain(cpu)
                .chain(pids)
                .chain(devices)
                .map(PathBuf::as_path)
                .collect(),
            Self::V2 { dir, .. } => vec![dir],
            Self::Unavailable { .. } => vec![],
        }
    }

    /// What is to be made for a container. Empty where it asks for nothing or nothing can be had. Pure.
    fn plan(&self, id: &str, resources: &Resources) -> Vec<Part> {
        let mut parts = match self {
            Self::V1 { memory, cpu, pids, .. } => {
                let part = |root: &Path, settings| Part {
                    dir: root.join(id),
                    settings,
                };
                let memory = std::iter::once(part(memory, memory_v1(resources)));
                let cpu = cpu.iter().map(|root| part(root, cpu_v1(resources)));
                memory
                    .chain(cpu)
                    .chain(pids.iter().map(|root| part(root, pids_max(resources))))
                    .collect()
            }
            Self::V2 { dir, controllers, .. } => vec![Part {
                dir: dir.join(id),
                settings: settings_v2(controllers, resources),
            }],
            Self::Unavailable { .. } => vec![],
        };
        parts.retain(|part| !part.settings.is_empty());
        parts
    }

    /// Makes a container's cgroups, limits set, nobody in them. `privileged`: it may use every device.
    pub(crate) fn create(&self, id: &str, resources: &Resources, privileged: bool) -> io::Result<()> {
        if let Self::V1 {
            devices: Some(root), ..
        }
        | Self::V2 { dir: root, .. } = self
            && privileged
        {
            create_dir(&root.join(id))?;
        }
        for part in self.plan(id, resources) {
            if create_dir(&part.dir)? {
                self.guard(&part.dir)?;
            }
            write_settings(&part)?;
        }
        Ok(())
    }

    /// Guards devices in a new cgroup of a container where that is not the affair of a controller of its own.
    fn guard(&self, dir: &Path) -> io::Result<()> {
        match self {
            Self::V2 { unguarded: None, .. } => devices::guard_v2(dir).map_err(|e| named(dir, e)),
            _ => Ok(()),
        }
    }

    /// Changes the limits of a container that runs. `true`: a cgroup was made for that, and nobody is in it yet.
    pub(crate) fn update(&self, id: &str, resources: &Resources) -> io::Result<bool> {
        if let Some(bytes) = resources.memory_limit_bytes {
            self.make_room(id, bytes)?;
        }
        let mut made = false;
        for mut part in self.plan(id, resources) {
            if create_dir(&part.dir)? {
                self.guard(&part.dir)?;
                made = true;
            }
            // The limit with swap may never be the smaller one.
            if grows(&part) {
                part.settings.reverse();
            }
            write_settings(&part)?;
        }
        Ok(made)
    }

    /// A limit below what is in use would kill on cgroups v2 (v1 refuses it): what can be given back is asked for, and
    /// then the change has to wait.
    fn make_room(&self, id: &str, bytes: u64) -> io::Result<()> {
        let Self::V2 { dir, controllers, .. } = self else {
            return Ok(());
        };
        let dir = dir.join(id);
        if !dir.is_dir() || !controllers.iter().any(|c| c == "memory") {
            return Ok(());
        }
        let used = || number(&dir.join("memory.current")).unwrap_or(0);
        let over = used().saturating_sub(bytes);
        if over > 0 {
            // Kernels before 5.19 have no such file, and page cache may not all go at once.
            let _ = fs::OpenOptions::new()
                .write(true)
                .open(dir.join("memory.reclaim"))
                .and_then(|mut file| io::Write::write_all(&mut file, over.to_string().as_bytes()));
        }
        match used() {
            used if used > bytes => Err(io::Error::other(format!(
                "the memory limit of {bytes} bytes is below the current usage of {used}"
            ))),
            _ => Ok(()),
        }
    }

    /// Where a process is written to make it the container's. Empty where that has no cgroup.
    pub(crate) fn entrances(&self, id: &str) -> Vec<PathBuf> {
        let dirs = self.roots().into_iter().map(|root| root.join(id));
        dirs.filter(|dir| dir.is_dir())
            .map(|dir| dir.join("cgroup.procs"))
            .collect()
    }

    /// Puts a container's first process, which waits at the gate, under its limits.
    pub(crate) fn enter(&self, id: &str, pid: i32) -> io::Result<()> {
        write_all(&self.entrances(id), pid)
    }

    /// The kernel killed one of the container's processes for its memory limit.
    pub(crate) fn oom_killed(&self, id: &str) -> bool {
        let file = match self {
            Self::V1 { memory, .. } => memory.join(id).join("memory.oom_control"),
            Self::V2 { dir, .. } => dir.join(id).join("memory.events"),
            Self::Unavailable { .. } => return false,
        };
        fs::read_to_string(file).is_ok_and(|text| count(&text, "oom_kill") > 0)
    }

    /// Takes a container's cgroups away; no process may be left in them. Blocks for 0.1 s at most: what stays is removed
    /// at the end of the run.
    pub(crate) fn remove(&self, id: &str) -> io::Result<()> {
        for root in self.roots() {
            let dir = root.join(id);
            let mut tries = REMOVE_TRIES;
            loop {
                match fs::remove_dir(&dir) {
                    Ok(()) => break,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                    Err(error) if tries == 0 => return Err(named(&dir, error)),
                    Err(_) => std::thread::sleep(REMOVE_STEP),
                }
                tries -= 1;
            }
        }
        Ok(())
    }
}

/// Whether it was made now.
fn create_dir(dir: &Path) -> io::Result<bool> {
    match fs::create_dir(dir) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(named(dir, error)),
    }
}

fn write_settings(part: &Part) -> io::Result<()> {
    for setting in &part.settings {
        let path = part.dir.join(setting.file);
        match fs::write(&path, &setting.value) {
            Err(error) if setting.vital => {
                return Err(named(&path, format!("writing {}: {error}", setting.value)));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The first of its settings is a number above the one that stands there.
fn grows(part: &Part) -> bool {
    let is_memory = |s: &&Setting| s.file == "memory.limit_in_bytes";
    part.settings.first().filter(is_memory).is_some_and(|setting| {
        let now = number(&part.dir.join(setting.file));
        setting
            .value
            .parse()
            .ok()
            .zip(now)
            .is_some_and(|(new, now): (u64, u64)| new > now)
    })
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Writes a process (0: the writer) into each of these `cgroup.procs`.
pub(crate) fn write_all(entrances: &[PathBuf], pid: i32) -> io::Result<()> {
    entrances
        .iter()
        .try_for_each(|path| fs::write(path, pid.to_string()).map_err(|e| named(path, e)))
}

fn named(path: &Path, error: impl std::fmt::Display) -> io::Error {
    io::Error::other(format!("{}: {error}", path.display()))
}

/// A number in a file of `name number` lines.
fn count(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::settings::weight_of_shares;
    use super::*;

    const SOME: Resources = Resources {
        memory_limit_bytes: Some(67_108_864),
        cpu_shares: Some(512),
        cpu_quota_us: Some(50_000),
        pids_limit: Some(9),
    };

    fn written(dir: &Path) -> Vec<(String, String)> {
        let mut files: Vec<(String, String)> = fs::read_dir(dir)
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| {
                let text = fs::read_to_string(e.path()).unwrap_or_default();
                (e.file_name().to_string_lossy().into_owned(), text)
            })
            .collect();
        files.sort();
        files
    }

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    }

    #[test]
    fn each_hierarchy_gets_its_settings() {
        let dir = tempfile::tempdir().unwrap();
        let root = |name: &str| {
            fs::create_dir(dir.path().join(name)).unwrap();
            dir.path().join(name)
        };
        let (memory, cpu) = (root("memory"), root("cpu"));
        let cgroups = Cgroups::V1 {
            memory: memory.clone(),
            cpu: Some(cpu.clone()),
            pids: None,
            devices: None,
        };
        cgroups.create("a", &SOME, false).unwrap();
        let limits = [
            ("memory.limit_in_bytes", "67108864"),
            ("memory.memsw.limit_in_bytes", "67108864"),
        ];
        assert_eq!(written(&memory.join("a")), pairs(&limits));
        let limits = [
            ("cpu.cfs_period_us", "100000"),
            ("cpu.cfs_quota_us", "50000"),
            ("cpu.shares", "512"),
        ];
        assert_eq!(written(&cpu.join("a")), pairs(&limits));
        cgroups.enter("a", 42).unwrap();
        assert_eq!(fs::read_to_string(memory.join("a/cgroup.procs")).unwrap(), "42");
        assert!(!cgroups.oom_killed("a"));
        fs::write(
            memory.join("a/memory.oom_control"),
            "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
        )
        .unwrap();
        assert!(cgroups.oom_killed("a"));
    }

    #[test]
    fn the_unified_hierarchy_has_one_directory() {
        let dir = tempfile::tempdir().unwrap();
        let cgroups = Cgroups::V2 {
            dir: dir.path().to_owned(),
            controllers: ["memory", "cpu", "pids"].map(String::from).to_vec(),
            unguarded: Some("not here".into()),
        };
        cgroups.create("a", &SOME, false).unwrap();
        let limits = [
            ("cpu.max", "50000 100000"),
            ("cpu.weight", "20"),
            ("memory.max", "67108864"),
            ("memory.oom.group", "1"),
            ("memory.swap.max", "0"),
            ("pids.max", "9"),
        ];
        assert_eq!(written(&dir.path().join("a")), pairs(&limits));
        fs::write(dir.path().join("a/memory.events"), "oom 3\noom_kill 2\n").unwrap();
        assert!(cgroups.oom_killed("a"));
    }

    #[test]
    fn limits_change_while_a_container_runs() {
        let dir = tempfile::tempdir().unwrap();
        let cgroups = Cgroups::V2 {
            dir: dir.path().to_owned(),
            controllers: ["memory", "cpu"].map(String::from).to_vec(),
            unguarded: Some("not here".into()),
        };
        let memory = |bytes| Resources {
            memory_limit_bytes: Some(bytes),
            ..SOME
        };
        assert!(cgroups.update("a", &memory(100)).unwrap(), "it had none");
        assert!(!cgroups.update("a", &memory(200)).unwrap());
        let max = || fs::read_to_string(dir.path().join("a/memory.max")).unwrap();
        assert_eq!(max(), "200");
        fs::write(dir.path().join("a/memory.current"), "150\n").unwrap();
        let error = cgroups.update("a", &memory(149)).unwrap_err().to_string();
        assert!(error.contains("149") && error.contains("150"), "{error}");
        assert_eq!(max(), "200", "nothing was written");
        cgroups.update("a", &memory(150)).unwrap();
        assert_eq!(max(), "150");
        let none = Cgroups::Unavailable { reason: "no".into() };
        assert!(!none.update("a", &SOME).unwrap());
    }

    #[test]
    fn who_asks_for_nothing_gets_no_cgroup() {
        let dir = tempfile::tempdir().unwrap();
        let cgroups = Cgroups::V2 {
            dir: dir.path().to_owned(),
            controllers: vec!["memory".into()],
            unguarded: Some("not here".into()),
        };
        cgroups.create("a", &Resources::default(), false).unwrap();
        let cpu_only = Resources {
            cpu_shares: Some(2),
            ..Resources::default()
        };
        cgroups.create("a", &cpu_only, false).unwrap();
        assert!(cgroups.entrances("a").is_empty());
        cgroups.enter("a", 1).unwrap();
        cgroups.remove("a").unwrap();
        let none = Cgroups::Unavailable { reason: "no".into() };
        none.create("a", &SOME, false).unwrap();
        assert!(none.entrances("a").is_empty() && !none.oom_killed("a"));
    }

    #[test]
    fn only_privileged_containers_leave_the_guarded_cgroup() {
        let dir = tempfile::tempdir().unwrap();
        let root = |name: &str| {
            fs::create_dir(dir.path().join(name)).unwrap();
            dir.path().join(name)
        };
        let cgroups = Cgroups::V1 {
            memory: root("memory"),
            cpu: None,
            pids: None,
            devices: Some(root("devices")),
        };
        assert_eq!(cgroups.unguarded(), None);
        cgroups.create("plain", &SOME, false).unwrap();
        cgroups.create("privileged", &Resources::default(), true).unwrap();
        assert_eq!(
            cgroups.entrances("plain"),
            [dir.path().join("memory/plain/cgroup.procs")]
        );
        assert_eq!(
            cgroups.entrances("privileged"),
            [dir.path().join("devices/privileged/cgroup.procs")]
        );
        cgroups.remove("privileged").unwrap();
        assert_eq!(fs::read_dir(dir.path().join("devices")).unwrap().count(), 0);
        let none = Cgroups::Unavailable { reason: "no".into() };
        assert_eq!(none.unguarded().as_deref(), Some("no"));
    }

    #[test]
    fn weights_follow_shares() {
        assert_eq!([2, 1024, 262_144, 0].map(weight_of_shares), [1, 39, 10_000, 1]);
    }
}
