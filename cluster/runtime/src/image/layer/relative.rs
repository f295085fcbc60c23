//! Paths of an archive. Pure.

use std::io;
use std::path::{Component, Path, PathBuf};

use super::invalid::invalid;

/// Folders in folders; a path has 4,096 bytes at most.
const DEPTH_MAX: usize = 1024;

/// A path of an archive, made relative and plain.
pub(super) fn relative(path: &Path) -> io::Result<PathBuf> {
    if path.components().take(DEPTH_MAX + 1).count() > DEPTH_MAX {
        return Err(invalid(format!("it has folders more than {DEPTH_MAX} deep")));
    }
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => plain.push(name),
            Component::ParentDir if plain.pop() => {}
            Component::RootDir | Component::CurDir => {}
            _ => return Err(invalid(format!("{} leaves the archive", path.display()))),
        }
    }
    Ok(plain)
}
