//! What is mounted into a container: looked up once, and from then on held where no pod can reach.
//!
//! The OCI runtime takes paths. A path below a volume is whatever the pod that writes to the volume makes of it at that moment
//! (CVE-2017-1002101, CVE-2021-25741), so each source is opened once, and that descriptor is mounted in a folder of our own memory; the OCI
//! runtime is told that place. When it has made the container, the place is taken away: the container has its own mount by then.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, fstat, openat, statat};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags, move_mount, open_tree, unmount};

use crate::below::{Links, find, folder, make_linked_file, plain};
use crate::container::Mount;
use crate::removal::remove_all;
use crate::runtime::RuntimeError;

/// Folders that the runtime mounts on. libcontainer goes on below them by path, so they have to be what they seem.
const SYSTEM: [&str; 3] = ["dev", "proc", "sys"];

/// Sources of a container that is being made, until this is dropped. Blocks.
pub(crate) struct Staged {
    dir: PathBuf,
    /// In the order of the mounts.
    pub(crate) sources: Vec<PathBuf>,
}

impl Staged {
    /// Mounts the sources in a folder, which is made.
    ///
    /// # Errors
    /// One is not there, or cannot be mounted.
    pub(crate) fn new(dir: PathBuf, found: &[Arc<OwnedFd>]) -> io::Result<Self> {
        fs::create_dir_all(&dir)?;
        let mut staged = Self {
            dir,
            sources: Vec::with_capacity(found.len()),
        };
        for (number, source) in found.iter().enumerate() {
            let place = staged.dir.join(number.to_string());
            if is_folder(source)? {
                fs::create_dir(&place)?;
            } else {
                fs::write(&place, "")?;
            }
            let flags = OpenTreeFlags::OPEN_TREE_CLONE
                | OpenTreeFlags::OPEN_TREE_CLOEXEC
                | OpenTreeFlags::AT_EMPTY_PATH
                | OpenTreeFlags::AT_RECURSIVE;
            let tree = open_tree(source, "", flags)?;
            staged.sources.push(place.clone());
            move_mount(tree, "", CWD, &place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
        }
        Ok(staged)
    }

    /// Where they are, if there are any.
    pub(crate) fn dir(&self) -> Option<&Path> {
        (!self.sources.is_empty()).then_some(self.dir.as_path())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        for place in &self.sources {
            let _ = unmount(place, UnmountFlags::DETACH);
        }
        if let Err(error) = remove_all(&self.dir) {
            tracing::warn!(dir = %self.dir.display(), %error, "sources of a container's mounts stay until the next start");
        }
    }
}

/// The sources of mounts, opened: those that were not yet are now.
///
/// # Errors
/// One is not there.
pub(crate) fn open(mounts: &[Mount]) -> Result<Vec<Arc<OwnedFd>>, RuntimeError> {
    let open = |mount: &Mount| match &mount.found {
        Some(found) => Ok(Arc::clone(found)),
        None => match openat(CWD, &mount.source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
            Ok(found) => Ok(Arc::new(found)),
            Err(error) => Err(RuntimeError::Failed(format!(
                "mounting {}: {}",
                mount.source.display(),
                io::Error::from(error)
            ))),
        },
    };
    mounts.iter().map(open).collect()
}

/// Whether what the runtime mounts in a root file system has a place there that is inside of it and of the right kind. A link to nowhere
/// gets an end.
///
/// # Errors
/// A sentence about the first that has not.
pub(crate) fn check(root: &Path, mounts: &[Mount], found: &[Arc<OwnedFd>]) -> Result<(), RuntimeError> {
    let failed = |error: io::Error| RuntimeError::Failed(format!("looking at the root file system: {error}"));
    let root = folder(root).map_err(failed)?;
    for name in SYSTEM {
        let is_folder = match statat(&root, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => FileType::from_raw_mode(stat.st_mode) == FileType::Directory,
            Err(rustix::io::Errno::NOENT) => true,
            Err(error) => return Err(failed(error.into())),
        };
        if !is_folder {
            return Err(RuntimeError::Invalid(format!(
                "the image has a /{name} that is no folder; a container's own is mounted there, so it has to be one"
            )));
        }
    }
    let devices = statat(&root, "dev", AtFlags::SYMLINK_NOFOLLOW).ok();
    for (mount, source) in mounts.iter().zip(found) {
        let target = plain(&mount.target);
        let shown = mount.target.display();
        let there = match find(&root, &target, Links::InRoot) {
            Ok(there) => Some(fstat(&there).map_err(|e| failed(e.into()))?),
            Err(_) => None,
        };
        let same = |a: &rustix::fs::Stat, b: &rustix::fs::Stat| (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino);
        let is_dev = there
            .as_ref()
            .zip(devices.as_ref())
            .is_some_and(|(there, dev)| same(there, dev));
        if is_dev || target == Path::new("dev") || target == Path::new("") {
            return Err(RuntimeError::Invalid(format!(
                "mountPath {shown}: nothing can be mounted on /dev or / as a whole here; mount below it"
            )));
        }
        // What the image has there is hidden by another mount.
        let within = |outer: &Path| target != outer && target.starts_with(outer);
        if SYSTEM.iter().any(|name| within(Path::new(name))) || mounts.iter().any(|other| within(&plain(&other.target)))
        {
            continue;
        }
        let file = !is_folder(source).map_err(failed)?;
        match there.map(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory) {
            Some(true) if file => {
                return Err(RuntimeError::Invalid(format!(
                    "mountPath {shown}: the image has a folder there, and a file is to be mounted"
                )));
            }
            Some(false) if !file => {
                return Err(RuntimeError::Invalid(format!(
                    "mountPath {shown}: the image has a file there, and a folder is to be mounted"
                )));
            }
            None if file && statat(&root, &target, AtFlags::SYMLINK_NOFOLLOW).is_ok() => {
                let made = make_linked_file(root.as_fd(), &target);
                made.map_err(|e| {
                    RuntimeError::Invalid(format!(
                        "mountPath {shown}: the image has a link there that leads nowhere: {e}"
                    ))
                })?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn is_folder(found: &OwnedFd) -> io::Result<bool> {
    Ok(FileType::from_raw_mode(fstat(found)?.st_mode) == FileType::Directory)
}
