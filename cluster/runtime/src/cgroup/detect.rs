//! Which cgroups we are in and may extend, from what /proc says. Pure.

use std::path::{Path, PathBuf};

/// Controllers of use; without the first there is no point.
const CONTROLLERS: [&str; 3] = ["memory", "cpu", "pids"];

/// Our own cgroups, by path in the file system. A directory in there is under whatever limits we are under ourselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Own cgroup in the hierarchy of each controller.
    V1 {
        memory: PathBuf,
        cpu: Option<PathBuf>,
        pids: Option<PathBuf>,
        devices: Option<PathBuf>,
    },
    /// Own cgroup in the unified hierarchy.
    V2 { own: PathBuf },
}

/// What to do in the unified hierarchy.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unified {
    /// The controllers to pass on.
    pub(crate) controllers: Vec<String>,
}

/// One line of /proc/PID/mountinfo, as far as it matters (proc(5)).
struct Mount<'a> {
    root: &'a str,
    point: &'a str,
    kind: &'a str,
    options: &'a str,
}

fn mounts(mountinfo: &str) -> impl Iterator<Item = Mount<'_>> {
    mountinfo.lines().filter_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let mut right = right.split(' ');
        Some(Mount {
            root: left.next()?,
            point: left.next()?,
            kind: right.next()?,
            options: right.nth(1)?,
        })
    })
}

/// Our path in the hierarchy of a controller (empty: the unified one), out of /proc/self/cgroup.
fn own_path<'a>(own: &'a str, controller: &str) -> Option<&'a str> {
    own.lines().find_map(|line| {
        let (names, path) = line.split_once(':')?.1.split_once(':')?;
        names.split(',').any(|name| name == controller).then_some(path)
    })
}

/// Where a path of a hierarchy is in the file system, seen through a mount of a part of it.
fn through(mount: &Mount<'_>, path: &str) -> Option<PathBuf> {
    let rest = Path::new(path).strip_prefix(mount.root).ok()?;
    // A cgroup outside of our cgroup namespace has no path here.
    let inside = !rest.components().any(|part| part == std::path::Component::ParentDir);
    inside.then(|| Path::new(mount.point).join(rest))
}

/// Our own cgroup in the hierarchy of a controller of version 1.
pub(crate) fn own_v1(mountinfo: &str, own: &str, controller: &str) -> Option<PathBuf> {
    let path = own_path(own, controller)?;
    mounts(mountinfo)
        .filter(|mount| mount.kind == "cgroup" && mount.options.split(',').any(|option| option == controller))
        .find_map(|mount| through(&mount, path))
}

/// Finds our own cgroups from /proc/self/mountinfo and /proc/self/cgroup: memory decides which version counts, since a
/// controller is in one hierarchy only.
pub(crate) fn find(mountinfo: &str, own: &str) -> Result<Found, String> {
    let v1 = |controller: &str| own_v1(mountinfo, own, controller);
    if let Some(memory) = v1("memory") {
        return Ok(Found::V1 {
            memory,
            cpu: v1("cpu"),
            pids: v1("pids"),
            devices: v1("devices"),
        });
    }
    let path = own_path(own, "").ok_or("there is no memory controller among the cgroups of this machine")?;
    mounts(mountinfo)
        .filter(|mount| mount.kind == "cgroup2")
        .find_map(|mount| through(&mount, path))
        .map(|own| Found::V2 { own })
        .ok_or_else(|| "the own cgroup is not visible in any mounted cgroup file system".to_owned())
}

/// Whether our own cgroup of the unified hierarchy can be divided. `controllers`, `processes`: its files; `own_pid`: who
/// we are; `is_root`: the root of all cgroups is exempt from the rule that only leaves have processes.
pub(crate) fn decide_unified(
    controllers: &str,
    processes: &str,
    own_pid: i32,
    is_root: bool,
) -> Result<Unified, String> {
    let have: Vec<&str> = controllers.split_ascii_whitespace().collect();
    let advice =
        "start it in a cgroup of its own: `systemd-run --scope -p Delegate=yes afloat …` (with `--user` without root)";
    if !have.contains(&CONTROLLERS[0]) {
        return Err(format!(
            "the own cgroup has no memory controller to pass on (it has: {}); {advice}",
            have.join(" ")
        ));
    }
    let others = processes
        .split_ascii_whitespace()
        .filter(|pid| pid.parse() != Ok(own_pid))
        .count();
    if others > 0 && !is_root {
        return Err(format!(
            "{others} other processes share the own cgroup, which therefore cannot be divided; {advice}"
        ));
    }
    let controllers = CONTROLLERS.iter().filter(|name| have.contains(name));
    Ok(Unified {
        controllers: controllers.map(ToString::to_string).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
30 20 0:25 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
31 30 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
32 30 0:27 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
33 30 0:28 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
    const UNIFIED: &str = "30 20 0:25 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn a_hybrid_machine_counts_by_its_memory_controller() {
        let own = "4:memory:/jobs/one\n1:cpu,cpuacct:/\n0::/\n";
        let expected = Found::V1 {
            memory: "/sys/fs/cgroup/memory/jobs/one".into(),
            cpu: Some("/sys/fs/cgroup/cpu,cpuacct/".into()),
            pids: None,
            devices: None,
        };
        assert_eq!(find(HYBRID, own), Ok(expected));
    }

    #[test]
    fn a_container_sees_its_part_of_a_hierarchy() {
        let mountinfo = "32 30 0:27 /docker/x /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
        let memory = PathBuf::from("/sys/fs/cgroup/memory/y");
        let expected = Found::V1 {
            memory,
            cpu: None,
            pids: None,
            devices: None,
        };
        assert_eq!(find(mountinfo, "4:memory:/docker/x/y\n"), Ok(expected));
        assert!(find(mountinfo, "4:memory:/elsewhere\n").is_err());
    }

    #[test]
    fn a_unified_machine_has_one_path() {
        let own = "0::/user.slice/run-1.scope\n";
        let expected = Found::V2 {
            own: "/sys/fs/cgroup/user.slice/run-1.scope".into(),
        };
        assert_eq!(find(UNIFIED, own), Ok(expected));
        assert!(find(UNIFIED, "0::/../other\n").is_err(), "outside of the namespace");
        assert!(find("", own).is_err() && find(UNIFIED, "").is_err());
    }

    #[test]
    fn only_a_cgroup_of_our_own_is_divided() {
        let decide = |controllers, processes, root| decide_unified(controllers, processes, 7, root);
        let all = decide("cpuset cpu io memory pids\n", "7\n", false).map(|u| u.controllers);
        assert_eq!(all, Ok(["memory", "cpu", "pids"].map(String::from).to_vec()));
        let shared = decide("memory", "7\n8\n", false).map_err(|reason| reason.contains("Delegate=yes"));
        assert_eq!(shared, Err(true));
        assert!(decide("memory", "7\n8\n", true).is_ok());
        assert!(decide("cpu pids", "7\n", false).is_err());
    }
}
