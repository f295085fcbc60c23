//! A pod's files: volumes from the specification, and `/etc/{hosts,hostname,resolv.conf}`.
//!
//! Blocking file work; callers put it on a blocking thread.

mod atomic;
pub(crate) mod claim;
mod contents;
mod declared;
mod etc;
mod files;
pub(crate) mod host_path;
mod ownership;
pub(crate) mod termination_log;
mod usage;

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use afloat_runtime::below::{self, Links};
use afloat_runtime::removal::remove_all;
use k8s_openapi::api::core::v1::{Pod, Volume};
use rustix::io::Errno;

pub(crate) use declared::{
    Inputs, References, claims, downward_changed, env_references, follows_the_api, in_memory, volume_references,
};
pub(crate) use etc::{NameServices, host_name, write_etc};
pub(crate) use usage::{excess, limited};

use crate::dirs::PodDirs;
use declared::volumes;
use ownership::Ownership;

/// Makes all volumes; ones that exist keep their contents (emptyDir, claims) or get the newest (ConfigMap, Secret, downward
/// API). Errors name the volume.
pub(crate) fn prepare(pod: &Pod, dirs: &PodDirs, inputs: &Inputs) -> Result<(), String> {
    for volume in volumes(pod) {
        make(pod, volume, dirs, inputs).map_err(|error| failed(volume, &error))?;
    }
    Ok(())
}

/// Brings the files of those volumes up to date that follow the API. Errors name the volume; the others are done anyway.
pub(crate) fn refresh(pod: &Pod, dirs: &PodDirs, inputs: &Inputs) -> Result<(), String> {
    let mut first = Ok(());
    for volume in volumes(pod).filter(|volume| follows_the_api(volume)) {
        let done = make(pod, volume, dirs, inputs).map_err(|error| failed(volume, &error));
        first = first.and(done);
    }
    first
}

/// The kubelet's words.
fn failed(volume: &Volume, error: &str) -> String {
    format!("MountVolume.SetUp failed for volume \"{}\" : {error}", volume.name)
}

fn make(pod: &Pod, volume: &Volume, dirs: &PodDirs, inputs: &Inputs) -> Result<(), String> {
    let path = dirs.volume(&volume.name);
    let io = |error: io::Error| format!("{}: {error}", path.display());
    let own = Ownership::of(pod);
    if volume.empty_dir.is_some() {
        if !path.exists() || !contents_begun(&path) {
            fs::create_dir_all(&path).map_err(io)?;
            // As the kubelet: everybody in the pod may write.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).map_err(io)?;
        }
        give(&path, own);
        return Ok(());
    }
    if let Some(source) = &volume.host_path {
        return host_path::check(Path::new(&source.path), source.type_.as_deref().unwrap_or_default());
    }
    if let Some(place) = inputs.claims.get(&volume.name) {
        files::link(&place.path, &path).map_err(io)?;
        if place.may_be_given() && !claim::read_only(volume) {
            give(&place.path, own.map(|own| own.by_policy(pod)));
        }
        return Ok(());
    }
    let own = own.map(Ownership::read_only);
    let files = contents::contents(pod, volume, inputs)?;
    // What it holds is given before anybody sees it, the folder around it when it is complete.
    if atomic::write(&path, &files, &|fresh| give(fresh, own)).map_err(io)? {
        give(&path, own);
    }
    Ok(())
}

/// Somebody has put something in: what it looks like is theirs then.
fn contents_begun(path: &Path) -> bool {
    fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some())
}

fn give(path: &Path, own: Option<Ownership>) {
    if let Some(own) = own {
        own.give(path);
    }
}

/// What a mount's `subPath` leads to, found once: whatever its containers put into the volume afterwards, this is mounted. A directory that
/// does not exist yet is made in volumes that are the pod's to write, as the kubelet does. Never outside of the volume, whatever links are
/// in it (CVE-2017-1002101, CVE-2021-25741).
pub(crate) fn sub_path(root: &Path, sub: &str, may_make: bool) -> Result<Arc<OwnedFd>, String> {
    let told = |error: io::Error| match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::XDEV) => format!("subPath {sub:?} is outside of its volume"),
        _ => format!("failed to prepare subPath {sub:?}: {error}"),
    };
    let root = below::folder(root).map_err(told)?;
    let parts = Path::new(sub)
        .components()
        .filter(|part| matches!(part, Component::Normal(_)));
    let path: PathBuf = parts.collect();
    let found = if may_make {
        below::find_or_make(root, &path, Links::Beneath)
    } else {
        below::find(root, &path, Links::Beneath)
    };
    found.map(Arc::new).map_err(told)
}

/// Takes a pod's files away. Not an error if there are none.
pub(crate) fn remove(dirs: &PodDirs, logs_too: bool) -> io::Result<()> {
    if logs_too {
        remove_all(&dirs.logs)?;
    }
    remove_all(&dirs.root)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;

    fn inode(found: Result<Arc<OwnedFd>, String>) -> u64 {
        rustix::fs::fstat(found.unwrap()).unwrap().st_ino
    }

    #[test]
    fn what_a_sub_path_leads_to_is_in_its_volume_and_stays_what_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("volume");
        fs::create_dir_all(volume.join("data")).unwrap();
        symlink("data", volume.join("current")).unwrap();
        symlink("/etc", volume.join("out")).unwrap();
        symlink("../..", volume.join("up")).unwrap();
        symlink(dir.path(), dir.path().join("itself")).unwrap();
        for sub in ["out", "up", "out/ssl", "up/x"] {
            for may_make in [false, true] {
                let told = sub_path(&volume, sub, may_make).unwrap_err();
                assert!(told.contains("outside of its volume"), "{sub}: {told}");
            }
        }
        let data = fs::metadata(volume.join("data")).unwrap().ino();
        let found = sub_path(&volume, "./current", false);
        // A neighbour puts something else in its place.
        fs::rename(volume.join("data"), volume.join("moved")).unwrap();
        symlink("/", volume.join("data")).unwrap();
        assert_eq!(inode(found), data);
        assert!(sub_path(&volume, "missing/x", false).is_err());
        let made = sub_path(&volume, "missing/x", true);
        assert_eq!(inode(made), fs::metadata(volume.join("missing/x")).unwrap().ino());
        // The volume itself may be a link: that of a claim is.
        assert!(sub_path(&dir.path().join("itself/volume"), "moved", false).is_ok());
    }
}
