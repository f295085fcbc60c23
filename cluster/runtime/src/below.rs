//! What is below a folder whose contents a stranger made: looked up once, and from then on known by its descriptor.
//!
//! A path that was looked at is another one a moment later, where somebody else may put links. The kernel resolves all of a path under
//! one rule (openat2(2)); what it answers stays what it is.

use std::ffi::{CStr, OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2, readlinkat};
use rustix::io::Errno;

/// While others rename folders, the kernel may not be sure that a path with `..` stays below; it says so, and is asked again this often.
const TRIES: usize = 1000;
/// Links on one way, as many as the kernel follows.
const LINKS_MAX: usize = 40;

/// How links are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// As if the folder were `/`: none leads out. For root file systems.
    InRoot,
    /// As they are: one that leads out is an error, an absolute one always. For volumes.
    Beneath,
}

impl Links {
    fn flags(self) -> ResolveFlags {
        ResolveFlags::NO_MAGICLINKS
            | match self {
                Self::InRoot => ResolveFlags::IN_ROOT,
                Self::Beneath => ResolveFlags::BENEATH,
            }
    }
}

/// Opens a folder, to look below it.
///
/// # Errors
/// It is none, or cannot be reached.
pub fn folder(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat(CWD, path, flags, Mode::empty())?)
}

/// What is there, whatever it is: a descriptor that only names it.
///
/// # Errors
/// Nothing is there, or it is outside (`EXDEV`, where links are taken as they are).
pub fn find(root: impl AsFd, path: &Path, links: Links) -> io::Result<OwnedFd> {
    Ok(open(&root, path, OFlags::PATH, links)?)
}

fn open(root: &impl AsFd, path: &Path, flags: OFlags, links: Links) -> rustix::io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    let mode = if flags.contains(OFlags::CREATE) {
        Mode::from_raw_mode(0o644)
    } else {
        Mode::empty()
    };
    for _ in 0..TRIES {
        match openat2(root, path, flags | OFlags::CLOEXEC, mode, links.flags()) {
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

/// What is there; folders that are missing are made, in a root file system those, too, that a link leads to.
///
/// # Errors
/// Something on the way is no folder, or leads out.
pub fn find_or_make(root: impl AsFd, path: &Path, links: Links) -> io::Result<OwnedFd> {
    match open(&root, path, OFlags::PATH, links) {
        Err(Errno::NOENT) => {}
        other => return Ok(other?),
    }
    let path = match links {
        Links::InRoot => resolved(&root, path)?,
        Links::Beneath => path.to_owned(),
    };
    let mut so_far = PathBuf::new();
    let mut current = open(&root, &so_far, OFlags::PATH, links)?;
    for name in path.components().map(|c| OsString::from(c.as_os_str())) {
        so_far.push(&name);
        current = match open(&root, &so_far, OFlags::PATH, links) {
            Err(Errno::NOENT) => {
                match mkdirat(&current, &name, Mode::from_raw_mode(0o755)) {
                    // Somebody was faster, or a volume has a link to nowhere: the next line tells.
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error.into()),
                }
                open(&root, &so_far, OFlags::PATH, links)?
            }
            other => other?,
        };
    }
    Ok(current)
}

/// A folder in a root file system; those that are missing are made.
///
/// # Errors
/// Something on the way is no folder.
pub(crate) fn directory(root: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    let found = find_or_make(root, path, Links::InRoot)?;
    // Tells a folder from the rest.
    Ok(openat(
        &found,
        ".",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

/// A folder to which no link leads.
///
/// # Errors
/// There is none, or a link is on the way.
pub(crate) fn plain_directory(root: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    Ok(openat2(root, path, flags, Mode::empty(), resolve)?)
}

/// Where a path leads in a root file system: relative, plain, and without links. Those that lead to nowhere are followed as well; what is
/// missing is taken for folders to come. Of a root file system that nobody else writes to.
///
/// # Errors
/// There are too many links, or one cannot be read.
pub(crate) fn resolved(root: impl AsFd, path: &Path) -> io::Result<PathBuf> {
    let parts = |path: &Path| -> Vec<OsString> {
        let names = path
            .components()
            .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
        names.map(|part| part.as_os_str().to_owned()).rev().collect()
    };
    let (mut left, mut found, mut links) = (parts(path), PathBuf::new(), 0);
    while let Some(name) = left.pop() {
        if name == ".." {
            found.pop();
            continue;
        }
        found.push(&name);
        match readlinkat(&root, &found, Vec::new()) {
            Ok(target) => {
                links += 1;
                if links > LINKS_MAX {
                    return Err(Errno::LOOP.into());
                }
                let target = PathBuf::from(text(&target));
                if target.is_absolute() {
                    found = PathBuf::new();
                } else {
                    found.pop();
                }
                left.extend(parts(&target));
            }
            // No link, or nothing.
            Err(Errno::INVAL | Errno::NOENT | Errno::NOTDIR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

/// A link's target.
pub(crate) fn text(target: &CStr) -> &OsStr {
    OsStr::from_bytes(target.to_bytes())
}

/// Sees to it that there is a file, in a root file system, also where a link leads to nowhere, so that something can be mounted on it.
///
/// # Errors
/// Something on the way is no folder, or there are too many links.
pub(crate) fn make_linked_file(root: impl AsFd, path: &Path) -> io::Result<()> {
    let path = resolved(&root, path)?;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(());
    };
    let folder = directory(&root, parent)?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW;
    match open(&folder, Path::new(name), flags, Links::InRoot) {
        Ok(_) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A path below the root without `.`, `..` and the leading slash, as far as words tell.
pub(crate) fn plain(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => drop(out.pop()),
            Component::RootDir => out = PathBuf::new(),
            Component::CurDir | Component::Prefix(_) => {}
        }
    }
    out
}

/// Opens a file of a root file system for reading. A pipe or device in its place is refused: whoever opened it might wait for ever.
///
/// # Errors
/// It is not there, or no regular file.
pub(crate) fn open_file(root: &Path, path: &Path) -> io::Result<File> {
    let root = folder(root)?;
    let file = File::from(open(
        &root,
        path,
        OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY,
        Links::InRoot,
    )?);
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        let reason = format!("{} is not a file", path.display());
        Err(io::Error::new(io::ErrorKind::InvalidData, reason))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;

    fn inode(fd: &OwnedFd) -> u64 {
        rustix::fs::fstat(fd).unwrap().st_ino
    }

    #[test]
    fn links_of_a_volume_stay_below_it_and_those_of_a_root_are_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::create_dir_all(root.join("outside")).unwrap();
        fs::create_dir(&outside).unwrap();
        symlink("../outside", root.join("up")).unwrap();
        symlink("/outside", root.join("absolute")).unwrap();
        symlink("a/b", root.join("inner")).unwrap();
        let at = folder(&root).unwrap();
        for path in ["up", "absolute", "..", "inner/../../../outside", "a/../.."] {
            assert!(find(&at, Path::new(path), Links::Beneath).is_err(), "{path}");
            assert!(find_or_make(&at, Path::new(path), Links::Beneath).is_err(), "{path}");
        }
        let inner = find(&at, Path::new("inner"), Links::Beneath).unwrap();
        assert_eq!(inode(&inner), fs::metadata(root.join("a/b")).unwrap().ino());
        for path in ["up", "absolute"] {
            let found = find(&at, Path::new(path), Links::InRoot).unwrap();
            assert_eq!(
                inode(&found),
                fs::metadata(root.join("outside")).unwrap().ino(),
                "{path}"
            );
        }
        let made = find_or_make(&at, Path::new("inner/x/y"), Links::Beneath).unwrap();
        assert_eq!(inode(&made), fs::metadata(root.join("a/b/x/y")).unwrap().ino());
        assert!(find_or_make(&at, Path::new("up/x"), Links::Beneath).is_err());
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    }

    #[test]
    fn a_link_to_nowhere_becomes_one_to_a_file_inside() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("etc")).unwrap();
        symlink("../run/systemd/resolv.conf", dir.path().join("etc/resolv.conf")).unwrap();
        symlink("/../../../etc/chain", dir.path().join("etc/hosts")).unwrap();
        symlink("loop", dir.path().join("etc/loop")).unwrap();
        fs::create_dir(dir.path().join("var")).unwrap();
        symlink("/run", dir.path().join("var/run")).unwrap();
        symlink("../srv/./data/", dir.path().join("etc/data")).unwrap();
        let root = folder(dir.path()).unwrap();
        for path in ["etc/resolv.conf", "etc/hosts"] {
            make_linked_file(&root, Path::new(path)).unwrap();
        }
        assert!(dir.path().join("run/systemd/resolv.conf").is_file() && dir.path().join("etc/chain").is_file());
        assert!(make_linked_file(&root, Path::new("etc/loop")).is_err());
        for (path, end) in [("var/run/secrets/x", "run/secrets/x"), ("etc/data/y", "srv/data/y")] {
            assert_eq!(resolved(&root, Path::new(path)).unwrap(), Path::new(end));
            directory(&root, Path::new(path)).unwrap();
            assert!(dir.path().join(end).is_dir(), "{end}");
        }
        symlink("no", dir.path().join("nowhere")).unwrap();
        assert!(
            find_or_make(&root, Path::new("nowhere/x"), Links::Beneath).is_err(),
            "a volume's"
        );
    }

    /// The kind of CVE-2021-25741: somebody swaps a folder with a link while it is looked up.
    #[test]
    fn whoever_swaps_a_folder_for_a_link_leads_nobody_out() {
        use std::sync::atomic::{AtomicBool, Ordering};
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("x")).unwrap();
        symlink("/", root.join("y")).unwrap();
        let (at, done) = (folder(&root).unwrap(), AtomicBool::new(false));
        let device = fs::metadata(&root).unwrap().dev();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let swap = rustix::fs::RenameFlags::EXCHANGE;
                    rustix::fs::renameat_with(&at, "x", &at, "y", swap).unwrap();
                }
            });
            let own = fs::metadata("/etc").unwrap().ino();
            for _ in 0..20_000 {
                let looked_up = [
                    find_or_make(&at, Path::new("x"), Links::Beneath),
                    find_or_make(&at, Path::new("x/etc"), Links::Beneath),
                ];
                for found in looked_up.into_iter().flatten() {
                    let stat = rustix::fs::fstat(&found).unwrap();
                    assert!(stat.st_dev == device && stat.st_ino != own && stat.st_ino != 2);
                }
            }
            done.store(true, Ordering::Relaxed);
        });
    }
}
