//! A container's root file system: an overlay of its image's layers and a directory of its own.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount, move_mount, unmount,
};

use crate::host::mounts::{options_too_long, overlay_options};
use crate::image::directory_below;

/// Mounts the root file system of a container in its directory. Answers where.
pub(super) fn mount_rootfs(dir: &Path, layers: &[PathBuf]) -> io::Result<PathBuf> {
    let (root, upper, work) = (dir.join("rootfs"), dir.join("upper"), dir.join("work"));
    for path in [&root, &upper, &work] {
        fs::create_dir_all(path)?;
    }
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
        mount_many(lower, &upper, &work, &root)?;
    } else {
        mount("overlay", &root, "overlay", MountFlags::empty(), options.as_c_str())?;
    }
    Ok(root)
}

/// One option after the other, for images with more layers than fit into one string (kernel 6.5 and newer).
fn mount_many(lower: &[PathBuf], upper: &Path, work: &Path, root: &Path) -> io::Result<()> {
    let context: OwnedFd = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_flag(&context, "userxattr")?;
    for layer in lower {
        fsconfig_set_string(&context, "lowerdir+", layer)?;
    }
    fsconfig_set_string(&context, "upperdir", upper)?;
    fsconfig_set_string(&context, "workdir", work)?;
    fsconfig_create(&context)?;
    let made = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    Ok(move_mount(
        &made,
        "",
        CWD,
        root,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )?)
}

/// The runtime does not make the working directory.
pub(super) fn make_working_dir(root: &Path, path: &str) -> io::Result<()> {
    let root = openat(
        CWD,
        root,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    directory_below(&root, Path::new(path.trim_start_matches('/'))).map(drop)
}

/// Unmounts what [`mount_rootfs`] mounted; nothing there is no error.
pub(super) fn unmount_rootfs(dir: &Path) {
    let _ = unmount(dir.join("rootfs"), UnmountFlags::DETACH);
}

/// Removes the directory of a container with everything in it.
pub(super) fn remove(dir: &Path) -> io::Result<()> {
    unmount_rootfs(dir);
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
