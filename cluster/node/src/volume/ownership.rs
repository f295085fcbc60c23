//! `fsGroup`: the group owns the pod's volumes (the kubelet's `pkg/volume/volume_linux.go`).

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;

use k8s_openapi::api::core::v1::Pod;
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Stat, chmodat, chownat, fstat, openat};

use super::files::walk;

/// What is given to the group, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ownership {
    group: u32,
    /// It may read, and no more.
    read_only: bool,
    /// Nothing is done where the volume's folder looks as if all was done before (`fsGroupChangePolicy: OnRootMismatch`).
    on_mismatch: bool,
}

impl Ownership {
    /// Of volumes that the pod may write to. None: the pod has no such group.
    pub(super) fn of(pod: &Pod) -> Option<Self> {
        let context = pod.spec.as_ref()?.security_context.as_ref()?;
        Some(Self {
            group: u32::try_from(context.fs_group?).ok()?,
            read_only: false,
            on_mismatch: false,
        })
    }

    /// Of volumes whose contents come from the API.
    pub(super) fn read_only(self) -> Self {
        Self {
            read_only: true,
            ..self
        }
    }

    /// Of volumes that outlive the pod: its policy counts.
    pub(super) fn by_policy(self, pod: &Pod) -> Self {
        let context = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
        let policy = context.and_then(|context| context.fs_group_change_policy.as_deref());
        Self {
            on_mismatch: policy == Some("OnRootMismatch"),
            ..self
        }
    }

    /// Gives a folder with all that is in it to the group. Best effort: without root most groups do not exist.
    pub(super) fn give(self, path: &Path) {
        if let Err(error) = self.try_give(path) {
            tracing::debug!(path = %path.display(), group = self.group, %error, "cannot apply fsGroup");
        }
    }

    /// The folder itself last: as it looks then, all is done.
    fn try_give(self, path: &Path) -> io::Result<()> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let top = openat(CWD, path, flags, Mode::empty())?;
        let stat = fstat(&top)?;
        if self.on_mismatch && self.holds(&stat) {
            return Ok(());
        }
        let mut inside = false;
        walk(path, &mut |found, stat| {
            if std::mem::replace(&mut inside, true) {
                self.give_one(found, stat)?;
            }
            Ok(())
        })?;
        self.give_one(&top, &stat)
    }

    fn holds(self, stat: &Stat) -> bool {
        let folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let wanted = self.bits(true);
        folder && stat.st_gid == self.group && stat.st_mode & wanted == wanted
    }

    /// What is added to the permissions.
    fn bits(self, folder: bool) -> u32 {
        let bits = if self.read_only { 0o440 } else { 0o660 };
        if folder { bits | 0o2110 } else { bits }
    }

    /// Gives one thing to the group.
    fn give_one(self, found: &OwnedFd, stat: &Stat) -> io::Result<()> {
        chownat(found, "", None, Some(Gid::from_raw(self.group)), AtFlags::EMPTY_PATH)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Symlink {
            return Ok(());
        }
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777 | self.bits(kind == FileType::Directory));
        // A descriptor that only names a file has no fchmod before Linux 6.6; its path in /proc leads to that file alone.
        let own = format!("/proc/self/fd/{}", found.as_raw_fd());
        Ok(chmodat(CWD, own.as_str(), mode, AtFlags::empty())?)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    use super::*;

    /// An ordinary user may give to its own group only.
    fn some_group(path: &Path) -> u32 {
        let own = fs::metadata(path).unwrap().gid();
        let root = rustix::process::geteuid().is_root();
        if root { own + 1234 } else { own }
    }

    fn ownership(group: u32) -> Ownership {
        let pod = serde_json::json!({"spec": {"containers": [], "securityContext": {"fsGroup": group}}});
        Ownership::of(&serde_json::from_value(pod).unwrap()).unwrap()
    }

    #[test]
    fn everything_in_a_volume_is_the_groups_and_nothing_outside() {
        let dir = tempfile::tempdir().unwrap();
        let (volume, outside) = (dir.path().join("volume"), dir.path().join("outside"));
        let own = fs::metadata(dir.path()).unwrap().gid();
        let group = some_group(dir.path());
        for (read_only, folder, file) in [(true, 0o2750, 0o640), (false, 0o2770, 0o660)] {
            let _ = fs::remove_dir_all(&volume);
            fs::create_dir_all(volume.join("a/b")).unwrap();
            for path in ["", "a", "a/b"] {
                fs::set_permissions(volume.join(path), fs::Permissions::from_mode(0o700)).unwrap();
            }
            for file in [volume.join("a/b/file"), outside.clone()] {
                fs::write(&file, "").unwrap();
                fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
            }
            symlink(&outside, volume.join("a/link")).unwrap();
            let mut ownership = ownership(group);
            if read_only {
                ownership = ownership.read_only();
            }
            ownership.give(&volume);
            for (path, mode) in [("", folder), ("a", folder), ("a/b", folder), ("a/b/file", file)] {
                let found = fs::metadata(volume.join(path)).unwrap();
                assert_eq!((found.gid(), found.mode() & 0o7770), (group, mode), "{path}");
            }
            assert_eq!(fs::symlink_metadata(volume.join("a/link")).unwrap().gid(), group);
            let found = fs::metadata(&outside).unwrap();
            assert_eq!((found.gid(), found.mode() & 0o777), (own, 0o600));
        }
    }

    #[test]
    fn a_volume_that_looks_right_is_left_alone_where_that_is_the_policy() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        let ownership = ownership(some_group(dir.path()));
        ownership.give(dir.path());
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let mode = || fs::metadata(&file).unwrap().mode() & 0o777;
        let lazy = Ownership {
            on_mismatch: true,
            ..ownership
        };
        lazy.give(dir.path());
        assert_eq!(mode(), 0o600);
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        lazy.give(dir.path());
        assert_eq!(mode(), 0o660);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        ownership.give(dir.path());
        assert_eq!(mode(), 0o660);
    }
}
