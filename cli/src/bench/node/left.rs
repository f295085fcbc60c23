//! What pods can leave behind.

use std::fmt;
use std::fs;
use std::path::Path;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use serde::Serialize;

/// Counts, all as this process sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Left {
    /// Objects in the API.
    pods: usize,
    /// Mounts in this process' namespace.
    mounts: usize,
    /// Network devices in this process' namespace: bridges, and one for each pod.
    devices: usize,
    /// Processes in this pid namespace, zombies included: containers and ours.
    processes: usize,
    /// Ended processes that nobody has waited for.
    zombies: usize,
    /// Open files of this process, connections included.
    descriptors: usize,
    /// Control groups of containers.
    control_groups: usize,
    /// Folders of pods and containers on the disk.
    folders: usize,
}

impl Left {
    pub(super) async fn count(pods: Api<Pod>, data_dir: &Path) -> anyhow::Result<Self> {
        let pods = pods.list(&ListParams::default()).await?.items.len();
        let nodes = data_dir.join("nodes");
        Ok(tokio::task::spawn_blocking(move || {
            let (processes, zombies) = processes();
            Self {
                pods,
                mounts: lines("/proc/self/mountinfo"),
                devices: lines("/proc/net/dev"),
                processes,
                zombies,
                descriptors: entries("/proc/self/fd"),
                control_groups: own_control_groups(),
                folders: subfolders(&nodes, 4),
            }
        })
        .await?)
    }

    /// Whether something is there that was not before. A few descriptors are connections that are kept for reuse.
    pub(super) fn exceeds(&self, before: &Self) -> bool {
        const KEPT_CONNECTIONS: usize = 8;
        self.pods > before.pods
            || self.mounts > before.mounts
            || self.devices > before.devices
            || self.processes > before.processes
            || self.zombies > before.zombies
            || self.descriptors > before.descriptors + KEPT_CONNECTIONS
            || self.control_groups > before.control_groups
            || self.folders > before.folders
    }
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} pods, {} mounts, {} devices, {} processes, {} zombies, {} descriptors, {} control groups, {} folders",
            self.pods,
            self.mounts,
            self.devices,
            self.processes,
            self.zombies,
            self.descriptors,
            self.control_groups,
            self.folders
        )
    }
}

fn lines(file: &str) -> usize {
    fs::read_to_string(file).unwrap_or_default().lines().count()
}

fn entries(folder: impl AsRef<Path>) -> usize {
    fs::read_dir(folder).map_or(0, Iterator::count)
}

/// Processes that this pid namespace shows, and how many of them are zombies.
fn processes() -> (usize, usize) {
    let mut counts = (0, 0);
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().filter(|name| name.parse::<u32>().is_ok());
        if let Some(state) = pid.and_then(afloat_runtime::process::state) {
            counts.0 += 1;
            counts.1 += usize::from(state == 'Z');
        }
    }
    counts
}

/// Control groups inside those that this process is in, in every hierarchy.
fn own_control_groups() -> usize {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mounts = text.lines().filter(|line| line.contains(" - cgroup"));
    let folders = mounts.filter_map(|line| line.split(' ').nth(4));
    folders
        .map(|folder| {
            let runs = fs::read_dir(folder).into_iter().flatten().flatten();
            runs.filter(|entry| entry.file_name().to_string_lossy().starts_with("afloat-"))
                .map(|entry| subfolders(&entry.path(), 2))
                .sum::<usize>()
        })
        .sum()
}

/// Folders below a folder, down to a depth; links are not followed.
fn subfolders(folder: &Path, depth: usize) -> usize {
    if depth == 0 {
        return 0;
    }
    let below = fs::read_dir(folder).into_iter().flatten().flatten();
    below
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| 1 + subfolders(&entry.path(), depth - 1))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told_from_what_was_there() {
        let before = Left {
            pods: 0,
            mounts: 20,
            devices: 6,
            processes: 4,
            zombies: 0,
            descriptors: 40,
            control_groups: 0,
            folders: 9,
        };
        assert!(!before.exceeds(&before));
        assert!(
            !Left {
                descriptors: 44,
                ..before
            }
            .exceeds(&before)
        );
        for after in [
            Left { zombies: 1, ..before },
            Left { mounts: 21, ..before },
            Left {
                descriptors: 60,
                ..before
            },
            Left { folders: 10, ..before },
        ] {
            assert!(after.exceeds(&before), "{after}");
        }
    }

    #[test]
    fn folders_are_counted_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b/c")).unwrap();
        std::os::unix::fs::symlink(dir.path(), dir.path().join("a/loop")).unwrap();
        assert_eq!((subfolders(dir.path(), 9), subfolders(dir.path(), 2)), (3, 2));
    }

    #[test]
    fn this_process_is_seen() {
        assert!(processes().0 >= 1);
    }
}
