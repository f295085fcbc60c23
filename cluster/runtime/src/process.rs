//! What the kernel tells of a process, and how one is killed.

use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// How often processes are looked for that go on to fork while they are being killed, and the pause before each further look.
const KILL_ROUNDS: u32 = 200;

const KILL_PAUSE: Duration = Duration::from_millis(5);

/// The fields of `/proc/PID/stat` after the process' name, which may hold anything: the state first, field 3 of
/// proc_pid_stat(5). None: that is no such line.
pub fn stat_fields(stat: &str) -> Option<std::str::SplitAsciiWhitespace<'_>> {
    stat.rsplit_once(')').map(|(_, rest)| rest.split_ascii_whitespace())
}

/// The letter of a process' state: R, S, D, Z (ended, nobody has waited for it), X… None: there is no such process.
pub fn state(pid: &str) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat_fields(&stat)?.next()?.chars().next()
}

/// Which mount namespace a process lives in, as `/proc` names it. Each container has one to itself, whichever other namespaces
/// it shares, so it tells whose process this is. None: the process has ended, or is not ours to look at.
pub(crate) fn mount_namespace(pid: i32) -> Option<String> {
    let link = std::fs::read_link(format!("/proc/{pid}/ns/mnt")).ok()?;
    Some(link.to_str()?.to_owned())
}

/// The numbers of all processes at this moment.
pub(crate) fn pids() -> std::io::Result<impl Iterator<Item = i32>> {
    let names = std::fs::read_dir("/proc")?.flatten().map(|entry| entry.file_name());
    Ok(names.filter_map(|name| name.to_str()?.parse().ok()))
}

/// Those of them in that mount namespace.
pub(crate) fn members(mount_namespace_of: &str) -> std::io::Result<Vec<i32>> {
    let ours = |pid: &i32| mount_namespace(*pid).as_deref() == Some(mount_namespace_of);
    Ok(pids()?.filter(ours).collect())
}

/// The number that a file holds.
pub(crate) fn read_pid(file: &Path) -> Option<i32> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// Kills the process of that number if it is still the one that is meant. It is asked when the process is held, so that the
/// number cannot come to belong to somebody else in between.
pub(crate) fn kill(pid: i32, is_meant: impl FnOnce() -> bool) {
    if let Some(pid) = Pid::from_raw(pid)
        && let Ok(process) = pidfd_open(pid, PidfdFlags::empty())
        && is_meant()
    {
        // Not an error if it has ended.
        let _ = pidfd_send_signal(process, Signal::KILL);
    }
}

/// Kills every process of a container whose first process has ended: with a PID namespace of its own the kernel does that.
/// Blocks.
pub(crate) fn kill_members(namespace: &str) {
    for _ in 0..KILL_ROUNDS {
        let Ok(rest) = members(namespace) else { return };
        if rest.is_empty() {
            return;
        }
        for pid in rest {
            kill(pid, || mount_namespace(pid).as_deref() == Some(namespace));
        }
        std::thread::sleep(KILL_PAUSE);
    }
    tracing::warn!(namespace, "processes of a container that has ended do not die");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let mut fields = stat_fields("42 (a) Z (b c) S 1 42").unwrap();
        assert_eq!((fields.next(), fields.next()), (Some("S"), Some("1")));
        assert!(stat_fields("").is_none());
    }

    #[test]
    fn this_process_is_a_member_of_its_own_namespace() {
        let own = i32::try_from(std::process::id()).unwrap();
        let namespace = mount_namespace(own).unwrap();
        assert!(members(&namespace).unwrap().contains(&own));
        assert!(members("mnt:[0]").unwrap().is_empty());
    }

    #[test]
    fn this_process_runs_and_no_other_has_no_number() {
        assert!(state("self").is_some_and(|state| "RSD".contains(state)));
        assert_eq!(state("no number"), None);
    }
}
