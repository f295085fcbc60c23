//! Files of volumes whose contents come from the API.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

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
    remove(link)?;
    symlink(target, link)
}

/// Removes a file, a link or a directory. Not an error if there is none.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let result = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match result {
        Err(error) if !gone(&error) => Err(error),
        _ => Ok(()),
    }
}

/// fsGroup: the group owns the volume and may write. Best effort: without root most groups do not exist.
pub(crate) fn give_to_group(path: &Path, group: u32) {
    if let Err(error) = give(path, group) {
        tracing::debug!(path = %path.display(), group, %error, "cannot apply fsGroup");
    }
}

fn give(path: &Path, group: u32) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    if metadata.is_symlink() {
        return Ok(());
    }
    chown(path, None, Some(group))?;
    let directory = if metadata.is_dir() { 0o2110 } else { 0 };
    let mode = metadata.permissions().mode() | 0o660 | directory;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path(), group)?;
        }
    }
    Ok(())
}
