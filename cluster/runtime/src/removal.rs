//! Removal of what pods and images have made: as deep as they liked, and with mounts left in it.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, Mode, OFlags, RenameFlags, ResolveFlags, chmodat, fstat, openat, openat2, renameat_with,
    unlinkat,
};
use rustix::io::Errno;

/// A folder is read so often until it is empty; more, and somebody fills it as fast as it is emptied.
const PASSES: usize = 1_000_000;

/// What is gone already need not be removed.
pub(crate) fn removed(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Removes a file, a link (not what it leads to) or a folder with everything in it; nothing there is no error.
///
/// It needs three descriptors and one frame of the stack however deep the folder is: folders within folders are first moved up, next to
/// those that they are in. It goes by descriptor, so nobody who swaps a folder for a link leads it elsewhere, and it enters no mount:
/// what is mounted there is not ours to empty.
///
/// # Errors
/// The first thing that cannot be removed, among them a place that something is mounted on; the rest of its folder may be left.
pub fn remove_all(path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a path without a name cannot be removed",
        ));
    };
    let parent = if parent.as_os_str().is_empty() {
        Path::new(".")
    } else {
        parent
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match openat(CWD, parent, flags, Mode::empty()) {
        Ok(parent) => remove_all_at(parent.as_fd(), name),
        Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// As [`remove_all`], of a name in an open folder.
///
/// # Errors
/// As there.
pub fn remove_all_at(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // POSIX says EPERM where Linux says EISDIR.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let top = enter(parent, name)?;
    let mut moved = 0;
    for _ in 0..PASSES {
        let mut empty = true;
        for entry in Dir::read_from(&top)? {
            let entry = entry?;
            if matches!(entry.file_name().to_bytes(), b"." | b"..") {
                continue;
            }
            empty = false;
            match unlinkat(&top, entry.file_name(), AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::ISDIR | Errno::PERM) => {
                    let inner = enter(top.as_fd(), OsStr::from_bytes(entry.file_name().to_bytes()))?;
                    move_up(&inner, &top, &mut moved)?;
                    removed_at(unlinkat(&top, entry.file_name(), AtFlags::REMOVEDIR))?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        if empty {
            return removed_at(unlinkat(parent, name, AtFlags::REMOVEDIR));
        }
    }
    Err(being_filled())
}

/// Empties `inner`: what is a folder in it goes to `top`.
fn move_up(inner: &OwnedFd, top: &OwnedFd, moved: &mut u64) -> io::Result<()> {
    for _ in 0..PASSES {
        let mut empty = true;
        for entry in Dir::read_from(inner)? {
            let entry = entry?;
            if matches!(entry.file_name().to_bytes(), b"." | b"..") {
                continue;
            }
            empty = false;
            match unlinkat(inner, entry.file_name(), AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::ISDIR | Errno::PERM) => loop {
                    // It changes with the folder that it is in.
                    enter(inner.as_fd(), OsStr::from_bytes(entry.file_name().to_bytes()))?;
                    *moved += 1;
                    let name = format!(".removed-{moved}");
                    match renameat_with(inner, entry.file_name(), top, &name, RenameFlags::NOREPLACE) {
                        Ok(()) | Err(Errno::NOENT) => break,
                        Err(Errno::EXIST) => {}
                        Err(error) => return Err(error.into()),
                    }
                },
                Err(error) => return Err(error.into()),
            }
        }
        if empty {
            return Ok(());
        }
    }
    Err(being_filled())
}

fn being_filled() -> io::Error {
    io::Error::new(io::ErrorKind::ResourceBusy, "somebody goes on writing to it")
}

/// Opens a folder to be emptied.
fn enter(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = |flags| openat2(parent, name, flags, Mode::empty(), resolve);
    let opened = match open(flags) {
        Err(Errno::ACCESS) => {
            allow(&open(OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC)?)?;
            open(flags)
        }
        other => other,
    };
    match opened {
        Err(Errno::XDEV) => Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            format!("something is mounted on {}", name.display()),
        )),
        Err(error) => Err(error.into()),
        Ok(folder) => {
            let owner = Mode::RWXU.as_raw_mode();
            if fstat(&folder)?.st_mode & owner != owner {
                // Of another user it may be that root removes; the rest is told by what is tried next.
                let _ = allow(&folder);
            }
            Ok(folder)
        }
    }
}

/// Lets an ordinary user, its owner, into a folder whose mode does not: images have such folders.
fn allow(folder: &OwnedFd) -> io::Result<()> {
    // A descriptor that only names something cannot be changed by itself.
    let path = format!("/proc/self/fd/{}", folder.as_raw_fd());
    Ok(chmodat(CWD, path, Mode::RWXU, AtFlags::empty())?)
}

fn removed_at(result: rustix::io::Result<()>) -> io::Result<()> {
    removed(result.map_err(Into::into))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// Folders within each other, deeper than any path reaches.
    fn deep(top: &Path, depth: usize) {
        fs::create_dir(top).unwrap();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut at = openat(CWD, top, flags, Mode::empty()).unwrap();
        for level in 0..depth {
            rustix::fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
            if level % 100 == 0 {
                let write = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
                openat(&at, "file", write, Mode::RUSR).unwrap();
                rustix::fs::mkdirat(&at, ".removed-1", Mode::RWXU).unwrap();
            }
            at = openat(&at, "d", flags, Mode::empty()).unwrap();
        }
    }

    #[test]
    fn a_folder_as_deep_as_a_pod_likes_is_removed_on_a_small_stack() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("volume");
        deep(&top, 20_000);
        let thread = std::thread::Builder::new().stack_size(128 << 10);
        let result = thread.spawn(move || remove_all(&top));
        result.unwrap().join().unwrap().unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_links_lead_to_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (kept, volume) = (dir.path().join("kept"), dir.path().join("volume"));
        fs::create_dir_all(kept.join("inner")).unwrap();
        fs::write(kept.join("file"), "x").unwrap();
        fs::create_dir_all(volume.join("a/b")).unwrap();
        symlink(&kept, volume.join("a/b/link")).unwrap();
        symlink(&kept, dir.path().join("link")).unwrap();
        remove_all(&dir.path().join("link")).unwrap();
        remove_all(&volume).unwrap();
        assert!(kept.join("inner").exists() && kept.join("file").exists() && !volume.exists());
    }

    /// An image's folders may be closed to whoever owns them (Nix makes all of them 0555).
    #[test]
    fn an_ordinary_user_removes_what_it_may_not_write_to() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let user = rustix::fs::Uid::from_raw(65_534);
        let root = rustix::process::geteuid().is_root();
        if root {
            std::os::unix::fs::chown(dir.path(), Some(user.as_raw()), None).unwrap();
        }
        let remove = || {
            if root {
                rustix::thread::set_thread_uid(user).unwrap();
            }
            let top = dir.path().join("layer");
            for (number, mode) in [0o555, 0o000, 0o300, 0o700].into_iter().enumerate() {
                let deep = top.join(number.to_string()).join("a/b");
                fs::create_dir_all(&deep).unwrap();
                fs::write(deep.join("file"), "x").unwrap();
                for folder in [&deep, deep.parent().unwrap(), &top.join(number.to_string())] {
                    fs::set_permissions(folder, fs::Permissions::from_mode(mode)).unwrap();
                }
            }
            fs::set_permissions(&top, fs::Permissions::from_mode(0o500)).unwrap();
            remove_all(&top).unwrap();
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        };
        std::thread::scope(|scope| scope.spawn(remove).join().unwrap());
    }

    #[test]
    fn what_is_not_there_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        remove_all(&dir.path().join("none")).unwrap();
        remove_all(&dir.path().join("no/such/folder")).unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        assert!(remove_all(&dir.path().join("file/below")).is_err());
    }
}
