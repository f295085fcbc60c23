//! Files of volumes whose contents come from the API.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::Path;

use afloat_runtime::removal::remove_all;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, Stat, chmodat, chownat, fstat, openat};
use rustix::io::Errno;

/// One file of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    /// Relative to the volume.
    pub(crate) path: String,
    pub(crate) bytes: Vec<u8>,
    /// Permission bits.
    pub(crate) mode: u32,
}

/// Makes `link` lead to `target`, whatever it was before.
pub(crate) fn link(target: &Path, link: &Path) -> io::Result<()> {
    if fs::read_link(link).is_ok_and(|known| known == target) {
        return Ok(());
    }
    if let Some(parent) = link.parent() {
        fs::create_dir_all(parent)?;
    }
    remove_all(link)?;
    symlink(target, link)
}

/// fsGroup: the group owns the volume and may write. Best effort: without root most groups do not exist.
pub(crate) fn give_to_group(path: &Path, group: u32) {
    if let Err(error) = give(path, group) {
        tracing::debug!(path = %path.display(), group, %error, "cannot apply fsGroup");
    }
}

/// How deep folders of a volume are looked into. Deeper ones are nobody's who has a use for them.
const DEPTH: usize = 512;

/// Calls something for a file or folder and for all that is in it. Each thing is opened once, by its name in the folder that is open already,
/// and never through a link: a pod that shares the volume may put one in its place at any time.
///
/// # Errors
/// The first that cannot be looked at, of `each` too, or folders that are too deep.
pub(crate) fn walk(path: &Path, each: &mut dyn FnMut(&OwnedFd, &Stat) -> io::Result<()>) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let top = openat(CWD, path, flags, Mode::empty())?;
    let mut look = |found: &OwnedFd| -> io::Result<Option<Dir>> {
        let stat = fstat(found)?;
        each(found, &stat)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Ok(None);
        }
        // A descriptor that only names a folder cannot be read, nor can a copy of it, which `Dir::read_from` would make.
        let readable = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match openat(found, ".", readable, Mode::empty()).and_then(Dir::new) {
            Ok(folder) => Ok(Some(folder)),
            // It was removed meanwhile.
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    };
    let mut open: Vec<Dir> = look(&top)?.into_iter().collect();
    while let Some(folder) = open.last_mut() {
        let Some(entry) = folder.next() else {
            open.pop();
            continue;
        };
        let entry = entry?;
        if matches!(entry.file_name().to_bytes(), b"." | b"..") {
            continue;
        }
        let found = match openat(folder.fd()?, entry.file_name(), flags, Mode::empty()) {
            Err(Errno::NOENT) => continue,
            other => other?,
        };
        if let Some(inner) = look(&found)? {
            if open.len() == DEPTH {
                return Err(io::Error::other(format!("folders are more than {DEPTH} deep")));
            }
            open.push(inner);
        }
    }
    Ok(())
}

fn give(path: &Path, group: u32) -> io::Result<()> {
    walk(path, &mut |found, stat| give_one(found, stat, group))
}

/// Gives one thing to the group.
fn give_one(found: &OwnedFd, stat: &Stat, group: u32) -> io::Result<()> {
    let kind = FileType::from_raw_mode(stat.st_mode);
    if kind == FileType::Symlink {
        return Ok(());
    }
    chownat(found, "", None, Some(Gid::from_raw(group)), AtFlags::EMPTY_PATH)?;
    let directory = if kind == FileType::Directory { 0o2110 } else { 0 };
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777 | 0o660 | directory);
    // A descriptor that only names a file has no fchmod before Linux 6.6; its path in /proc leads to that file alone.
    let own = format!("/proc/self/fd/{}", found.as_raw_fd());
    Ok(chmodat(CWD, own.as_str(), mode, AtFlags::empty())?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    use super::*;

    #[test]
    fn everything_in_a_volume_is_the_groups_and_nothing_outside() {
        let dir = tempfile::tempdir().unwrap();
        let (volume, outside) = (dir.path().join("volume"), dir.path().join("outside"));
        fs::create_dir_all(volume.join("a/b")).unwrap();
        for file in [volume.join("a/b/file"), outside.clone()] {
            fs::write(&file, "").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        }
        symlink(&outside, volume.join("a/link")).unwrap();
        let own = fs::metadata(dir.path()).unwrap().gid();
        // An ordinary user may give to its own group only.
        let group = if rustix::process::geteuid().is_root() {
            own + 1234
        } else {
            own
        };
        give_to_group(&volume, group);
        for (path, mode) in [("", 0o2770), ("a", 0o2770), ("a/b", 0o2770), ("a/b/file", 0o660)] {
            let found = fs::metadata(volume.join(path)).unwrap();
            assert_eq!((found.gid(), found.mode() & 0o7770), (group, mode), "{path}");
        }
        let found = fs::metadata(&outside).unwrap();
        assert_eq!((found.gid(), found.mode() & 0o777), (own, 0o600));
    }
}
