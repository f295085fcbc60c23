//! Folders of an image that each container has a volume of its own for (VOLUME).
//!
//! As containerd does it for Kubernetes: a new folder on the disk for each start of a container, filled with what the image has there, and
//! removed with the container. It can be written to whatever the root file system is, and a mount of the pod at the same place replaces it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags, chmodat, chownat, fchmod,
    fchown, fsetxattr, fstat, futimens, linkat, mkdirat, mknodat, openat, readlinkat, seek, statat, symlinkat,
    utimensat,
};
use rustix::io::Errno;

use crate::below::{Links, find, folder, plain, plain_directory, text};
use crate::container::{ContainerSpec, Mount};
use crate::image::extended;
use crate::runtime::RuntimeError;

/// The specification with the mounts of an image's volumes, and their sources in the same order.
pub(crate) type Joined<'a> = (Cow<'a, ContainerSpec>, Cow<'a, [Arc<OwnedFd>]>);

/// Makes the volumes of a container in its directory, `root` being its root file system, and adds them to what is mounted.
///
/// # Errors
/// The image has no folder at a volume's place, or it cannot be copied.
pub(crate) fn add<'a>(
    dir: &Path,
    root: &Path,
    volumes: &[PathBuf],
    spec: &'a ContainerSpec,
    found: &'a [Arc<OwnedFd>],
) -> Result<Joined<'a>, RuntimeError> {
    let is_taken = |path: &Path| spec.mounts.iter().any(|mount| plain(&mount.target) == plain(path));
    let mut own = Vec::new();
    for (number, target) in volumes.iter().enumerate().filter(|(_, path)| !is_taken(path)) {
        let source = dir.join("volumes").join(number.to_string());
        let found = fill(&source, root, target)
            .map_err(|error| RuntimeError::Failed(format!("filling the volume {}: {error}", target.display())))?;
        let mount = Mount {
            source,
            found: None,
            target: target.clone(),
            read_only: false,
        };
        own.push((mount, Arc::new(found)));
    }
    if own.is_empty() {
        return Ok((Cow::Borrowed(spec), Cow::Borrowed(found)));
    }
    let mut all: Vec<_> = spec
        .mounts
        .iter()
        .cloned()
        .zip(found.iter().cloned())
        .chain(own)
        .collect();
    // Outer ones first, as those of the pod are.
    all.sort_by_key(|(mount, _)| mount.target.components().count());
    let (mounts, found) = all.into_iter().unzip();
    let spec = ContainerSpec { mounts, ..spec.clone() };
    Ok((Cow::Owned(spec), Cow::Owned(found)))
}

/// Makes the folder with what the image has there. Answers it, opened.
fn fill(source: &Path, root: &Path, target: &Path) -> io::Result<OwnedFd> {
    fs::create_dir_all(source)?;
    // Whatever our umask is.
    fs::set_permissions(source, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let to = folder(source)?;
    let from = match find(folder(root)?, &plain(target), Links::InRoot) {
        Ok(from) => from,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(to),
        Err(error) => return Err(error),
    };
    if FileType::from_raw_mode(fstat(&from)?.st_mode) != FileType::Directory {
        return Err(io::Error::other("the image has a file there, and a volume is a folder"));
    }
    copy(&from, &to)?;
    Ok(to)
}

/// Copies a tree with everything that containers see of it. By descriptors, three at a time however deep it is.
fn copy(from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
    // Files with several names: the first of each.
    let mut names: HashMap<(u64, u64), PathBuf> = HashMap::new();
    let (mut left, mut made) = (vec![PathBuf::new()], Vec::new());
    while let Some(path) = left.pop() {
        let (source, target) = (plain_directory(from, &path)?, plain_directory(to, &path)?);
        for entry in Dir::read_from(&source)? {
            let entry = entry?;
            let name = text(entry.file_name());
            if name == "." || name == ".." {
                continue;
            }
            let stat = statat(&source, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                mkdirat(&target, name, Mode::RWXU)?;
                left.push(path.join(name));
                continue;
            }
            let id = (stat.st_dev, stat.st_ino);
            match names.get(&id) {
                Some(first) => linkat(to, first, &target, name, AtFlags::empty())?,
                None => {
                    copy_one(&source, &target, name, &stat)?;
                    if stat.st_nlink > 1 {
                        names.insert(id, path.join(name));
                    }
                }
            }
        }
        made.push(path);
    }
    // Inner ones first: a folder may forbid writes to its owner.
    for path in made.iter().rev() {
        let (source, target) = (plain_directory(from, path)?, plain_directory(to, path)?);
        let stat = fstat(&source)?;
        own(fchown(&target, uid(&stat), gid(&stat)))?;
        fchmod(&target, mode(&stat))?;
        copy_attributes(&source, &target)?;
        futimens(&target, &times(&stat))?;
    }
    Ok(())
}

fn copy_one(source: &OwnedFd, target: &OwnedFd, name: &OsStr, stat: &Stat) -> io::Result<()> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let from = openat(source, name, flags, Mode::empty())?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let to = openat(target, name, flags, Mode::RUSR | Mode::WUSR)?;
            own(fchown(&to, uid(stat), gid(stat)))?;
            fchmod(&to, mode(stat))?;
            let to = copy_data(from.try_clone()?.into(), to.into())?;
            copy_attributes(&from, &to)?;
            futimens(&to, &times(stat))?;
            return Ok(());
        }
        FileType::Symlink => symlinkat(readlinkat(source, name, Vec::new())?, target, name)?,
        kind @ (FileType::Fifo | FileType::Socket) => mknodat(target, name, kind, Mode::RUSR, 0)?,
        // Devices: a container has its own.
        _ => return Ok(()),
    }
    own(chownat(target, name, uid(stat), gid(stat), AtFlags::SYMLINK_NOFOLLOW))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        chmodat(target, name, mode(stat), AtFlags::empty())?;
    }
    Ok(utimensat(target, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)?)
}

/// What is in a file; its holes stay holes.
fn copy_data(mut from: File, mut to: File) -> io::Result<File> {
    let length = from.metadata()?.len();
    let mut at = 0;
    while at < length {
        let start = match seek(&from, rustix::fs::SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        at = seek(&from, rustix::fs::SeekFrom::Hole(start))?;
        from.seek(SeekFrom::Start(start))?;
        to.seek(SeekFrom::Start(start))?;
        io::copy(&mut (&from).take(at - start), &mut to)?;
    }
    to.set_len(length)?;
    Ok(to)
}

fn copy_attributes(from: impl AsFd, to: impl AsFd) -> io::Result<()> {
    for (name, value) in extended(from)? {
        let _ = fsetxattr(&to, OsStr::from_bytes(&name), &value, XattrFlags::empty());
    }
    Ok(())
}

fn uid(stat: &Stat) -> Option<Uid> {
    Some(Uid::from_raw(stat.st_uid))
}

fn gid(stat: &Stat) -> Option<Gid> {
    Some(Gid::from_raw(stat.st_gid))
}

fn mode(stat: &Stat) -> Mode {
    Mode::from_raw_mode(stat.st_mode & 0o7777)
}

fn times(stat: &Stat) -> Timestamps {
    let time = Timespec {
        tv_sec: stat.st_mtime,
        tv_nsec: stat.st_mtime_nsec.try_into().unwrap_or(0),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

/// In a user namespace not everybody can own a file.
fn own(result: rustix::io::Result<()>) -> io::Result<()> {
    match result {
        Ok(()) | Err(Errno::PERM | Errno::INVAL) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_volume_begins_as_what_the_image_has_there() {
        let dir = tempfile::tempdir().unwrap();
        let (root, source) = (dir.path().join("root"), dir.path().join("volumes/0"));
        let data = root.join("srv/data");
        fs::create_dir_all(data.join("closed/inner")).unwrap();
        fs::write(data.join("closed/inner/file"), "text").unwrap();
        fs::hard_link(data.join("closed/inner/file"), data.join("again")).unwrap();
        symlink("/nowhere", data.join("link")).unwrap();
        mknodat(
            rustix::fs::CWD,
            data.join("pipe"),
            FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        let sparse = File::create(data.join("sparse")).unwrap();
        std::os::unix::fs::FileExt::write_at(&sparse, b"end", 8 << 20).unwrap();
        fs::set_permissions(data.join("sparse"), fs::Permissions::from_mode(0o4711)).unwrap();
        fs::set_permissions(data.join("closed"), fs::Permissions::from_mode(0o500)).unwrap();
        fs::set_permissions(&data, fs::Permissions::from_mode(0o1770)).unwrap();
        symlink("/srv/data", root.join("data")).unwrap();
        fill(&source, &root, Path::new("/data")).unwrap();
        let metadata = |path: &str| fs::symlink_metadata(source.join(path)).unwrap();
        assert_eq!(fs::read_to_string(source.join("closed/inner/file")).unwrap(), "text");
        assert_eq!(metadata("closed/inner/file").ino(), metadata("again").ino());
        assert_eq!(fs::read_link(source.join("link")).unwrap(), Path::new("/nowhere"));
        assert!(metadata("pipe").file_type().is_fifo());
        let sparse = metadata("sparse");
        assert_eq!((sparse.len(), sparse.mode() & 0o7777), ((8 << 20) + 3, 0o4711));
        assert!(sparse.blocks() * 512 < 1 << 20, "{} blocks", sparse.blocks());
        assert_eq!(
            (metadata("closed").mode() & 0o7777, metadata("").mode() & 0o7777),
            (0o500, 0o1770)
        );
        let before = fs::metadata(&data).unwrap();
        assert_eq!(metadata("").mtime_nsec(), before.mtime_nsec());
        crate::removal::remove_all(&source).unwrap();

        fill(&source, &root, Path::new("/not/there")).unwrap();
        assert_eq!(fs::read_dir(&source).unwrap().count(), 0);
        let file = fill(&dir.path().join("volumes/1"), &root, Path::new("/srv/data/again"));
        assert!(file.unwrap_err().to_string().contains("has a file there"));
    }
}
