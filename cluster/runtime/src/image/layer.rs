//! Unpacks one layer for use below an overlay: whiteouts take the overlay's form, and nothing leaves the root.

mod entries;
mod folders;
mod invalid;
mod notes;
mod numbers;
mod packed;
mod place;
mod records;
mod relative;
mod sparse;

use std::io::{self, BufReader, Read};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use self::entries::Entries;
use self::invalid::invalid;
use self::place::Tree;
use self::relative::relative;
use super::ImageError;

pub(super) use self::notes::Notes;
pub(super) use self::packed::{decompressed, most_of};

/// Several times what the largest distributions have.
const ENTRIES_MAX: u32 = 2_000_000;
/// What is read of a stream at once.
const BUFFER_BYTES: usize = 1 << 17;

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
        size = size.saturating_add(tree.add(&path, &entry, &mut entries)?);
    }
    Ok((size, tree.finish()))
}

#[cfg(test)]
mod tests;
