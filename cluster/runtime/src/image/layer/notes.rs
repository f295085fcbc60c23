//! What is to be known of a layer beside its files. Pure.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

const IMPLIED: u8 = b'i';
const OPAQUE: u8 = b'o';
const HIDING: u8 = b'h';

/// Paths without links, relative to the root.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::image) struct Notes {
    /// Folders that the layer has no entry for, made for what is in them. Their mode and owner are those of the layers below.
    pub(in crate::image) implied: BTreeSet<PathBuf>,
    /// Folders that hide all that lower layers have in them. The root is the empty path.
    pub(in crate::image) opaque: BTreeSet<PathBuf>,
    /// Folders with whiteouts in them.
    pub(in crate::image) hiding: BTreeSet<PathBuf>,
}

impl Notes {
    /// As a file has them: what it is, the path, a zero.
    pub(in crate::image) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (kind, paths) in [(IMPLIED, &self.implied), (OPAQUE, &self.opaque), (HIDING, &self.hiding)] {
            for path in paths {
                bytes.push(kind);
                bytes.extend_from_slice(path.as_os_str().as_bytes());
                bytes.push(0);
            }
        }
        bytes
    }

    pub(in crate::image) fn of(bytes: &[u8]) -> Self {
        let mut notes = Self::default();
        for line in bytes.split(|byte| *byte == 0) {
            let path = |path: &[u8]| Path::new(OsStr::from_bytes(path)).to_owned();
            match line {
                [IMPLIED, rest @ ..] => drop(notes.implied.insert(path(rest))),
                [OPAQUE, rest @ ..] => drop(notes.opaque.insert(path(rest))),
                [HIDING, rest @ ..] => drop(notes.hiding.insert(path(rest))),
                _ => {}
            }
        }
        notes
    }

    pub(in crate::image) fn is_empty(&self) -> bool {
        self.implied.is_empty() && self.opaque.is_empty() && self.hiding.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_read_as_they_are_written() {
        let notes = Notes {
            implied: [PathBuf::from("a"), PathBuf::from("a/line\nbreak")].into(),
            opaque: [PathBuf::new(), PathBuf::from("o")].into(),
            hiding: [PathBuf::from("h")].into(),
        };
        assert_eq!(Notes::of(&notes.to_bytes()), notes);
        assert!(Notes::of(b"").is_empty() && !notes.is_empty());
    }
}
