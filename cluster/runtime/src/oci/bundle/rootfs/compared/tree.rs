//! A tree as people see it, to be compared.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use anyhow::Result;

/// No tar of these tests has later times: what is younger was made while it was unpacked.
const NOW: i64 = 1_700_000_000;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// Type, mode, owner, target or content, attributes, and the first of its names where it has several.
    what: String,
    modified: (i64, i64),
}

/// `whiteouts`: their names may be seen, with nothing behind them.
pub(super) fn of(root: &Path, whiteouts: bool) -> Result<BTreeMap<PathBuf, Seen>> {
    let (mut found, mut names) = (BTreeMap::new(), BTreeMap::new());
    let mut left = vec![PathBuf::new()];
    while let Some(folder) = left.pop() {
        let mut entries = fs::read_dir(root.join(&folder))?.collect::<std::io::Result<Vec<_>>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let (path, metadata) = (folder.join(entry.file_name()), entry.metadata());
            let metadata = match metadata {
                // containerd's overlays may list what a layer hides.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && whiteouts => continue,
                other => other?,
            };
            if metadata.is_dir() {
                left.push(path.clone());
            }
            let id = (metadata.dev(), metadata.ino());
            if !metadata.is_dir() {
                let first: &mut PathBuf = names.entry(id).or_insert_with(|| path.clone());
                if path < *first {
                    *first = path.clone();
                }
            }
            found.insert(
                path,
                (
                    describe(&entry.path(), &metadata)?,
                    id,
                    (metadata.mtime(), metadata.mtime_nsec()),
                ),
            );
        }
    }
    let seen = |(what, id, modified): (String, (u64, u64), _)| {
        let first = names
            .get(&id)
            .map(|first| format!(" is {}", first.display()))
            .unwrap_or_default();
        let what = format!("{what}{first}");
        Seen { what, modified }
    };
    Ok(found.into_iter().map(|(path, parts)| (path, seen(parts))).collect())
}

fn describe(path: &Path, metadata: &fs::Metadata) -> Result<String> {
    let content = if metadata.is_symlink() {
        fs::read_link(path)?.display().to_string()
    } else if metadata.is_file() {
        let content = fs::read(path)?;
        format!(
            "{} bytes {}",
            content.len(),
            &hex::encode(Sha256::digest(&content))[..8]
        )
    } else {
        String::new()
    };
    let mut names = vec![0_u8; 1 << 16];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap_or(0);
    let mut attributes = Vec::new();
    for name in names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty() && !name.windows(8).any(|part| part == b"overlay."))
    {
        let mut value = vec![0_u8; 1 << 16];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..])?;
        attributes.push(format!(
            "{}={}",
            std::ffi::OsStr::from_bytes(name).display(),
            hex::encode(&value[..length])
        ));
    }
    attributes.sort();
    let (mode, uid, gid) = (metadata.mode(), metadata.uid(), metadata.gid());
    Ok(format!("{mode:o} {uid}:{gid} {content} {attributes:?}"))
}

/// What is not the same, a line each: path, the wanted, the other.
pub(super) fn differences(wanted: &BTreeMap<PathBuf, Seen>, got: &BTreeMap<PathBuf, Seen>) -> Vec<String> {
    let paths: std::collections::BTreeSet<_> = wanted.keys().chain(got.keys()).collect();
    let mut lines = Vec::new();
    for path in paths {
        let (wanted, got) = (wanted.get(path), got.get(path));
        let same = match (wanted, got) {
            (Some(wanted), Some(got)) => {
                // A folder that no layer has an entry for was made just now, by one of them.
                let made = wanted.modified.0 > NOW || got.modified.0 > NOW;
                wanted.what == got.what && (wanted.modified == got.modified || (made && wanted.what.starts_with('4')))
            }
            _ => false,
        };
        if !same {
            lines.push(format!("{}\n  {wanted:?}\n  {got:?}", path.display()));
        }
    }
    lines
}
