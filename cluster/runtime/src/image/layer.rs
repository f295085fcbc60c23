//! Unpacks one layer for use below an overlay: whiteouts take the overlay's form, and nothing leaves the root.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags, chownat, fchmod,
    fsetxattr, linkat, mkdirat, mknodat, openat, openat2, symlinkat, utimensat,
};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::ImageError;
use crate::removal::remove_all_at;

/// A name that hides what a lower layer has (OCI image specification, "Whiteouts").
const WHITEOUT: &[u8] = b".wh.";
/// Hides everything that lower layers have in this directory.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// The overlay's marks for the same; ours for `userxattr` mounts, the other one for those that are not.
const OPAQUE_MARKS: [&str; 2] = ["user.overlay.opaque", "trusted.overlay.opaque"];
/// PAX records of extended attributes.
const XATTR_PREFIX: &str = "SCHILY.xattr.";

/// By the first bytes: gzip, zstd or neither.
pub(super) fn decompressed(file: fs::File) -> io::Result<Box<dyn Read>> {
    let mut reader = io::BufReader::with_capacity(1 << 17, file);
    let start = io::BufRead::fill_buf(&mut reader)?;
    Ok(match start {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(reader)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::stream::read::Decoder::with_buffer(reader)?),
        _ => Box::new(reader),
    })
}

/// Unpacks a tar stream below `root`, which exists and is empty. Answers the digest of the stream (the layer's diffID,
/// hexadecimal) and the bytes of all files.
pub(super) fn unpack(stream: impl Read, root: &Path) -> Result<(String, u64), ImageError> {
    let mut stream = Hashing {
        inner: stream,
        hash: Sha256::new(),
    };
    let size = unpack_entries(&mut stream, root).map_err(ImageError::io(root))?;
    // The digest covers what is behind the end mark, too.
    io::copy(&mut stream, &mut io::sink()).map_err(ImageError::io(root))?;
    Ok((hex::encode(stream.hash.finalize()), size))
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

fn unpack_entries(stream: &mut impl Read, root: &Path) -> io::Result<u64> {
    let root = openat(
        CWD,
        root,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let mut archive = tar::Archive::new(stream);
    let mut size = 0;
    // A directory may forbid writes to its owner: its mode comes when everything is inside.
    let mut directories = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = relative(&entry.path()?)?;
        let Some(name) = path.file_name().map(OsStr::to_owned) else {
            continue;
        };
        let parent = directory(&root, path.parent().unwrap_or(Path::new("")))?;
        if name.as_bytes() == OPAQUE {
            mark_opaque(&parent)?;
        } else if let Some(hidden) = hidden_by(&name)? {
            remove_all_at(parent.as_fd(), hidden)?;
            mknodat(&parent, hidden, FileType::CharacterDevice, Mode::empty(), 0)?;
        } else if let Some(directory) = make(&root, &parent, &name, &mut entry)? {
            directories.push(directory);
        } else {
            size += entry.size();
        }
    }
    for (directory, mode, seconds) in directories.into_iter().rev() {
        let _ = fchmod(&directory, mode);
        let _ = rustix::fs::futimens(&directory, &times(seconds));
    }
    Ok(size)
}

type Directory = (OwnedFd, Mode, i64);

/// Makes what an entry describes. A directory is given back for later.
fn make<R: Read>(
    root: &OwnedFd,
    parent: &OwnedFd,
    name: &OsStr,
    entry: &mut tar::Entry<'_, R>,
) -> io::Result<Option<Directory>> {
    let header = entry.header();
    let mode = Mode::from_raw_mode(header.mode()? & 0o7777);
    let seconds = i64::try_from(header.mtime()?).unwrap_or(0);
    let owner = (
        u32::try_from(header.uid()?).unwrap_or(0),
        u32::try_from(header.gid()?).unwrap_or(0),
    );
    let kind = header.entry_type();
    if kind.is_dir() {
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
        return Ok(Some((directory, mode, seconds)));
    }
    remove_all_at(parent.as_fd(), name)?;
    if kind.is_file() || kind == tar::EntryType::Continuous || kind == tar::EntryType::GNUSparse {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = fs::File::from(openat(parent, name, flags, Mode::RUSR | Mode::WUSR)?);
        io::copy(entry, &mut file)?;
        set_owner(parent, name, owner)?;
        // After the owner: a change of owner takes set-user-id away.
        fchmod(&file, mode)?;
        set_xattrs(&OwnedFd::from(file), entry)?;
    } else if kind.is_symlink() {
        let target = entry.link_name()?.ok_or(io::ErrorKind::InvalidData)?;
        symlinkat(target.as_ref(), parent, name)?;
        set_owner(parent, name, owner)?;
    } else if kind.is_hard_link() {
        let target = relative(&entry.link_name()?.ok_or(io::ErrorKind::InvalidData)?)?;
        let from = directory(root, target.parent().unwrap_or(Path::new("")))?;
        let file = target.file_name().ok_or(io::ErrorKind::InvalidData)?;
        linkat(&from, file, parent, name, AtFlags::empty())?;
        return Ok(None);
    } else if kind.is_fifo() || kind.is_character_special() || kind.is_block_special() {
        let (kind, device) = match kind {
            tar::EntryType::Fifo => (FileType::Fifo, 0),
            tar::EntryType::Char => (FileType::CharacterDevice, device(header)?),
            _ => (FileType::BlockDevice, device(header)?),
        };
        // Without root there are no devices; containers get the usual ones from the runtime.
        if mknodat(parent, name, kind, mode, device).is_ok() {
            set_owner(parent, name, owner)?;
        }
    }
    let _ = utimensat(parent, name, &times(seconds), AtFlags::SYMLINK_NOFOLLOW);
    Ok(None)
}

fn device(header: &tar::Header) -> io::Result<u64> {
    Ok(rustix::fs::makedev(
        header.device_major()?.unwrap_or(0),
        header.device_minor()?.unwrap_or(0),
    ))
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
        Some(Component::Normal(_)) => Ok(Some(hidden)),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{} hides what is no name", name.display()),
        )),
    }
}

/// A path of an archive, made relative and plain.
fn relative(path: &Path) -> io::Result<PathBuf> {
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

/// Opens a directory below `root`, symbolic links resolved as if `root` were `/`; missing ones are made.
pub(crate) fn directory(root: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    let open = |path: &Path| {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        openat2(
            &root,
            path,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        )
    };
    match open(path) {
        Ok(directory) => return Ok(directory),
        Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let mut so_far = PathBuf::new();
    let mut current = open(&so_far)?;
    for name in path.components().map(|c| OsString::from(c.as_os_str())) {
        so_far.push(&name);
        current = match open(&so_far) {
            Ok(next) => next,
            Err(Errno::NOENT) => {
                mkdirat(&current, &name, Mode::from_raw_mode(0o755))?;
                open(&so_far)?
            }
            Err(error) => return Err(error.into()),
        };
    }
    Ok(current)
}

/// Opens a file below `root` for reading, symbolic links resolved as if `root` were `/`. A pipe or device in its place is refused:
/// whoever opened it might wait for ever.
pub(super) fn open_below(root: &Path, path: &Path) -> io::Result<fs::File> {
    let root = openat(
        CWD,
        root,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let file = fs::File::from(openat2(
        &root,
        path,
        OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    )?);
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        let reason = format!("{} is not a file", path.display());
        Err(io::Error::new(io::ErrorKind::InvalidData, reason))
    }
}
