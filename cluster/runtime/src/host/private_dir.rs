//! A folder that nobody but its owner may look into: whoever reads the data of a cluster has its keys.

use std::fs::{DirBuilder, read_dir};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, fchmod, fstat, openat};
use rustix::io::Errno;

/// What a data folder of ours has in it, sooner or later.
const OURS: [&str; 4] = ["images", "kubeconfig", "nodes", "store.redb"];

/// Makes a folder that is its owner's alone. One that is there is closed to others if it is ours and holds nothing or a cluster: then what
/// its mode was is answered.
///
/// # Errors
/// It cannot be made, is somebody else's, a link, or has other things in it that others may see: a sentence says what to do.
pub fn private_dir(dir: &Path) -> io::Result<Option<u32>> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let found = match openat(CWD, dir, flags, Mode::empty()) {
        Err(Errno::LOOP | Errno::NOTDIR) if dir.is_symlink() => {
            return Err(refused(
                "is a link, which might lead elsewhere later; name the folder itself".to_owned(),
            ));
        }
        other => other?,
    };
    let stat = fstat(&found)?;
    let own = rustix::process::geteuid().as_raw();
    if stat.st_uid != own {
        return Err(refused(format!(
            "belongs to user {}, who could read and replace the keys of the cluster, and this is user {own}; choose another, or `chown` it",
            stat.st_uid
        )));
    }
    let mode = stat.st_mode & 0o7777;
    if mode & 0o077 == 0 {
        return Ok(None);
    }
    let names = read_dir(dir)?.flatten().map(|entry| entry.file_name());
    // A disk of its own has that from the beginning (ext4).
    let names: Vec<_> = names.filter(|name| name != "lost+found").collect();
    if !names.is_empty() && !names.iter().any(|name| OURS.iter().any(|ours| name == ours)) {
        return Err(refused(format!(
            "may be entered by others (mode {mode:04o}) and holds other things than a cluster; name an empty folder, or `chmod 700` it"
        )));
    }
    fchmod(&found, Mode::from_raw_mode(0o700))?;
    Ok(Some(mode))
}

/// The folder above `dir` whose writers could put another one in its place, and why they may: a sentence's end. None: only root and who runs
/// this may. What others may write is no matter where only owners may rename (the sticky bit, as `/tmp` has it).
///
/// # Errors
/// `dir` is not there.
pub fn exposed_above(dir: &Path) -> io::Result<Option<(PathBuf, String)>> {
    let own = rustix::process::geteuid().as_raw();
    let dir = dir.canonicalize()?;
    for above in dir.ancestors().skip(1) {
        let stat = rustix::fs::stat(above)?;
        let mode = stat.st_mode & 0o7777;
        if mode & 0o022 != 0 && mode & 0o1000 == 0 {
            let who = if mode & 0o002 != 0 { "everybody" } else { "its group" };
            return Ok(Some((above.to_owned(), format!("{who} may write (mode {mode:04o})"))));
        }
        // The owner of files of others is shown as 65534 in a user namespace: who that is nobody can tell.
        if ![0, own, 65_534].contains(&stat.st_uid) {
            return Ok(Some((above.to_owned(), format!("user {} owns", stat.st_uid))));
        }
    }
    Ok(None)
}

fn refused(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, reason)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn mode(dir: &Path) -> u32 {
        fs::metadata(dir).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn folders_above_that_others_may_write_are_told() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("open/data");
        private_dir(&dir).unwrap();
        assert_eq!(exposed_above(&dir).unwrap(), None);
        let open = dir.parent().unwrap();
        for (mode, word) in [
            (0o777, Some("everybody")),
            (0o775, Some("its group")),
            (0o1777, None),
            (0o755, None),
        ] {
            fs::set_permissions(open, Permissions::from_mode(mode)).unwrap();
            let told = exposed_above(&dir).unwrap();
            assert_eq!(told.is_some(), word.is_some(), "{mode:o}");
            if let (Some((above, why)), Some(word)) = (told, word) {
                assert_eq!(above, open.canonicalize().unwrap());
                assert!(why.starts_with(word), "{why}");
            }
        }
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(open, Some(1234), None).unwrap();
            assert_eq!(exposed_above(&dir).unwrap().unwrap().1, "user 1234 owns");
        }
    }

    #[test]
    fn only_its_owner_may_look_into_it() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("a/b");
        assert_eq!(private_dir(&dir).unwrap(), None);
        assert_eq!(mode(&dir), 0o700);
        // Open, and empty or a cluster's: closed, and said.
        for file in [None, Some("store.redb")] {
            if let Some(name) = file {
                fs::write(dir.join(name), "").unwrap();
            }
            fs::set_permissions(&dir, Permissions::from_mode(0o755)).unwrap();
            assert_eq!(private_dir(&dir).unwrap(), Some(0o755));
            assert_eq!(mode(&dir), 0o700);
        }
        let disk = parent.path().join("disk");
        fs::create_dir_all(disk.join("lost+found")).unwrap();
        fs::set_permissions(&disk, Permissions::from_mode(0o755)).unwrap();
        assert_eq!(private_dir(&disk).unwrap(), Some(0o755));
        let other = parent.path().join("home");
        fs::create_dir(&other).unwrap();
        fs::write(other.join("letter"), "").unwrap();
        fs::set_permissions(&other, Permissions::from_mode(0o755)).unwrap();
        assert!(private_dir(&other).unwrap_err().to_string().contains("mode 0755"));
        assert_eq!(mode(&other), 0o755, "it is left as it is");
        let link = parent.path().join("link");
        symlink(&dir, &link).unwrap();
        assert!(private_dir(&link).unwrap_err().to_string().contains("is a link"));
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&dir, Some(65_534), None).unwrap();
            assert!(
                private_dir(&dir)
                    .unwrap_err()
                    .to_string()
                    .contains("belongs to user 65534")
            );
        }
    }
}
