//! Puts the entries of a layer below its root.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Uid, XattrFlags, chmodat, chownat, fchmod, fchown, fsetxattr, futimens,
    linkat, mkdirat, mknodat, openat, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use super::entries::{Entry, Kind};
use super::folders::{Folders, times};
use super::invalid::invalid;
use super::notes::Notes;
use super::relative::relative;
use crate::below::{self, Links};
use crate::image::merged::OPAQUE_MARKS;
use crate::removal::remove_all_at;

/// A name that hides what a lower layer has (OCI image specification, "Whiteouts").
const WHITEOUT: &[u8] = b".wh.";
/// Hides everything that lower layers have in this directory.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Begins what aufs wrote down for itself, in layers of old.
const WHITEOUT_META: &[u8] = b".wh..wh.";

/// So much of a file is written at once.
const COPY_BYTES: usize = 1 << 17;

/// A layer that is being unpacked.
pub(super) struct Tree {
    root: OwnedFd,
    folders: Folders,
    /// Where the last entry was put, which is where the next one is most often: as entries write it, and the folder.
    last: Option<(PathBuf, Rc<Parent>)>,
    buffer: Vec<u8>,
}

/// A folder that something is put in.
struct Parent {
    folder: OwnedFd,
    /// Without links.
    path: PathBuf,
}

impl Tree {
    pub(super) fn of(root: &Path) -> io::Result<Self> {
        Ok(Self {
            root: below::folder(root)?,
            folders: Folders::default(),
            last: None,
            buffer: vec![0; COPY_BYTES],
        })
    }

    /// Does what an entry says. Answers the bytes of a file.
    pub(super) fn add(&mut self, path: &Path, entry: &Entry, data: &mut impl Read) -> io::Result<u64> {
        let Some(name) = path.file_name() else { return Ok(0) };
        let outer = path.parent().unwrap_or(Path::new(""));
        if name.as_bytes().starts_with(WHITEOUT) {
            self.hide(outer, name)?;
            return Ok(0);
        }
        let parent = self.parent(outer)?;
        let place = parent.path.join(name);
        match entry.kind {
            Kind::File => return self.file(&parent, name, &place, entry, data),
            Kind::Folder => self.folder(&parent, name, place, entry)?,
            Kind::HardLink => self.hard_link(&parent, name, &place, entry)?,
            Kind::Link => {
                self.instead(&parent, name, &place, || symlinkat(&entry.target, &parent.folder, name))?;
                set_owner(&parent.folder, name, entry)?;
                set_time(&parent.folder, name, entry);
            }
            Kind::Pipe => {
                let make = || mknodat(&parent.folder, name, FileType::Fifo, Mode::RUSR, 0);
                self.instead(&parent, name, &place, make)?;
                set_owner(&parent.folder, name, entry)?;
                chmodat(&parent.folder, name, mode(entry), AtFlags::empty())?;
                set_time(&parent.folder, name, entry);
            }
            // No devices: containers get the usual ones from the runtime, and no image is to bring others.
            Kind::Other => {}
        }
        Ok(0)
    }

    /// Sets what was put off, and answers what the files alone do not say.
    pub(super) fn finish(self) -> Notes {
        self.folders.finish(&self.root)
    }

    /// The folder for an entry. Those that are missing are made: layers need not have entries for them.
    fn parent(&mut self, outer: &Path) -> io::Result<Rc<Parent>> {
        if let Some((path, parent)) = &self.last
            && path == outer
        {
            return Ok(Rc::clone(parent));
        }
        let parent = match below::plain_directory(&self.root, outer) {
            Ok(folder) => Parent {
                folder,
                path: outer.to_owned(),
            },
            Err(_) => self.make_parent(outer)?,
        };
        let parent = Rc::new(parent);
        self.last = Some((outer.to_owned(), Rc::clone(&parent)));
        Ok(parent)
    }

    fn make_parent(&mut self, outer: &Path) -> io::Result<Parent> {
        let path = below::resolved(&self.root, outer)?;
        let mut folder = below::plain_directory(&self.root, Path::new(""))?;
        let mut so_far = PathBuf::new();
        for name in &path {
            so_far.push(name);
            folder = match open_directory(&folder, name) {
                Ok(inner) => inner,
                Err(Errno::NOENT) => {
                    self.folders.implied(&so_far)?;
                    make_plain(&folder, name)?
                }
                Err(Errno::NOTDIR | Errno::LOOP) if is_whiteout(&folder, name)? => {
                    // What lower layers have is hidden, what is in this one is not.
                    unlinkat(&folder, name, AtFlags::empty())?;
                    let inner = make_plain(&folder, name)?;
                    self.make_opaque(&inner, &so_far)?;
                    inner
                }
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    let reason = format!("{} is no folder, and something is to be in it", so_far.display());
                    return Err(invalid(reason));
                }
                Err(error) => return Err(error.into()),
            };
        }
        Ok(Parent { folder, path })
    }

    fn make_opaque(&mut self, folder: &OwnedFd, path: &Path) -> io::Result<()> {
        mark_opaque(folder)?;
        self.folders.opaque(path)
    }

    /// A whiteout. It is about lower layers alone, wherever it stands in this one (OCI image specification, "Whiteouts").
    fn hide(&mut self, outer: &Path, name: &OsStr) -> io::Result<()> {
        let hidden = hidden_by(name)?;
        if hidden.is_none() && name.as_bytes() != OPAQUE {
            // Somebody else's bookkeeping, of no meaning here (aufs).
            return Ok(());
        }
        if self.is_hidden(outer)? {
            return Ok(());
        }
        let parent = self.parent(outer)?;
        let Some(hidden) = hidden else {
            return self.make_opaque(&parent.folder, &parent.path);
        };
        match mknodat(&parent.folder, hidden, FileType::CharacterDevice, Mode::empty(), 0) {
            Ok(()) => self.folders.hiding(&parent.path),
            Err(Errno::EXIST) => match open_directory(&parent.folder, hidden) {
                Ok(folder) => self.make_opaque(&folder, &parent.path.join(hidden)),
                // A file hides what is below it anyway.
                Err(_) => Ok(()),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// Whether this layer hides a folder, or one around it, and has nothing in its place.
    fn is_hidden(&self, outer: &Path) -> io::Result<bool> {
        if below::plain_directory(&self.root, outer).is_ok() {
            return Ok(false);
        }
        let path = below::resolved(&self.root, outer)?;
        for part in path.ancestors().filter(|part| part.parent().is_some()) {
            let stat = statat(&self.root, part, AtFlags::SYMLINK_NOFOLLOW);
            if stat.is_ok_and(|stat| is_mark(&stat)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Makes something in the place of whatever an earlier entry made there.
    fn instead<T>(
        &mut self,
        parent: &Parent,
        name: &OsStr,
        path: &Path,
        make: impl Fn() -> rustix::io::Result<T>,
    ) -> io::Result<T> {
        match make() {
            Err(Errno::EXIST) => {
                self.last = None;
                self.folders.forget(path);
                remove_all_at(parent.folder.as_fd(), name)?;
                Ok(make()?)
            }
            other => Ok(other?),
        }
    }

    fn folder(&mut self, parent: &Parent, name: &OsStr, path: PathBuf, entry: &Entry) -> io::Result<()> {
        let make = || mkdirat(&parent.folder, name, Mode::RWXU);
        match make() {
            Ok(()) => {}
            Err(Errno::EXIST) if open_directory(&parent.folder, name).is_ok() => {}
            Err(Errno::EXIST) => {
                let hides = is_whiteout(&parent.folder, name)?;
                self.instead(parent, name, &path, make)?;
                if hides {
                    self.make_opaque(&open_directory(&parent.folder, name)?, &path)?;
                }
            }
            Err(error) => return Err(error.into()),
        }
        let folder = open_directory(&parent.folder, name)?;
        own(&folder, entry)?;
        set_attributes(&folder, entry);
        self.folders.told(path, mode(entry), entry.modified)
    }

    fn file(
        &mut self,
        parent: &Parent,
        name: &OsStr,
        path: &Path,
        entry: &Entry,
        data: &mut impl Read,
    ) -> io::Result<u64> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let make = || openat(&parent.folder, name, flags, Mode::RUSR | Mode::WUSR);
        let mut file = File::from(self.instead(parent, name, path, make)?);
        match &entry.pieces {
            None => self.copy(data, &mut file, entry.size)?,
            Some(pieces) => {
                for piece in pieces {
                    file.seek(SeekFrom::Start(piece.offset))?;
                    self.copy(data, &mut file, piece.length)?;
                }
                file.set_len(entry.size)?;
            }
        }
        own(&file, entry)?;
        // After the owner: a change of owner takes set-user-id away, and capabilities.
        fchmod(&file, mode(entry))?;
        set_attributes(&file, entry);
        let _ = futimens(&file, &times(entry.modified));
        Ok(entry.size)
    }

    fn copy(&mut self, data: &mut impl Read, file: &mut File, mut left: u64) -> io::Result<()> {
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            match data.read(&mut self.buffer[..most]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => {
                    file.write_all(&self.buffer[..length])?;
                    left -= length as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn hard_link(&mut self, parent: &Parent, name: &OsStr, path: &Path, entry: &Entry) -> io::Result<()> {
        let target = relative(&entry.target)?;
        let missing = || {
            let (path, target) = (path.display(), target.display());
            invalid(format!(
                "{path} is a hard link to {target}, which the layer does not have"
            ))
        };
        let file = target.file_name().ok_or_else(missing)?;
        let from = below::find(&self.root, target.parent().unwrap_or(Path::new("")), Links::InRoot);
        let from = from.map_err(|_| missing())?;
        let stat = |folder: &OwnedFd, name: &OsStr| statat(folder, name, AtFlags::SYMLINK_NOFOLLOW);
        let old = stat(&from, file).ok().filter(|old| !is_mark(old)).ok_or_else(missing)?;
        if stat(&parent.folder, name).is_ok_and(|new| (new.st_dev, new.st_ino) == (old.st_dev, old.st_ino)) {
            return Ok(());
        }
        let link = || linkat(&from, file, &parent.folder, name, AtFlags::empty());
        self.instead(parent, name, path, link)
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => missing(),
                _ => error,
            })?;
        // Each name of a file has attributes in a tar; the last ones count, as in containerd.
        set_owner(&parent.folder, name, entry)?;
        if FileType::from_raw_mode(old.st_mode) != FileType::Symlink {
            chmodat(&parent.folder, name, mode(entry), AtFlags::empty())?;
        }
        set_time(&parent.folder, name, entry);
        Ok(())
    }
}

/// A folder that no entry describes.
fn make_plain(parent: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
    let mode = Mode::from_raw_mode(0o755);
    mkdirat(parent, name, mode)?;
    // Whatever our umask is.
    chmodat(parent, name, mode, AtFlags::empty())?;
    Ok(open_directory(parent, name)?)
}

fn mode(entry: &Entry) -> Mode {
    Mode::from_raw_mode(entry.mode)
}

fn set_time(parent: &OwnedFd, name: &OsStr, entry: &Entry) {
    let _ = utimensat(parent, name, &times(entry.modified), AtFlags::SYMLINK_NOFOLLOW);
}

/// An ordinary user can only own files itself: inside of its user namespace it is root.
fn as_far_as_allowed(result: rustix::io::Result<()>) -> io::Result<()> {
    match result {
        Ok(()) | Err(Errno::PERM | Errno::INVAL) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn own(file: impl AsFd, entry: &Entry) -> io::Result<()> {
    as_far_as_allowed(fchown(
        file,
        Some(Uid::from_raw(entry.uid)),
        Some(Gid::from_raw(entry.gid)),
    ))
}

fn set_owner(parent: &OwnedFd, name: &OsStr, entry: &Entry) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    as_far_as_allowed(chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW))
}

/// File capabilities and the like; those that the file system or our rights do not allow are left out, and those that mean something to an
/// overlay or to the machine alone.
fn set_attributes(file: impl AsFd, entry: &Entry) {
    for (name, value) in &entry.attributes {
        let text = name.as_bytes();
        if !text.starts_with(b"trusted.") && !text.windows(8).any(|part| part == b"overlay.") {
            let _ = fsetxattr(&file, name, value, XattrFlags::empty());
        }
    }
}

fn mark_opaque(directory: &OwnedFd) -> io::Result<()> {
    let mut result = Ok(());
    let mut marked = false;
    for mark in OPAQUE_MARKS {
        match fsetxattr(directory, mark, b"y", XattrFlags::empty()) {
            Ok(()) => marked = true,
            Err(error) => result = Err(error),
        }
    }
    if marked { Ok(()) } else { result.map_err(Into::into) }
}

/// Whether something hides what lower layers have under its name.
fn is_mark(stat: &rustix::fs::Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn is_whiteout(parent: &OwnedFd, name: &OsStr) -> io::Result<bool> {
    Ok(is_mark(&statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?))
}

/// What a whiteout hides, if it is one: a name in its directory, never `..`, the directory that the root itself is in.
pub(super) fn hidden_by(name: &OsStr) -> io::Result<Option<&OsStr>> {
    if name.as_bytes().starts_with(WHITEOUT_META) {
        return Ok(None);
    }
    let Some(hidden) = name.as_bytes().strip_prefix(WHITEOUT).map(OsStr::from_bytes) else {
        return Ok(None);
    };
    match Path::new(hidden).components().next() {
        Some(Component::Normal(only)) if only == hidden => Ok(Some(hidden)),
        _ => Err(invalid(format!("{} hides what is no name", name.display()))),
    }
}

fn open_directory(parent: &OwnedFd, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    openat(
        parent,
        name,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
}
