//! Unpacks one layer for use below an overlay: whiteouts take the overlay's form, and nothing leaves the root.

mod entries;
mod folders;
mod notes;
mod packed;
mod place;
mod records;
mod sparse;

use std::io::{self, BufReader, Read};
use std::path::{Component, Path, PathBuf};

use sha2::{Digest as _, Sha256};

use self::entries::Entries;
use self::place::Tree;
use super::ImageError;

pub(super) use self::notes::Notes;
pub(super) use self::packed::{decompressed, most_of};

/// Several times what the largest distributions have.
const ENTRIES_MAX: u32 = 2_000_000;
/// Folders in folders; a path has 4,096 bytes at most.
const DEPTH_MAX: usize = 1024;
/// What is read of a stream at once.
const BUFFER_BYTES: usize = 1 << 17;

fn invalid(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// What came of a layer.
#[derive(Debug)]
pub(super) struct Unpacked {
    /// Digest of the stream (the layer's diffID, hexadecimal).
    pub(super) diff_id: String,
    /// Bytes of all files.
    pub(super) size: u64,
    /// What its files alone do not say.
    pub(super) notes: Notes,
}

/// Unpacks the tar stream of a layer below `root`, which exists and is empty.
///
/// # Errors
/// It is no tar, or not one that an honest tool makes: see the limits above.
pub(super) fn unpack(stream: impl Read, root: &Path) -> Result<Unpacked, ImageError> {
    let stream = Hashing {
        inner: stream,
        hash: Sha256::new(),
    };
    let mut stream = BufReader::with_capacity(BUFFER_BYTES, stream);
    let (size, notes) = unpack_entries(&mut stream, root).map_err(ImageError::io(root))?;
    // The digest covers what is behind the end mark, too.
    io::copy(&mut stream, &mut io::sink()).map_err(ImageError::io(root))?;
    Ok(Unpacked {
        diff_id: hex::encode(stream.into_inner().hash.finalize()),
        size,
        notes,
    })
}

/// Unpacks a tar that is no layer.
///
/// # Errors
/// As [`unpack`].
pub(super) fn unpack_archive(stream: impl Read, root: &Path) -> io::Result<()> {
    unpack_entries(BufReader::with_capacity(BUFFER_BYTES, stream), root).map(drop)
}

struct Hashing<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.hash.update(&buffer[..length]);
        Ok(length)
    }
}

fn unpack_entries(stream: impl Read, root: &Path) -> io::Result<(u64, Notes)> {
    let mut tree = Tree::of(root)?;
    let mut entries = Entries::new(stream);
    let (mut size, mut count) = (0_u64, 0);
    while let Some(entry) = entries.next()? {
        count += 1;
        if count > ENTRIES_MAX {
            return Err(invalid(format!("it has more than {ENTRIES_MAX} entries")));
        }
        // A file with holes may say that it is larger than all disks; whoever copies it writes zeros.
        let whole = size.saturating_add(entry.size);
        if entry.pieces.is_some() && whole > most_of(entries.read) {
            return Err(invalid(format!("{} is almost nothing but holes", entry.path.display())));
        }
        let path = relative(&entry.path)?;
        let written = tree.add(&path, &entry, &mut entries);
        size = size.saturating_add(written.map_err(|e| about(&path, e))?);
    }
    Ok((size, tree.finish()))
}

/// Says which entry it is that an error is about, and keeps its kind: a full disk is known by it.
fn about(path: &Path, error: io::Error) -> io::Error {
    match error.raw_os_error() {
        // Others name it themselves.
        None => error,
        Some(_) => io::Error::new(error.kind(), format!("{}: {error}", path.display())),
    }
}

/// A path of an archive, made relative and plain.
fn relative(path: &Path) -> io::Result<PathBuf> {
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

#[cfg(test)]
mod tests;
