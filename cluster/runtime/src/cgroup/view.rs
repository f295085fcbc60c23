//! What a container sees of its cgroups in `/sys/fs/cgroup`: its own and no others, so that programs which look for their
//! limits there (the JVM) find them.
//!
//! Cgroup file systems are mounted in a mount namespace of their own, which nobody lives in: libcontainer takes every one that
//! it can see for its own to manage. When a container has been made, and before it is started, a thread takes copies of the
//! mounts of that container's cgroups from there into the container's mount namespace.
//!
//! Version 1: each controller has its folder. Version 2: one folder; `/proc/self/cgroup` goes on to show its place among all.
//! A container that asks for nothing has no cgroup of its own, and sees none.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns, unshare};
use rustix::fs::CWD;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, mount_change, mount_remount,
    move_mount, open_tree, unmount,
};
use rustix::process::{chdir, pivot_root};

use super::{Cgroups, named};

/// Where cgroups are expected to be.
const PLACE: &str = "/sys/fs/cgroup";
/// What the JVM insists on, in version 1, before it believes any of them.
const SHOWN: [&str; 5] = ["memory", "cpu", "pids", "cpuset", "cpuacct"];
/// A cgroup in which nobody is, shown in place of one that a container does not need.
pub(crate) const UNLIMITED: &str = "unlimited";
const FLAGS: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// One hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    /// Its folder: the names of its controllers. Empty: the unified hierarchy.
    controllers: String,
    /// This run's own cgroup, in the namespace where it is mounted.
    run: PathBuf,
}

/// Cgroups as they can be shown to containers.
pub(crate) struct View {
    namespace: File,
    parts: Vec<Part>,
}

impl View {
    /// Mounts what there is. Blocks.
    ///
    /// # Errors
    /// The kernel does not let us.
    pub(crate) fn new(cgroups: &Cgroups) -> io::Result<Self> {
        apart(|| {
            unshare(CloneFlags::CLONE_NEWNS)?;
            mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
            let mut parts = mount_all(cgroups)?;
            let namespace = File::open("/proc/thread-self/ns/mnt")?;
            // Nothing else is in it: what pods have mounted would be held by it.
            chdir(PLACE)?;
            pivot_root(".", ".")?;
            unmount(".", UnmountFlags::DETACH)?;
            for part in &mut parts {
                let below = part.run.strip_prefix(PLACE).map_err(io::Error::other)?;
                part.run = Path::new("/").join(below);
            }
            Ok(Self { namespace, parts })
        })
    }

    /// Shows a container its cgroups. `pid`: its first process, which has not been started. Blocks.
    ///
    /// # Errors
    /// It is left without.
    pub(crate) fn show(&self, id: &str, pid: i32, writable: bool) -> io::Result<()> {
        let container = File::open(format!("/proc/{pid}/ns/mnt"))?;
        apart(|| {
            unshare(CloneFlags::CLONE_FS)?;
            setns(&self.namespace, CloneFlags::CLONE_NEWNS)?;
            let own = |part: &Part| part.run.join(id).is_dir();
            if !self.parts.iter().any(own) {
                return Ok(());
            }
            let trees = self.parts.iter().map(|part| part.copy(id));
            let trees: Vec<(&str, OwnedFd)> = trees.collect::<io::Result<_>>()?;
            setns(&container, CloneFlags::CLONE_NEWNS)?;
            attach(trees, writable)
        })
    }
}

/// On a thread of its own: what is done to its namespaces ends with it.
fn apart<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let lost = || io::Error::other("the thread that mounts cgroups has died");
    std::thread::scope(|scope| scope.spawn(work).join().unwrap_or_else(|_| Err(lost())))
}

impl Part {
    /// A mount of the container's cgroup, or of an empty one.
    fn copy(&self, id: &str) -> io::Result<(&str, OwnedFd)> {
        let candidates = [self.run.join(id), self.run.join(UNLIMITED), self.run.clone()];
        let found = candidates.iter().find(|dir| dir.is_dir()).unwrap_or(&self.run);
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree = open_tree(CWD, found, flags).map_err(|e| named(found, e))?;
        Ok((&self.controllers, tree))
    }
}

fn attach(trees: Vec<(&str, OwnedFd)>, writable: bool) -> io::Result<()> {
    let read_only = |path: &Path| {
        let flags = if writable { FLAGS } else { FLAGS | MountFlags::RDONLY };
        mount_remount(path, flags | MountFlags::BIND, "")
    };
    let put = |tree: OwnedFd, path: &Path| -> io::Result<()> {
        move_mount(tree, "", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).map_err(|e| named(path, e))?;
        Ok(read_only(path)?)
    };
    let place = Path::new(PLACE);
    let divided = trees.iter().any(|(controllers, _)| !controllers.is_empty());
    if divided {
        mount("tmpfs", place, "tmpfs", FLAGS, c"mode=755,size=64k").map_err(|e| named(place, e))?;
    }
    for (controllers, tree) in trees {
        let path = place.join(controllers);
        if divided {
            fs::create_dir(&path)?;
        }
        put(tree, &path)?;
        for controller in controllers
            .split(',')
            .filter(|name| *name != controllers && !name.is_empty())
        {
            symlink(controllers, place.join(controller))?;
        }
    }
    if divided {
        read_only(place)?;
    }
    Ok(())
}

/// Mounts the hierarchies that are to be shown, over what is at their place in this namespace.
fn mount_all(cgroups: &Cgroups) -> io::Result<Vec<Part>> {
    let place = Path::new(PLACE);
    let doors: Vec<&PathBuf> = match cgroups {
        Cgroups::V1 { memory, cpu, pids, .. } => std::iter::once(memory).chain(cpu).chain(pids).collect(),
        Cgroups::V2 { dir, .. } => {
            mount("none", place, "cgroup2", FLAGS, None)?;
            let part = Part {
                controllers: String::new(),
                run: place.join(name_of(dir)?),
            };
            return Ok(same(&part.run, dir).then_some(part).into_iter().collect());
        }
        Cgroups::Unavailable { .. } => return Ok(vec![]),
    };
    let name = name_of(doors.first().ok_or(io::ErrorKind::NotFound)?)?;
    mount("tmpfs", place, "tmpfs", FLAGS, c"mode=755")?;
    let own = fs::read_to_string("/proc/thread-self/cgroup")?;
    let mut parts = vec![];
    for controllers in shown(&own) {
        let at = place.join(controllers);
        fs::create_dir(&at)?;
        let options = std::ffi::CString::new(controllers)?;
        mount("cgroup", &at, "cgroup", FLAGS, options.as_c_str()).map_err(|e| named(&at, e))?;
        let part = Part {
            controllers: controllers.to_owned(),
            run: at.join(&name),
        };
        if part.run.is_dir() {
            parts.push(part);
        }
    }
    let reached = doors.iter().all(|door| parts.iter().any(|part| same(&part.run, door)));
    if reached {
        Ok(parts)
    } else {
        Err(io::Error::other("this run's own cgroups are not where they should be"))
    }
}

/// The controllers of each hierarchy that has one to be shown, out of /proc/self/cgroup. Pure.
fn shown(own: &str) -> impl Iterator<Item = &str> {
    own.lines().filter_map(|line| {
        let (controllers, _) = line.split_once(':')?.1.split_once(':')?;
        let wanted = controllers.split(',').any(|name| SHOWN.contains(&name));
        wanted.then_some(controllers)
    })
}

/// What this run's cgroups are called.
fn name_of(door: &Path) -> io::Result<PathBuf> {
    let target = fs::read_link(door)?;
    target
        .file_name()
        .map(PathBuf::from)
        .ok_or_else(|| named(door, "no name"))
}

fn same(a: &Path, b: &Path) -> bool {
    let inode = |path: &Path| fs::metadata(path).map(|found| found.ino());
    matches!((inode(a), inode(b)), (Ok(a), Ok(b)) if a == b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_shown_by_what_they_control() {
        let own = "12:memory:/a\n11:net_cls,net_prio:/\n4:cpu,cpuacct:/\n3:cpuset:/\n1:name=systemd:/\n0::/\n";
        assert_eq!(shown(own).collect::<Vec<_>>(), ["memory", "cpu,cpuacct", "cpuset"]);
    }
}
