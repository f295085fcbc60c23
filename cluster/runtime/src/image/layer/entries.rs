//! Reads a tar as strangers write it.
//!
//! Not the `tar` crate's reader: it ends PAX records at line breaks, which attributes such as `security.capability` may hold; it knows
//! neither PAX' times nor its files with holes; and it believes the sizes that some tools give to folders and links. Where the formats
//! leave a choice, it is the one of Go's archive/tar, which other container runtimes read layers with.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use super::invalid::invalid;
use super::numbers::{number, unsigned};
use super::records::Records;
use super::sparse::{self, Piece};

/// All headers of one entry, long names and PAX records with extended attributes among them: an attribute has 64 KiB at most, a path 4.
pub(super) const HEADERS_BYTES_MAX: usize = 1 << 20;
const BLOCK: usize = 512;

/// What an entry makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Folder,
    /// A symbolic link.
    Link,
    HardLink,
    Pipe,
    /// A device, or what a tar has beside files.
    Other,
}

/// One entry, as its headers say it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) path: PathBuf,
    pub(super) kind: Kind,
    /// Of links.
    pub(super) target: PathBuf,
    /// Permissions, twelve bits.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Seconds and nanoseconds of its last change.
    pub(super) modified: (i64, u32),
    /// Bytes of a file, its holes among them.
    pub(super) size: u64,
    /// Extended attributes.
    pub(super) attributes: Vec<(OsString, Vec<u8>)>,
    /// Of a file with holes: what is in between, in order, none over another.
    pub(super) pieces: Option<Vec<Piece>>,
}

/// The entries of a tar, one after the other. Reading from it gives what is left of the present one's data.
pub(super) struct Entries<R> {
    stream: R,
    data_left: u64,
    padding: u64,
    headers_left: usize,
    /// Bytes that were read so far.
    pub(super) read: u64,
}

/// What headers say about the entry that follows them.
#[derive(Default)]
struct About {
    name: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    records: Records,
}

impl<R: Read> Entries<R> {
    pub(super) fn new(stream: R) -> Self {
        Self {
            stream,
            data_left: 0,
            padding: 0,
            headers_left: 0,
            read: 0,
        }
    }

    /// The next entry; what was not read of the last one is passed over. None: the end.
    pub(super) fn next(&mut self) -> io::Result<Option<Entry>> {
        self.skip()?;
        self.headers_left = HEADERS_BYTES_MAX;
        let mut about = About::default();
        loop {
            let Some(block) = self.block()? else { return Ok(None) };
            let Some(header) = Header::of(&block)? else {
                return Ok(None);
            };
            match header.kind() {
                b'L' => about.name = Some(until_zero(&self.small(header.size()?)?).to_vec()),
                b'K' => about.target = Some(until_zero(&self.small(header.size()?)?).to_vec()),
                b'x' | b'X' => about.records = Records::read(&self.small(header.size()?)?)?,
                _ => return self.entry(&header, about).map(Some),
            }
        }
    }

    fn entry(&mut self, header: &Header<'_>, about: About) -> io::Result<Entry> {
        let About { name, target, records } = about;
        let path = name.or_else(|| records.path.clone()).unwrap_or_else(|| header.path());
        let kind = match header.kind() {
            // Before POSIX, folders were told by their names.
            0 if path.ends_with(b"/") => Kind::Folder,
            0 | b'0' | b'7' | b'S' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Link,
            b'5' => Kind::Folder,
            b'6' => Kind::Pipe,
            _ => Kind::Other,
        };
        // Some tools write sizes where there is no data.
        let bare = matches!(header.kind(), b'1'..=b'6') || kind == Kind::Folder;
        let stored = if bare {
            0
        } else {
            records.size.map_or_else(|| header.size(), Ok)?
        };
        let mut entry = Entry {
            path: PathBuf::from(OsString::from_vec(records.sparse.name.clone().unwrap_or(path))),
            kind,
            target: PathBuf::from(OsString::from_vec(
                target
                    .or(records.target)
                    .unwrap_or_else(|| header.field(157, 100).to_vec()),
            )),
            mode: u32::try_from(number(header.bytes(100, 8))? & 0o7777).unwrap_or(0),
            uid: records.uid.map_or_else(|| header.id(108), Ok)?,
            gid: records.gid.map_or_else(|| header.id(116), Ok)?,
            modified: bounded(records.modified.map_or_else(|| header.modified(), Ok)?),
            size: stored,
            attributes: records.attributes,
            pieces: None,
        };
        self.data_left = stored;
        self.padding = stored.next_multiple_of(BLOCK as u64) - stored;
        if header.kind() == b'S' {
            let (pieces, size) = self.old_sparse(header)?;
            (entry.pieces, entry.size) = (Some(pieces), size);
        } else if kind == Kind::File && records.sparse.is_sparse() {
            entry.size = records.sparse.size.unwrap_or(stored);
            entry.pieces = Some(match records.sparse.map {
                Some(map) => map,
                None => self.map_in_data()?,
            });
        }
        if let Some(pieces) = &entry.pieces {
            sparse::check(pieces, entry.size, self.data_left)?;
        }
        Ok(entry)
    }

    /// GNU's first form: the map is in the header and in blocks after it.
    fn old_sparse(&mut self, header: &Header<'_>) -> io::Result<(Vec<Piece>, u64)> {
        let mut pieces = sparse::of_header(header.bytes(386, 96))?;
        let size = unsigned(number(header.bytes(483, 12))?)?;
        let mut more = header.bytes(482, 1)[0] != 0;
        while more {
            let block = self.block()?.ok_or(io::ErrorKind::UnexpectedEof)?;
            pieces.extend(sparse::of_header(&block[..504])?);
            more = block[504] != 0;
        }
        Ok((pieces, size))
    }

    /// GNU's form 1.0: the map is before the data, in lines, and filled up to a block.
    fn map_in_data(&mut self) -> io::Result<Vec<Piece>> {
        let mut map = sparse::Lines::default();
        while !map.is_whole() {
            if self.data_left < BLOCK as u64 {
                return Err(invalid("the map of a file with holes has no end".to_owned()));
            }
            let block = self.block()?.ok_or(io::ErrorKind::UnexpectedEof)?;
            self.data_left -= BLOCK as u64;
            map.take(&block)?;
        }
        Ok(map.pieces())
    }

    /// The next block; None where the stream is at its end.
    fn block(&mut self) -> io::Result<Option<[u8; BLOCK]>> {
        self.headers_left = self.headers_left.checked_sub(BLOCK).ok_or_else(too_long)?;
        let (mut block, mut filled) = ([0; BLOCK], 0);
        while filled < BLOCK {
            match self.stream.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => filled += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.read += BLOCK as u64;
        Ok(Some(block))
    }

    /// The data of a header that is about the next one.
    fn small(&mut self, size: u64) -> io::Result<Vec<u8>> {
        let length = usize::try_from(size).map_err(|_| too_long())?;
        let padded = length.checked_next_multiple_of(BLOCK).ok_or_else(too_long)?;
        self.headers_left = self.headers_left.checked_sub(padded).ok_or_else(too_long)?;
        let mut data = vec![0; padded];
        self.stream.read_exact(&mut data)?;
        self.read += padded as u64;
        data.truncate(length);
        Ok(data)
    }

    fn skip(&mut self) -> io::Result<()> {
        io::copy(self, &mut io::sink())?;
        let padding = self.padding;
        let skipped = io::copy(&mut (&mut self.stream).take(padding), &mut io::sink())?;
        self.read += skipped;
        self.padding = 0;
        // Some tools leave out what fills the last block.
        Ok(())
    }
}

impl<R: Read> Read for Entries<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.data_left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let length = self.stream.read(&mut buffer[..most])?;
        if length == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "it ends in the middle of a file",
            ));
        }
        self.data_left -= length as u64;
        self.read += length as u64;
        Ok(length)
    }
}

/// A header's block, whose sum is right.
struct Header<'a>(&'a [u8; BLOCK]);

impl<'a> Header<'a> {
    /// None: a block of zeros, the end of the archive.
    fn of(block: &'a [u8; BLOCK]) -> io::Result<Option<Self>> {
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let header = Self(block);
        let told = number(header.bytes(148, 8))?;
        let seen = |byte: usize| if (148..156).contains(&byte) { b' ' } else { block[byte] };
        // Some tools of old took bytes for numbers with a sign.
        let unsigned: i64 = (0..BLOCK).map(|byte| i64::from(seen(byte))).sum();
        let signed: i64 = (0..BLOCK).map(|byte| i64::from(seen(byte).cast_signed())).sum();
        if told != unsigned && told != signed {
            return Err(invalid("the sum of a header is wrong".to_owned()));
        }
        Ok(Some(header))
    }

    fn bytes(&self, start: usize, length: usize) -> &'a [u8] {
        &self.0[start..start + length]
    }

    fn field(&self, start: usize, length: usize) -> &'a [u8] {
        until_zero(self.bytes(start, length))
    }

    fn kind(&self) -> u8 {
        self.0[156]
    }

    fn size(&self) -> io::Result<u64> {
        unsigned(number(self.bytes(124, 12))?)
    }

    /// A number of a user or group; none that nobody can have.
    fn id(&self, start: usize) -> io::Result<u32> {
        Ok(u32::try_from(number(self.bytes(start, 8))?).unwrap_or(0))
    }

    fn modified(&self) -> io::Result<(i64, u32)> {
        Ok((number(self.bytes(136, 12))?, 0))
    }

    fn path(&self) -> Vec<u8> {
        let name = self.field(0, 100);
        // GNU has other things where POSIX has the beginning of long names; star has less room for it.
        let prefix = match (self.bytes(257, 6), self.bytes(508, 4)) {
            (b"ustar\0", b"tar\0") => self.field(345, 131),
            (b"ustar\0", _) => self.field(345, 155),
            _ => b"",
        };
        if prefix.is_empty() {
            return name.to_vec();
        }
        [prefix, b"/", name].concat()
    }
}

fn until_zero(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn too_long() -> io::Error {
    invalid(format!(
        "the headers of an entry are longer than {HEADERS_BYTES_MAX} bytes"
    ))
}

/// Times before 1970 and after 2262 mean nothing, as containerd has it.
fn bounded((seconds, nanoseconds): (i64, u32)) -> (i64, u32) {
    if (0..i64::MAX / 1_000_000_000).contains(&seconds) {
        (seconds, nanoseconds)
    } else {
        (0, 0)
    }
}
