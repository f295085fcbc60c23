//! The cgroups of one run on the host: made by the outer process, removed by a janitor however the end comes.
//!
//! They are inside of the cgroups that we were started in, so that limits set by somebody else go on to hold, and nothing
//! else of the host's tree is touched. The inside reaches them through descriptors that pid 1 keeps open: it mounts no
//! cgroup file system that libcontainer could find. The descriptors are locked, which tells a later run that we live.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getpid};
use rustix::fs::{FlockOperation, flock};

use crate::cgroup::detect::{Found, decide_unified, find, own_v1};
use crate::cgroup::devices::{self, CONTAINED};
use crate::cgroup::view::UNLIMITED;
use crate::cgroup::{Cgroups, MANAGER};
use crate::removal::removed;

/// What our directories are called, up to the process and a random part.
const PREFIX: &str = "afloat-";
/// What libcontainer calls cgroups that nobody named, where it finds a unified hierarchy.
const UNNAMED: &str = ":youki:";
/// How long the last processes may take to be gone. Then the directories are left for the next run.
const REMOVE_LIMIT: Duration = Duration::from_secs(30);
/// How long the outer process waits for that.
const JANITOR_LIMIT: Duration = Duration::from_secs(5);
const STEP: Duration = Duration::from_millis(5);

/// A directory of this run.
#[derive(Clone, Debug)]
struct Site {
    dir: PathBuf,
    /// Unified: the cgroup that was divided, and what it passes on.
    divided: Option<(PathBuf, Vec<String>)>,
    /// The cgroup in it that all of the inside begins in.
    inside: Option<PathBuf>,
}

/// What pid 1 keeps open, and what it tells the inside about it.
pub(super) enum Doors {
    V1 {
        memory: OwnedFd,
        cpu: Option<OwnedFd>,
        pids: Option<OwnedFd>,
        devices: Option<OwnedFd>,
    },
    V2 {
        dir: OwnedFd,
        controllers: Vec<String>,
        unguarded: Option<String>,
    },
    None(String),
}

impl Doors {
    /// For processes inside, whose process 1 holds the descriptors.
    pub(super) fn cgroups(&self) -> Cgroups {
        let path = |fd: &OwnedFd| PathBuf::from(format!("/proc/1/fd/{}", fd.as_raw_fd()));
        match self {
            Self::V1 {
                memory,
                cpu,
                pids,
                devices,
            } => Cgroups::V1 {
                memory: path(memory),
                cpu: cpu.as_ref().map(path),
                pids: pids.as_ref().map(path),
                devices: devices.as_ref().map(path),
            },
            Self::V2 {
                dir,
                controllers,
                unguarded,
            } => Cgroups::V2 {
                dir: path(dir),
                controllers: controllers.clone(),
                unguarded: unguarded.clone(),
            },
            Self::None(reason) => Cgroups::Unavailable { reason: reason.clone() },
        }
    }
}

/// The directories of this run, for as long as the outer process lives.
pub(super) struct Tree {
    sites: Vec<Site>,
    janitor: Pid,
    /// Closed when we end: the janitor's sign.
    alive: Option<OwnedFd>,
    /// Locks on directories that nobody enters.
    _shown: Vec<OwnedFd>,
}

impl Tree {
    /// Makes the directories where that is possible; where not, everything works without.
    pub(super) fn make() -> (Option<Self>, Doors) {
        match Self::try_make() {
            Ok((tree, doors)) => (Some(tree), doors),
            Err(reason) => (None, Doors::None(reason)),
        }
    }

    fn try_make() -> Result<(Self, Doors), String> {
        let read = |path: &Path| fs::read_to_string(path).map_err(|e| format!("reading {}: {e}", path.display()));
        let mountinfo = read(Path::new("/proc/self/mountinfo"))?;
        let own = read(Path::new("/proc/self/cgroup"))?;
        let found = find(&mountinfo, &own)?;
        let name = format!("{PREFIX}{}-{:08x}", getpid(), rand::random::<u32>());
        let mut made = Made::default();
        let doors = match found {
            Found::V1 {
                memory,
                cpu,
                pids,
                devices,
            } => {
                let memory = made.dir(&memory, &name, None)?;
                let mut optional = |parent: Option<PathBuf>| made.dir(&parent?, &name, None).ok();
                let cpu = optional(cpu);
                if cpu.is_some() {
                    weigh(&made.0);
                }
                let mut optional = |parent: Option<PathBuf>| made.dir(&parent?, &name, None).ok();
                let pids = optional(pids);
                Doors::V1 {
                    memory,
                    cpu,
                    pids,
                    devices: devices.and_then(|parent| made.guarded(&parent, &name).ok()),
                }
            }
            Found::V2 { own } => {
                let is_root = !own.join("cgroup.type").exists();
                let unified = decide_unified(
                    &read(&own.join("cgroup.controllers"))?,
                    &read(&own.join("cgroup.procs"))?,
                    getpid().as_raw(),
                    is_root,
                )?;
                let controllers = unified.controllers;
                let dir = made.dir(&own, &name, Some(controllers.clone()))?;
                let manager = own.join(&name).join(MANAGER);
                fs::create_dir(&manager).map_err(|e| format!("making {}: {e}", manager.display()))?;
                let unguarded = devices::guard_v2(&manager).err();
                Doors::V2 {
                    dir,
                    controllers,
                    unguarded: unguarded.map(|e| format!("the kernel takes no program that guards devices: {e}")),
                }
            }
        };
        let shown = if matches!(doors, Doors::V1 { .. }) {
            made.shown(&mountinfo, &own, &name)
        } else {
            vec![]
        };
        let sites = made.keep();
        let (janitor, alive) =
            start_janitor(&sites).inspect_err(|_| sites.iter().for_each(|site| drop(clear(site))))?;
        let tree = Self {
            sites,
            janitor,
            alive: Some(alive),
            _shown: shown,
        };
        Ok((tree, doors))
    }

    /// Moves pid 1 to where devices are guarded. Unified: moves all of us into a leaf, then passes the controllers on. Pid 1 must have
    /// been made before: the root of its cgroup namespace has to be above what it writes to.
    pub(super) fn enter(&self, child: Pid) -> io::Result<()> {
        for site in &self.sites {
            if let Some(inside) = &site.inside {
                fs::write(inside.join("cgroup.procs"), child.to_string())?;
            }
            let Some((parent, controllers)) = &site.divided else {
                continue;
            };
            let manager = site.dir.join(MANAGER);
            for pid in [self.janitor, child, getpid()] {
                fs::write(manager.join("cgroup.procs"), pid.to_string())?;
            }
            for dir in [parent, &site.dir] {
                fs::write(dir.join("cgroup.subtree_control"), signed('+', controllers))?;
            }
        }
        Ok(())
    }
}

impl Drop for Tree {
    /// The janitor does all of it, here as after an accident.
    fn drop(&mut self) {
        drop(self.alive.take());
        let end = Instant::now() + JANITOR_LIMIT;
        while matches!(
            waitpid(self.janitor, Some(WaitPidFlag::WNOHANG)),
            Ok(WaitStatus::StillAlive) | Err(nix::errno::Errno::EINTR)
        ) && Instant::now() < end
        {
            std::thread::sleep(STEP);
        }
        // Nothing to do, unless somebody ended the janitor.
        for site in self.sites.iter().filter(|site| site.dir.exists()) {
            let _ = clear(site);
        }
    }
}

/// Directories made so far; removed unless kept.
#[derive(Default)]
struct Made(Vec<Site>);

impl Made {
    fn dir(&mut self, parent: &Path, name: &str, divide: Option<Vec<String>>) -> Result<OwnedFd, String> {
        sweep(parent);
        let dir = parent.join(name);
        let refused = |e: &dyn std::fmt::Display| {
            format!(
                "cannot make the cgroup {}: {e}; run as root, or in a cgroup delegated to this user",
                dir.display()
            )
        };
        fs::create_dir(&dir).map_err(|e| refused(&e))?;
        self.0.push(Site {
            dir: dir.clone(),
            divided: divide.map(|controllers| (parent.to_owned(), controllers)),
            inside: None,
        });
        let file = fs::File::open(&dir).map_err(|e| refused(&e))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|e| refused(&e))?;
        // Between the two another run could have taken it for left over.
        if !dir.is_dir() {
            return Err(refused(&"it is gone again"));
        }
        Ok(file.into())
    }

    /// A directory of the controller `devices`, and in it one for all that is not privileged.
    fn guarded(&mut self, parent: &Path, name: &str) -> Result<OwnedFd, String> {
        let file = self.dir(parent, name, None)?;
        let inside = parent.join(name).join(CONTAINED);
        let made = fs::create_dir(&inside).and_then(|()| devices::guard_v1(&inside));
        made.map_err(|e| format!("guarding devices in {}: {e}", inside.display()))?;
        if let Some(site) = self.0.last_mut() {
            site.inside = Some(inside);
        }
        Ok(file)
    }

    /// Directories for containers to see (`crate::cgroup::view`): one without limits beside those that will have some, and those of
    /// controllers that limit nothing here. Where they cannot be had, they are not shown.
    fn shown(&mut self, mountinfo: &str, own: &str, name: &str) -> Vec<OwnedFd> {
        let parents = ["cpuacct", "cpuset"].map(|controller| own_v1(mountinfo, own, controller));
        for site in self.0.iter().filter(|site| site.inside.is_none()) {
            let _ = fs::create_dir(site.dir.join(UNLIMITED));
        }
        let mut locks = vec![];
        for parent in parents.into_iter().flatten() {
            let Ok(lock) = self.dir(&parent, name, None) else {
                continue;
            };
            for file in ["cpuset.cpus", "cpuset.mems"] {
                // A new one has none of its own.
                if let Ok(list) = fs::read_to_string(parent.join(file)) {
                    let _ = fs::write(parent.join(name).join(file), list);
                }
            }
            locks.push(lock);
        }
        locks
    }

    fn keep(mut self) -> Vec<Site> {
        std::mem::take(&mut self.0)
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for site in &self.0 {
            let _ = clear(site);
        }
    }
}

/// All containers together weigh as much as the machine's CPUs, as the kubelet sets it for its pods: a single group among
/// processes would have the share of one of them.
fn weigh(sites: &[Site]) {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    if let Some(site) = sites.last() {
        let _ = fs::write(site.dir.join("cpu.shares"), (cpus * 1024).to_string());
    }
}

fn signed(sign: char, controllers: &[String]) -> String {
    let words: Vec<String> = controllers.iter().map(|name| format!("{sign}{name}")).collect();
    words.join(" ")
}

/// Removes what runs left behind that ended together with their janitor: directories that nobody holds a lock on.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        if let Ok(dir) = fs::File::open(entry.path())
            && flock(&dir, FlockOperation::NonBlockingLockExclusive).is_ok()
        {
            let _ = remove_tree(&entry.path());
        }
    }
}

/// Cgroups are removed one by one, the innermost first; their files are no obstacle.
fn remove_tree(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let _ = remove_tree(&entry.path());
        }
    }
    removed(fs::remove_dir(dir))
}

/// Undoes everything, as far as it goes now.
fn clear(site: &Site) -> io::Result<()> {
    if let Some((parent, controllers)) = &site.divided {
        let _ = remove_tree(&site.dir);
        // Processes may go back only to a cgroup that is not divided any more.
        let _ = fs::write(site.dir.join("cgroup.subtree_control"), signed('-', controllers));
        let _ = fs::write(parent.join("cgroup.subtree_control"), signed('-', controllers));
        let left = fs::read_to_string(site.dir.join(MANAGER).join("cgroup.procs")).unwrap_or_default();
        for pid in left.split_ascii_whitespace() {
            let _ = fs::write(parent.join("cgroup.procs"), pid);
        }
        for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(UNNAMED) {
                let _ = fs::remove_dir(entry.path());
            }
        }
    }
    remove_tree(&site.dir)
}

/// A copy of this process that only waits for the end of it and then removes the directories.
#[allow(unsafe_code)] // fork, in a process with one thread (checked in `run`)
fn start_janitor(sites: &[Site]) -> Result<(Pid, OwnedFd), String> {
    let (read, write) = super::pipe().map_err(|e| e.to_string())?;
    // SAFETY: there is one thread only, so the child may do all that we may.
    match unsafe { fork() } {
        Ok(ForkResult::Parent { child }) => Ok((child, write)),
        Ok(ForkResult::Child) => {
            drop(write);
            janitor(&read, sites);
            // SAFETY: ends the process without running what belongs to the outer one.
            unsafe { libc::_exit(0) }
        }
        Err(error) => Err(format!("starting a janitor for cgroups: {error}")),
    }
}

/// Holds nothing of the outer process: no socket, no terminal, no directory.
#[allow(unsafe_code)] // descriptors of a process that is about to own none
fn janitor(alive: &OwnedFd, sites: &[Site]) {
    let _ = nix::unistd::setsid();
    let _ = nix::sys::prctl::set_name(c"afloat-janitor");
    let _ = std::env::set_current_dir("/");
    // SAFETY: nothing in this process uses the descriptors that are closed or replaced here, but the pipe, which is 3 now.
    let alive = unsafe {
        if let Ok(null) = fs::OpenOptions::new().read(true).write(true).open("/dev/null") {
            for number in 0..3 {
                libc::dup2(null.as_raw_fd(), number);
            }
            std::mem::forget(null);
        }
        libc::dup2(alive.as_raw_fd(), 3);
        libc::syscall(libc::SYS_close_range, 4_u32, u32::MAX, 0_u32);
        OwnedFd::from_raw_fd(3)
    };
    while matches!(rustix::io::read(alive.as_fd(), &mut [0]), Err(rustix::io::Errno::INTR)) {}
    let end = Instant::now() + REMOVE_LIMIT;
    let mut left: Vec<&Site> = sites.iter().collect();
    while !left.is_empty() && Instant::now() < end {
        left.retain(|site| clear(site).is_err());
        if !left.is_empty() {
            std::thread::sleep(STEP);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_run_is_swept_and_a_live_one_is_not() {
        let parent = tempfile::tempdir().unwrap();
        let (stale, other) = (parent.path().join("afloat-1-0"), parent.path().join("other"));
        fs::create_dir_all(stale.join("container")).unwrap();
        fs::create_dir_all(&other).unwrap();
        let mut made = Made::default();
        let lock = made.dir(parent.path(), "afloat-2-0", None).unwrap();
        assert!(!stale.exists() && other.exists());
        sweep(parent.path());
        assert!(parent.path().join("afloat-2-0").is_dir(), "its owner lives");
        drop(lock);
        drop(made);
        assert!(!parent.path().join("afloat-2-0").exists());
    }

    #[test]
    fn a_divided_cgroup_is_put_together_again() {
        let own = tempfile::tempdir().unwrap();
        let site = Site {
            dir: own.path().join("afloat-1-0"),
            divided: Some((own.path().to_owned(), vec!["memory".into(), "cpu".into()])),
            inside: None,
        };
        let tree = Tree {
            sites: vec![site.clone()],
            janitor: Pid::from_raw(11),
            alive: None,
            _shown: vec![],
        };
        fs::create_dir_all(site.dir.join(MANAGER)).unwrap();
        tree.enter(Pid::from_raw(12)).unwrap();
        std::mem::forget(tree);
        let text = |path: &str| fs::read_to_string(own.path().join(path)).unwrap();
        assert_eq!(text("cgroup.subtree_control"), "+memory +cpu");
        assert_eq!(text("afloat-1-0/cgroup.subtree_control"), "+memory +cpu");
        assert_eq!(text("afloat-1-0/manager/cgroup.procs"), getpid().to_string());
        let _ = clear(&site);
        assert_eq!(text("cgroup.subtree_control"), "-memory -cpu");
        assert_eq!(text("cgroup.procs"), getpid().to_string());
    }
}
