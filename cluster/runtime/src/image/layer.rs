//! Unpacks one layer for use below an overlay: whiteouts take the overlay's form, and nothing leaves the root.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, chownat, fchmod, fsetxattr, linkat,
    mkdirat, mknodat, openat, symlinkat, utimensat,
};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::ImageError;
use crate::below::{self, Links};
use crate::removal::remove_all_at;

/// A name that hides what a lower layer has (OCI image specification, "Whiteouts").
const WHITEOUT: &[u8] = b".wh.";
/// Hides everything that lower layers have in this directory.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Begins what aufs wrote down for itself, in layers of old.
const WHITEOUT_META: &[u8] = b".wh..wh.";
/// The overlay's marks for the same; ours for `userxattr` mounts, the other one for those that are not.
const OPAQUE_MARKS: [&str; 2] = ["user.overlay.opaque", "trusted.overlay.opaque"];
/// PAX records of extended attributes.
const XATTR_PREFIX: &str = "SCHILY.xattr.";

/// All headers of one entry, long names and PAX records with extended attributes among them: an attribute has 64 KiB at most, a path 4.
const HEADERS_BYTES_MAX: usize = 1 << 20;
/// Several times what the largest distributions have.
const ENTRIES_MAX: u32 = 2_000_000;
/// Names of folders are kept until the end, each with about so much beside it.
const FOLDERS_BYTES_MAX: usize = 32 << 20;
const FOLDER_BYTES: usize = 96;
/// Folders in folders; a path has 4,096 bytes at most.
const DEPTH_MAX: usize = 1024;
/// What has more than a GiB may be larger than it was packed by this factor: text is by 10, and gzip knows no more than 1,030.
const RATIO_MAX: u64 = 100;
const SMALL: u64 = 1 << 30;
/// Memory that a zstd stream may ask for, as a power of two: twice the 8 MiB that every decoder is to have (RFC 8878).
const ZSTD_WINDOW_LOG_MAX: u32 = 24;

/// By the first bytes: gzip, zstd or neither. What is packed out of all proportion is an error while it is read.
pub(super) fn decompressed(file: fs::File) -> io::Result<impl Read> {
    decompressed_beyond(file, SMALL)
}

/// `small`: how much may come out whatever went in.
fn decompressed_beyond(file: fs::File, small: u64) -> io::Result<impl Read> {
    let taken = Rc::new(Cell::new(0));
    let counted = Counted {
        inner: file,
        bytes: Rc::clone(&taken),
    };
    let mut reader = io::BufReader::with_capacity(1 << 17, counted);
    let start = io::BufRead::fill_buf(&mut reader)?;
    let inner: Box<dyn Read> = match start {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(reader)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(reader)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            Box::new(decoder)
        }
        _ => Box::new(reader),
    };
    Ok(Decompressed {
        inner,
        taken,
        given: 0,
        small,
    })
}

struct Counted<R> {
    inner: R,
    bytes: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.bytes.set(self.bytes.get() + length as u64);
        Ok(length)
    }
}

struct Decompressed {
    inner: Box<dyn Read>,
    taken: Rc<Cell<u64>>,
    given: u64,
    small: u64,
}

impl Read for Decompressed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.given += length as u64;
        if self.given > self.small && self.given / RATIO_MAX > self.taken.get() {
            return Err(invalid(format!(
                "{} bytes were {} before they were packed, which no honest layer is",
                self.taken.get(),
                self.given
            )));
        }
        Ok(length)
    }
}

/// The most that so many bytes may become.
pub(super) fn most_of(bytes: u64) -> u64 {
    SMALL.max(bytes.saturating_mul(RATIO_MAX))
}

fn invalid(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// Unpacks a tar stream below `root`, which exists and is empty. Answers the digest of the stream (the layer's diffID,
/// hexadecimal) and the bytes of all files.
///
/// # Errors
/// It is no tar, or not one that an honest tool makes: see the limits above.
pub(super) fn unpack(stream: impl Read, root: &Path) -> Result<(String, u64), ImageError> {
    let mut stream = Hashing {
        inner: stream,
        hash: Sha256::new(),
        meter: Rc::default(),
    };
    let meter = Rc::clone(&stream.meter);
    let size = unpack_entries(&mut stream, &meter, root).map_err(ImageError::io(root))?;
    // The digest covers what is behind the end mark, too.
    io::copy(&mut stream, &mut io::sink()).map_err(ImageError::io(root))?;
    Ok((hex::encode(stream.hash.finalize()), size))
}

struct Hashing<R> {
    inner: R,
    hash: Sha256,
    meter: Rc<Meter>,
}

/// What was read of a stream, and how much of it may be headers now: the tar library keeps those in memory, however long they say they are.
#[derive(Default)]
struct Meter {
    read: Cell<u64>,
    headers_left: Cell<Option<usize>>,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = match self.meter.headers_left.get() {
            Some(0) => {
                return Err(invalid(format!(
                    "the headers of an entry are longer than {HEADERS_BYTES_MAX} bytes"
                )));
            }
            Some(left) => left.min(buffer.len()),
            None => buffer.len(),
        };
        let length = self.inner.read(&mut buffer[..most])?;
        self.hash.update(&buffer[..length]);
        self.meter.read.set(self.meter.read.get() + length as u64);
        if let Some(left) = self.meter.headers_left.get() {
            self.meter.headers_left.set(Some(left - length));
        }
        Ok(length)
    }
}

/// Folders whose mode and time come when everything is inside: a folder may forbid writes to its owner. By path, inner ones after outer.
#[derive(Default)]
struct Folders {
    pending: BTreeMap<PathBuf, (Mode, i64)>,
    bytes: usize,
}

impl Folders {
    fn add(&mut self, path: PathBuf, mode: Mode, seconds: i64) -> io::Result<()> {
        self.bytes += path.as_os_str().len() + FOLDER_BYTES;
        if self.bytes > FOLDERS_BYTES_MAX {
            return Err(invalid(format!(
                "its folders take more than {FOLDERS_BYTES_MAX} bytes of memory"
            )));
        }
        self.pending.insert(path, (mode, seconds));
        Ok(())
    }

    fn finish(self, root: &OwnedFd) {
        for (path, (mode, seconds)) in self.pending.into_iter().rev() {
            // What a later entry has put in its place has a mode of its own.
            let Some((parent, name)) = path.parent().zip(path.file_name()) else {
                continue;
            };
            let parent = below::find(root, parent, Links::InRoot);
            if let Ok(folder) = parent.and_then(|parent| open_directory(&parent, name)) {
                let _ = fchmod(&folder, mode);
                let _ = rustix::fs::futimens(&folder, &times(seconds));
            }
        }
    }
}

fn unpack_entries(stream: &mut impl Read, meter: &Meter, root: &Path) -> io::Result<u64> {
    let root = below::folder(root)?;
    let mut archive = tar::Archive::new(stream);
    let mut entries = archive.entries()?;
    let (mut size, mut count) = (0_u64, 0);
    let mut folders = Folders::default();
    loop {
        meter.headers_left.set(Some(HEADERS_BYTES_MAX));
        let next = entries.next();
        meter.headers_left.set(None);
        let Some(entry) = next else { break };
        let mut entry = entry?;
        count += 1;
        if count > ENTRIES_MAX {
            return Err(invalid(format!("it has more than {ENTRIES_MAX} entries")));
        }
        // A file with holes may say that it is larger than all disks; written, the holes are zeros.
        if size.saturating_add(entry.size()) > most_of(meter.read.get()) && entry.header().entry_type().is_gnu_sparse()
        {
            return Err(invalid(format!(
                "{} is almost nothing but holes",
                entry.path()?.display()
            )));
        }
        let path = relative(&entry.path()?)?;
        size = size.saturating_add(unpack_one(&root, &path, &mut entry, &mut folders)?);
        // What nobody wanted of it: the next thing that is read are headers.
        io::copy(&mut entry, &mut io::sink())?;
    }
    folders.finish(&root);
    Ok(size)
}

/// Does what an entry says. Answers the bytes of a file.
fn unpack_one<R: Read>(
    root: &OwnedFd,
    path: &Path,
    entry: &mut tar::Entry<'_, R>,
    folders: &mut Folders,
) -> io::Result<u64> {
    let Some(name) = path.file_name() else { return Ok(0) };
    let parent = &below::directory(root, path.parent().unwrap_or(Path::new("")))?;
    if name.as_bytes() == OPAQUE {
        mark_opaque(parent)?;
    } else if name.as_bytes().starts_with(WHITEOUT_META) {
        // Somebody else's bookkeeping, of no meaning here (aufs).
    } else if let Some(hidden) = hidden_by(name)? {
        remove_all_at(parent.as_fd(), hidden)?;
        mknodat(parent, hidden, FileType::CharacterDevice, Mode::empty(), 0)?;
    } else if entry.header().entry_type().is_dir() {
        let (mode, seconds) = make_directory(parent, name, entry)?;
        folders.add(path.to_owned(), mode, seconds)?;
    } else {
        return make(root, parent, name, entry);
    }
    Ok(0)
}

/// Mode, time of change, and owner as an entry says.
fn attributes<R: Read>(entry: &tar::Entry<'_, R>) -> io::Result<(Mode, i64, (u32, u32))> {
    let header = entry.header();
    let mode = Mode::from_raw_mode(header.mode()? & 0o7777);
    let seconds = i64::try_from(header.mtime()?).unwrap_or(0);
    let number = |id: u64| u32::try_from(id).unwrap_or(0);
    Ok((mode, seconds, (number(header.uid()?), number(header.gid()?))))
}

/// Answers the mode and time that it is to have in the end.
fn make_directory<R: Read>(parent: &OwnedFd, name: &OsStr, entry: &mut tar::Entry<'_, R>) -> io::Result<(Mode, i64)> {
    let (mode, seconds, owner) = attributes(entry)?;
    match mkdirat(parent, name, Mode::RWXU) {
        Ok(()) => {}
        Err(Errno::EXIST) if open_directory(parent, name).is_ok() => {}
        Err(Errno::EXIST) => {
            remove_all_at(parent.as_fd(), name)?;
            mkdirat(parent, name, Mode::RWXU)?;
        }
        Err(error) => return Err(error.into()),
    }
    let directory = open_directory(parent, name)?;
    set_owner(parent, name, owner)?;
    set_xattrs(&directory, entry)?;
    Ok((mode, seconds))
}

/// Makes what an entry describes, folders apart. Answers the bytes of a file.
fn make<R: Read>(root: &OwnedFd, parent: &OwnedFd, name: &OsStr, entry: &mut tar::Entry<'_, R>) -> io::Result<u64> {
    let (mode, seconds, owner) = attributes(entry)?;
    let kind = entry.header().entry_type();
    let mut bytes = 0;
    if kind.is_file() || kind == tar::EntryType::Continuous || kind == tar::EntryType::GNUSparse {
        remove_all_at(parent.as_fd(), name)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = fs::File::from(openat(parent, name, flags, Mode::RUSR | Mode::WUSR)?);
        bytes = io::copy(entry, &mut file)?;
        set_owner(parent, name, owner)?;
        // After the owner: a change of owner takes set-user-id away.
        fchmod(&file, mode)?;
        set_xattrs(&OwnedFd::from(file), entry)?;
    } else if kind.is_symlink() {
        let target = entry.link_name()?.ok_or(io::ErrorKind::InvalidData)?;
        remove_all_at(parent.as_fd(), name)?;
        symlinkat(target.as_ref(), parent, name)?;
        set_owner(parent, name, owner)?;
    } else if kind.is_hard_link() {
        let target = relative(&entry.link_name()?.ok_or(io::ErrorKind::InvalidData)?)?;
        let from = below::directory(root, target.parent().unwrap_or(Path::new("")))?;
        let file = target.file_name().ok_or(io::ErrorKind::InvalidData)?;
        remove_all_at(parent.as_fd(), name)?;
        linkat(&from, file, parent, name, AtFlags::empty())?;
        return Ok(0);
    } else if kind.is_fifo() {
        remove_all_at(parent.as_fd(), name)?;
        mknodat(parent, name, FileType::Fifo, mode, 0)?;
        set_owner(parent, name, owner)?;
    } else {
        // No devices: containers get the usual ones from the runtime, and no image is to bring others. Nor what a tar has beside files.
        return Ok(0);
    }
    let _ = utimensat(parent, name, &times(seconds), AtFlags::SYMLINK_NOFOLLOW);
    Ok(bytes)
}

fn times(seconds: i64) -> Timestamps {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: 0,
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

/// An ordinary user can only own files itself: inside of its user namespace it is root.
fn set_owner(parent: &OwnedFd, name: &OsStr, (uid, gid): (u32, u32)) -> io::Result<()> {
    match chownat(
        parent,
        name,
        Some(Uid::from_raw(uid)),
        Some(Gid::from_raw(gid)),
        AtFlags::SYMLINK_NOFOLLOW,
    ) {
        Ok(()) | Err(Errno::PERM | Errno::INVAL) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// File capabilities and the like; those that the file system or our rights do not allow are left out.
fn set_xattrs<R: Read>(file: &OwnedFd, entry: &mut tar::Entry<'_, R>) -> io::Result<()> {
    let Some(records) = entry.pax_extensions()? else {
        return Ok(());
    };
    for record in records {
        let record = record?;
        if let Some(name) = record.key().ok().and_then(|key| key.strip_prefix(XATTR_PREFIX))
            && !name.contains("overlay.")
        {
            let _ = fsetxattr(file, name, record.value_bytes(), XattrFlags::empty());
        }
    }
    Ok(())
}

fn mark_opaque(directory: &OwnedFd) -> io::Result<()> {
    let directory = openat(
        directory,
        ".",
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let mut result = Ok(());
    let mut marked = false;
    for mark in OPAQUE_MARKS {
        match fsetxattr(&directory, mark, b"y", XattrFlags::empty()) {
            Ok(()) => marked = true,
            Err(error) => result = Err(error),
        }
    }
    if marked { Ok(()) } else { result.map_err(Into::into) }
}

/// What a whiteout hides, if it is one: a name in its directory, never `..`, the directory that the root itself is in.
fn hidden_by(name: &OsStr) -> io::Result<Option<&OsStr>> {
    let Some(hidden) = name.as_bytes().strip_prefix(WHITEOUT).map(OsStr::from_bytes) else {
        return Ok(None);
    };
    match Path::new(hidden).components().next() {
        Some(Component::Normal(only)) if only == hidden => Ok(Some(hidden)),
        _ => Err(invalid(format!("{} hides what is no name", name.display()))),
    }
}

/// A path of an archive, made relative and plain.
fn relative(path: &Path) -> io::Result<PathBuf> {
    if path.components().take(DEPTH_MAX + 1).count() > DEPTH_MAX {
        return Err(invalid(format!("it has folders more than {DEPTH_MAX} deep")));
    }
    path.components()
        .filter(|c| !matches!(c, Component::RootDir | Component::CurDir))
        .map(|c| match c {
            Component::Normal(name) => Ok(name),
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{} leaves the archive", path.display()),
            )),
        })
        .collect()
}

fn open_directory(parent: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
    Ok(openat(
        parent,
        name,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

#[cfg(test)]
mod tests;
