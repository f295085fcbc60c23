//! The private mount tree of pid 1, as tried: see each step for why it is needed.

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::StatVfsMountFlags;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, mount_bind, mount_change,
    mount_remount, move_mount, open_tree, unmount,
};

use super::{BOOT_FILE, BUNDLES_DIR, EXITS_DIR, IO_DIR, MOUNTS_DIR, OCI_STATE_DIR, PROGRAM, RUN_DIR};

/// A data directory below one of these would be hidden by our own mounts.
const HIDDEN: [&str; 3] = ["/run", "/sys", "/proc"];

/// Makes the mount tree. Answers where the data directory is now.
///
/// # Errors
/// A sentence that names the feature that is missing and what to do.
pub(super) fn set_up(data_dir: Option<&Path>, rootless: bool) -> Result<PathBuf, String> {
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)
        .map_err(|e| refused("making mounts private", e))?;
    let moved = match data_dir {
        Some(dir) if HIDDEN.iter().any(|hidden| dir.starts_with(hidden)) || dir == Path::new("/") => Some(detach(dir)?),
        _ => None,
    };
    mount_proc()?;
    mount_sys(rootless)?;
    tmpfs("/run", "mode=755")?;
    for dir in [
        "/run/netns",
        "/run/lock",
        RUN_DIR,
        EXITS_DIR,
        OCI_STATE_DIR,
        IO_DIR,
        BUNDLES_DIR,
        MOUNTS_DIR,
    ] {
        fs::create_dir_all(dir).map_err(|e| format!("making {dir}: {e}"))?;
    }
    // Sockets to containers, their environment: not even a container with a part of /run is to get there by another user's rights.
    let private = fs::Permissions::from_mode(0o700);
    fs::set_permissions(RUN_DIR, private).map_err(|e| format!("closing {RUN_DIR}: {e}"))?;
    fs::write(BOOT_FILE, uuid::Uuid::new_v4().to_string()).map_err(|e| format!("writing {BOOT_FILE}: {e}"))?;
    let dir = match (data_dir, moved) {
        (Some(dir), None) => dir.to_owned(),
        (_, moved) => {
            let dir = PathBuf::from(RUN_DIR).join("data");
            fs::create_dir(&dir).map_err(|e| format!("making {}: {e}", dir.display()))?;
            if let Some(tree) = moved {
                move_mount(tree, "", rustix::fs::CWD, &dir, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
                    .map_err(|e| refused("mounting the data directory", e))?;
            }
            dir
        }
    };
    try_overlay(&dir)?;
    if let Err(error) = guard_program() {
        // Not vital: the program is called by its other name then.
        let _ = unmount(PROGRAM, UnmountFlags::DETACH);
        let _ = fs::remove_file(PROGRAM);
        tracing::debug!(%error, "the program cannot be guarded against writes");
    }
    Ok(dir)
}

/// A read-only view of our own program for the OCI verbs: the process that enters a container can be reached from inside
/// (`/proc/PID/exe`), and root in there could write to the program through it (CVE-2019-5736).
fn guard_program() -> io::Result<()> {
    // By its path: the link itself leads to a mount of the namespace that we came from, which cannot be bound.
    let (link, path) = (fs::metadata("/proc/self/exe")?, fs::read_link("/proc/self/exe")?);
    let found = fs::metadata(&path)?;
    if (link.dev(), link.ino()) != (found.dev(), found.ino()) {
        return Err(io::Error::other("another file is in its place"));
    }
    fs::write(PROGRAM, "")?;
    mount_bind(&path, PROGRAM)?;
    // Flags that the file system is mounted with outside may not be taken away in a user namespace.
    let kept = rustix::fs::statvfs(PROGRAM)?.f_flag;
    let pairs = [
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
        (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
    ];
    let flags = pairs
        .iter()
        .filter(|(seen, _)| kept.contains(*seen))
        .map(|(_, flag)| *flag);
    let flags = flags.fold(MountFlags::BIND | MountFlags::RDONLY, |all, flag| all | flag);
    Ok(mount_remount(PROGRAM, flags, "")?)
}

fn detach(dir: &Path) -> Result<OwnedFd, String> {
    open_tree(
        rustix::fs::CWD,
        dir,
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
    )
    .map_err(|e| {
        refused(
            "taking the data directory along (choose one outside of /run, /sys and /proc)",
            e,
        )
    })
}

fn mount_proc() -> Result<(), String> {
    mount("proc", "/proc", "proc", MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC, None).map_err(|e| {
        format!(
            "{}. Where parts of /proc are masked, as in an unprivileged Docker container, the kernel refuses it: run on the \
             machine itself, as root, or start the container with `--privileged` or `--security-opt systempaths=unconfined`",
            refused("mounting /proc", e)
        )
    })
}

/// A fresh sysfs shows the devices of our own network namespace. Limits are our own affair (see `crate::cgroup`), and
/// libcontainer cannot be told to leave cgroups alone, so it gets a tree where it finds nothing to do: an empty one where
/// it can see none of the host's hierarchies of version 1 (they are taken away from root's view, or there are none), else
/// the unified one, in which it forgives that it may not write.
fn mount_sys(rootless: bool) -> Result<(), String> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    if !rootless {
        // Detaching takes the mounts below along. No cgroups mounted at all: as good.
        let _ = unmount("/sys/fs/cgroup", UnmountFlags::DETACH);
    }
    mount("sysfs", "/sys", "sysfs", flags, None).map_err(|e| refused("mounting /sys", e))?;
    if !Path::new("/sys/fs/cgroup").is_dir() {
        return Err("the kernel has no cgroups (CONFIG_CGROUPS), which containers need".into());
    }
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").map_err(|e| format!("reading mounts: {e}"))?;
    if rootless && mountinfo.contains(" - cgroup ") {
        mount("none", "/sys/fs/cgroup", "cgroup2", flags, None).map_err(|e| refused("mounting cgroup2", e))
    } else {
        tmpfs("/sys/fs/cgroup", "mode=755")
    }
}

fn tmpfs(target: &str, options: &str) -> Result<(), String> {
    let options = CString::new(options).map_err(|e| format!("mounting {target}: {e}"))?;
    mount(
        "tmpfs",
        target,
        "tmpfs",
        MountFlags::NOSUID | MountFlags::NODEV,
        options.as_c_str(),
    )
    .map_err(|e| refused(&format!("mounting {target}"), e))
}

/// One overlay mount where containers will need them: better one clear sentence now than a failure for each of them.
fn try_overlay(data_dir: &Path) -> Result<(), String> {
    let dir = data_dir.join(format!(".probe-{}", uuid::Uuid::new_v4()));
    let result = overlay_in(&dir);
    let _ = fs::remove_dir_all(&dir);
    result.map_err(|e| {
        format!(
            "cannot mount an overlay file system in {}: {e}. It needs CONFIG_OVERLAY_FS (`modprobe overlay`), without root \
             kernel 5.11 or newer, and a data directory on a local file system such as ext4, xfs, btrfs or tmpfs (not on \
             NFS, nor on another overlay as inside of Docker: use a volume there)",
            data_dir.display()
        )
    })
}

fn overlay_in(dir: &Path) -> io::Result<()> {
    for name in ["lower", "upper", "work", "root"] {
        fs::create_dir_all(dir.join(name))?;
    }
    let options = overlay_options(&[dir.join("lower")], &dir.join("upper"), &dir.join("work"))?;
    mount(
        "overlay",
        dir.join("root"),
        "overlay",
        MountFlags::empty(),
        options.as_c_str(),
    )?;
    unmount(dir.join("root"), UnmountFlags::DETACH)?;
    Ok(())
}

/// Mount options of an overlay. `lower`: topmost first. `userxattr` always, so that layers mean the same to root and to an
/// ordinary user.
pub(crate) fn overlay_options(lower: &[PathBuf], upper: &Path, work: &Path) -> io::Result<CString> {
    let mut options = b"userxattr,lowerdir=".to_vec();
    for (index, dir) in lower.iter().enumerate() {
        if index > 0 {
            options.push(b':');
        }
        escape_into(&mut options, dir);
    }
    for (name, dir) in [("upperdir", upper), ("workdir", work)] {
        options.extend_from_slice(format!(",{name}=").as_bytes());
        escape_into(&mut options, dir);
    }
    Ok(CString::new(options)?)
}

/// The option parser of the kernel splits at colons and commas.
fn escape_into(options: &mut Vec<u8>, path: &Path) {
    use std::os::unix::ffi::OsStrExt as _;
    for byte in path.as_os_str().as_bytes() {
        if matches!(byte, b':' | b',' | b'\\') {
            options.push(b'\\');
        }
        options.push(*byte);
    }
}

fn refused(what: &str, error: rustix::io::Errno) -> String {
    let restricted =
        fs::read_to_string("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").is_ok_and(|v| v.trim() == "1");
    let hint = if restricted && matches!(error, rustix::io::Errno::ACCESS | rustix::io::Errno::PERM) {
        " (AppArmor restricts user namespaces: `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`, or run as root)"
    } else {
        ""
    };
    format!("{what}: {}{hint}", io::Error::from(error))
}

/// The page size is what the kernel copies of a string of options.
pub(crate) fn options_too_long(options: &CStr) -> bool {
    options.to_bytes().len() >= 4095
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_in_paths_are_escaped() {
        let options = overlay_options(&["/a:b".into(), "/c".into()], Path::new("/u,v"), Path::new("/w"));
        assert_eq!(
            options.ok().and_then(|o| o.into_string().ok()).as_deref(),
            Some(r"userxattr,lowerdir=/a\:b:/c,upperdir=/u\,v,workdir=/w")
        );
    }
}
