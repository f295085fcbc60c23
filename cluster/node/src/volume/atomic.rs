//! Replaces all files of a volume at once, in the layout of the kubelet's AtomicWriter, which programs that watch their
//! configuration rely on: `..data` is a link to a directory named by the time, each file a link through `..data`, and one
//! rename swaps the whole. What was mounted by `subPath` keeps the old file.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Component, Path};

use afloat_runtime::removal::remove_all;

use super::files::{File, link};

const DATA: &str = "..data";
const DATA_NEW: &str = "..data_tmp";

/// Makes the volume hold these files and no others; `own` is called for the new directory before anybody sees it. Answers
/// whether anything was to be changed.
pub(super) fn write(dir: &Path, files: &[File], own: &dyn Fn(&Path)) -> io::Result<bool> {
    let wanted = payload(files)?;
    fs::create_dir_all(dir)?;
    let current = fs::read_link(dir.join(DATA)).ok();
    let same = current.is_some() && read(&dir.join(DATA), &wanted).unwrap_or(false);
    if !same {
        let fresh = new_directory(dir)?;
        let path = dir.join(&fresh);
        for (relative, file) in &wanted {
            let target = path.join(relative);
            if let Some(parent) = target.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(&target, &file.bytes)?;
            let mode = |mode: u32| fs::set_permissions(&target, fs::Permissions::from_mode(mode & 0o777));
            mode(file.mode)?;
            // Without root there are few users: then all may read what was to be one user's.
            if file
                .owner
                .is_some_and(|owner| chown(&target, Some(owner), None).is_err())
            {
                mode(file.mode | 0o044)?;
            }
        }
        own(&path);
        remove_all(&dir.join(DATA_NEW))?;
        symlink(&fresh, dir.join(DATA_NEW))?;
        fs::rename(dir.join(DATA_NEW), dir.join(DATA))?;
    }
    links(dir, &wanted)?;
    Ok(!same)
}

/// The files by path, the last of a path counting; none may lead out of the volume.
fn payload(files: &[File]) -> io::Result<BTreeMap<&str, &File>> {
    let mut wanted = BTreeMap::new();
    for file in files {
        let path = Path::new(&file.path);
        let inside = path.components().all(|part| matches!(part, Component::Normal(_)));
        if !inside || file.path.is_empty() || file.path.starts_with("..") {
            let message = format!(
                "path {:?} must be relative and must not contain or begin with '..'",
                file.path
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        wanted.insert(file.path.as_str(), file);
    }
    Ok(wanted)
}

/// Whether exactly the wanted files are there.
fn read(data: &Path, wanted: &BTreeMap<&str, &File>) -> io::Result<bool> {
    for (path, file) in wanted {
        let path = data.join(path);
        // Bits that fsGroup adds are not counted.
        let mode = fs::metadata(&path)?.permissions().mode() & 0o777;
        if mode & file.mode != file.mode & 0o777 || fs::read(&path)? != file.bytes {
            return Ok(false);
        }
    }
    Ok(count(data)? == wanted.len())
}

fn count(dir: &Path) -> io::Result<usize> {
    let mut files = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        files += if entry.file_type()?.is_dir() {
            count(&entry.path())?
        } else {
            1
        };
    }
    Ok(files)
}

/// A new directory with the kubelet's form of name: `..2026_01_02_15_04_05.000000001`.
fn new_directory(dir: &Path) -> io::Result<String> {
    let now = jiff::Timestamp::now();
    for attempt in 0..1000 {
        let nanos = now.subsec_nanosecond().rem_euclid(1_000_000_000);
        let name = format!("{}.{:09}", now.strftime("..%Y_%m_%d_%H_%M_%S"), nanos + attempt);
        match fs::create_dir(dir.join(&name)) {
            Ok(()) => {
                fs::set_permissions(dir.join(&name), fs::Permissions::from_mode(0o755))?;
                return Ok(name);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "no new directory name"))
}

/// Makes a link through `..data` for each first part of a path, and takes everything else away.
fn links(dir: &Path, wanted: &BTreeMap<&str, &File>) -> io::Result<()> {
    let first = |path: &&str| {
        Path::new(path)
            .components()
            .next()
            .map(|part| part.as_os_str().to_owned())
    };
    let names: BTreeSet<OsString> = wanted.keys().filter_map(first).collect();
    for name in &names {
        link(&Path::new(DATA).join(name), &dir.join(name))?;
    }
    let current = fs::read_link(dir.join(DATA))?;
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        if name != DATA && name != current.as_os_str() && !names.contains(&name) {
            remove_all(&dir.join(&name))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str, mode: u32) -> File {
        File {
            path: path.into(),
            bytes: text.into(),
            mode,
            owner: None,
        }
    }

    fn put(dir: &Path, files: &[File]) -> bool {
        write(dir, files, &|_| {}).unwrap()
    }

    fn names(dir: &Path) -> Vec<String> {
        let all = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
        let mut all: Vec<_> = all.map(|name| name.to_string_lossy().into_owned()).collect();
        all.sort();
        all
    }

    #[test]
    fn all_files_are_swapped_at_once_and_only_if_something_changed() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = temporary.path();
        assert!(put(dir, &[file("a", "1", 0o640), file("d/b", "2", 0o600)]));
        assert_eq!(fs::read_link(dir.join("a")).unwrap(), Path::new("..data/a"));
        assert_eq!(fs::read_link(dir.join("d")).unwrap(), Path::new("..data/d"));
        let first = fs::read_link(dir.join(DATA)).unwrap();
        let old = fs::File::open(dir.join("a")).unwrap();
        assert!(!put(dir, &[file("a", "1", 0o640), file("d/b", "2", 0o600)]));
        assert_eq!(fs::read_link(dir.join(DATA)).unwrap(), first);

        assert!(put(dir, &[file("d/b", "3", 0o600), file("c", "4", 0o444)]));
        let second = fs::read_link(dir.join(DATA)).unwrap();
        assert_ne!(first, second);
        assert_eq!(names(dir), [second.to_string_lossy().as_ref(), DATA, "c", "d"]);
        assert_eq!(fs::read_to_string(dir.join("d/b")).unwrap(), "3");
        let mode = fs::metadata(dir.join("c")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o444);
        // What was opened (or mounted) before stays what it was.
        assert_eq!(io::read_to_string(old).unwrap(), "1");
        // Another mode alone is a change, too.
        assert!(put(dir, &[file("d/b", "3", 0o640), file("c", "4", 0o444)]));
        assert!(put(dir, &[]));
        assert_eq!(names(dir).len(), 2);
    }

    #[test]
    fn plain_files_of_an_earlier_version_and_leftovers_give_way() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = temporary.path();
        fs::write(dir.join("a"), "old").unwrap();
        fs::create_dir(dir.join("..2020_01_01_00_00_00.1")).unwrap();
        symlink("nowhere", dir.join(DATA_NEW)).unwrap();
        put(dir, &[file("a", "new", 0o644)]);
        assert_eq!(fs::read_to_string(dir.join("a")).unwrap(), "new");
        assert_eq!(names(dir).len(), 3);
    }

    #[test]
    fn nothing_leads_out_of_the_volume() {
        let temporary = tempfile::tempdir().unwrap();
        for path in ["../x", "/x", "", "..data", "a/../../x"] {
            assert!(
                write(temporary.path(), &[file(path, "", 0o644)], &|_| {}).is_err(),
                "{path}"
            );
        }
    }
}
