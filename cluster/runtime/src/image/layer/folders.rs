//! What is remembered of a layer's folders while it is unpacked.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, Timespec, Timestamps, fchmod, futimens};

use super::invalid::invalid;
use super::notes::Notes;
use crate::below;

/// Names of folders are kept until the end, each with about so much beside it.
const FOLDERS_BYTES_MAX: usize = 32 << 20;
const FOLDER_BYTES: usize = 96;

/// Folders by their paths, which have no links in them. Their mode and time come when everything is inside: a folder may forbid writes to
/// its owner.
#[derive(Default)]
pub(super) struct Folders {
    pending: BTreeMap<PathBuf, (Mode, (i64, u32))>,
    notes: Notes,
    bytes: usize,
}

impl Folders {
    /// There is an entry for it.
    pub(super) fn told(&mut self, path: PathBuf, mode: Mode, modified: (i64, u32)) -> io::Result<()> {
        self.count(&path)?;
        self.notes.implied.remove(&path);
        self.pending.insert(path, (mode, modified));
        Ok(())
    }

    /// It was made for what is in it.
    pub(super) fn implied(&mut self, path: &Path) -> io::Result<()> {
        self.count(path)?;
        self.notes.implied.insert(path.to_owned());
        Ok(())
    }

    pub(super) fn opaque(&mut self, path: &Path) -> io::Result<()> {
        self.count(path)?;
        self.notes.opaque.insert(path.to_owned());
        Ok(())
    }

    /// There is a whiteout in it.
    pub(super) fn hiding(&mut self, path: &Path) -> io::Result<()> {
        if self.notes.hiding.insert(path.to_owned()) {
            self.count(path)?;
        }
        Ok(())
    }

    fn count(&mut self, path: &Path) -> io::Result<()> {
        self.bytes += path.as_os_str().len() + FOLDER_BYTES;
        if self.bytes > FOLDERS_BYTES_MAX {
            return Err(invalid(format!(
                "its folders take more than {FOLDERS_BYTES_MAX} bytes of memory"
            )));
        }
        Ok(())
    }

    /// Something else has taken the place of whatever was there.
    pub(super) fn forget(&mut self, path: &Path) {
        // Paths are in the order of their components: those below one follow it.
        let below = |other: &&PathBuf| other.starts_with(path);
        let start = (std::ops::Bound::Included(path), std::ops::Bound::Unbounded);
        let folders = self.pending.range::<Path, _>(start).map(|(path, _)| path);
        for path in folders.take_while(below).cloned().collect::<Vec<_>>() {
            self.pending.remove(&path);
        }
        for notes in [&mut self.notes.implied, &mut self.notes.opaque, &mut self.notes.hiding] {
            for path in notes
                .range::<Path, _>(start)
                .take_while(below)
                .cloned()
                .collect::<Vec<_>>()
            {
                notes.remove(&path);
            }
        }
    }

    /// Sets what was put off, inner folders first.
    pub(super) fn finish(self, root: &OwnedFd) -> Notes {
        for (path, (mode, modified)) in self.pending.into_iter().rev() {
            if let Ok(folder) = below::plain_directory(root, &path) {
                let _ = fchmod(&folder, mode);
                let _ = futimens(&folder, &times(modified));
            }
        }
        self.notes
    }
}

/// The time of a change, which counts as that of the last look, too.
pub(super) fn times((seconds, nanoseconds): (i64, u32)) -> Timestamps {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}
