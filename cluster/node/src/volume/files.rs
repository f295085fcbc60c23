//! Files of volumes whose contents come from the API.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Component, Path};

/// One file of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    /// Relative to the volume.
    pub(crate) path: String,
    pub(crate) bytes: Vec<u8>,
    /// Permission bits.
    pub(crate) mode: u32,
}

/// Makes the directory hold these files and no others; each file is replaced as a whole, never seen half-written.
pub(crate) fn write_files(dir: &Path, files: &[File]) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let mut wanted = BTreeSet::new();
    for file in files {
        let relative = Path::new(&file.path);
        if !relative.components().all(|part| matches!(part, Component::Normal(_))) {
            let message = format!("path {:?} must be relative and must not contain '..'", file.path);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        if let Some(Component::Normal(first)) = relative.components().next() {
            wanted.insert(first.to_owned());
        }
        let path = dir.join(relative);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let name = relative.file_name().unwrap_or_default().to_string_lossy();
        let fresh = path.with_file_name(format!(".{name}.new"));
        fs::write(&fresh, &file.bytes)?;
        fs::set_permissions(&fresh, fs::Permissions::from_mode(file.mode & 0o777))?;
        fs::rename(&fresh, &path)?;
    }
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if wanted.contains(&entry.file_name()) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_exactly_what_was_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let file = |path: &str, text: &str| File {
            path: path.into(),
            bytes: text.into(),
            mode: 0o640,
        };
        write_files(dir.path(), &[file("a", "1"), file("d/b", "2")]).unwrap();
        write_files(dir.path(), &[file("d/b", "3"), file("c", "4")]).unwrap();
        assert!(!dir.path().join("a").exists());
        assert_eq!(fs::read_to_string(dir.path().join("d/b")).unwrap(), "3");
        assert_eq!(
            fs::metadata(dir.path().join("c")).unwrap().permissions().mode() & 0o777,
            0o640
        );
        assert!(write_files(dir.path(), &[file("../x", "")]).is_err());
    }
}
