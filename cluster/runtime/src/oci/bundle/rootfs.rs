//! A container's root file system: an overlay of its image's layers and a directory of its own.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::below::{Links, directory, find_or_make, folder, plain};
use crate::container::Mount;
use crate::host::mounts::{options_too_long, overlay_options};
use crate::removal::remove_all;

/// Mounts the root file system of a container in its directory. Answers where. Nodes of devices, which a layer of an earlier version may
/// hold or the container make, open nothing, unless it is `privileged`.
pub(crate) fn mount_rootfs(dir: &Path, layers: &[PathBuf], privileged: bool) -> io::Result<PathBuf> {
    let flags = if privileged {
        MountFlags::empty()
    } else {
        MountFlags::NODEV
    };
    let (root, upper, work) = (dir.join("rootfs"), dir.join("upper"), dir.join("work"));
    for path in [&root, &upper, &work] {
        fs::create_dir_all(path)?;
    }
    // It is the container's `/`, for whoever runs in there, whatever our umask is.
    fs::set_permissions(&upper, fs::Permissions::from_mode(0o755))?;
    // An overlay wants a lower layer even where an image has none.
    let empty = dir.join("empty");
    let lower = if layers.is_empty() {
        fs::create_dir_all(&empty)?;
        std::slice::from_ref(&empty)
    } else {
        layers
    };
    let options = overlay_options(lower, &upper, &work)?;
    if options_too_long(&options) {
        mount_many(dir, lower, flags)?;
    } else {
        mount("overlay", &root, "overlay", flags, options.as_c_str())?;
    }
    Ok(root)
}

/// The same for images with more layers than fit into one string: short names for them, relative to a working directory
/// that one thread has for itself. Works on every kernel, for as many layers as an overlay may have (500).
fn mount_many(dir: &Path, lower: &[PathBuf], flags: MountFlags) -> io::Result<()> {
    let links = dir.join("l");
    fs::create_dir_all(&links)?;
    let short = |number: usize| PathBuf::from(format!("l/{number}"));
    for (number, layer) in lower.iter().enumerate() {
        std::os::unix::fs::symlink(layer, dir.join(short(number)))?;
    }
    let lower: Vec<PathBuf> = (0..lower.len()).map(short).collect();
    let options = overlay_options(&lower, Path::new("upper"), Path::new("work"))?;
    let mounted = std::thread::scope(|scope| {
        let thread = scope.spawn(|| -> io::Result<()> {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS)?;
            rustix::process::chdir(dir)?;
            Ok(mount("overlay", "rootfs", "overlay", flags, options.as_c_str())?)
        });
        thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("mounting broke off")))
    });
    remove_all(&links)?;
    mounted
}

/// The runtime does not make the working directory. It is made where it is to be seen: in the root file system, or in the volume that it is in.
pub(crate) fn make_working_dir(root: &Path, path: &str, mounts: &[Mount], found: &[Arc<OwnedFd>]) -> io::Result<()> {
    let path = plain(Path::new(path));
    // The last of those on the way hides the others: inner ones come later.
    let around = |mount: &Mount| path.starts_with(plain(&mount.target));
    let Some((mount, volume)) = mounts.iter().zip(found).rev().find(|(mount, _)| around(mount)) else {
        return directory(folder(root)?, &path).map(drop);
    };
    match path.strip_prefix(plain(&mount.target)) {
        Ok(rest) if !mount.read_only && !rest.as_os_str().is_empty() => {
            find_or_make(volume.as_ref(), rest, Links::Beneath).map(drop)
        }
        _ => Ok(()),
    }
}

/// Unmounts what [`mount_rootfs`] mounted; nothing there is no error.
pub(crate) fn unmount_rootfs(dir: &Path) {
    let _ = unmount(dir.join("rootfs"), UnmountFlags::DETACH);
}

/// Removes the directory of a container with everything in it.
pub(crate) fn remove(dir: &Path) -> io::Result<()> {
    unmount_rootfs(dir);
    remove_all(dir)
}

#[cfg(test)]
mod compared;
