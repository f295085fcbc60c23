//! Files of volumes whose contents come from the API.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::Path;

use afloat_runtime::removal::remove_all;
use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, Stat, fstat, openat};
use rustix::io::Errno;

/// One file of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    /// Relative to the volume.
    pub(crate) path: String,
    pub(crate) bytes: Vec<u8>,
    /// Permission bits.
    pub(crate) mode: u32,
    /// Whose it is. None: the node agent's.
    pub(crate) owner: Option<u32>,
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
