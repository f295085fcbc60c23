//! Nothing is left behind: no process, mount, network device or control group, however the end comes.

use std::collections::BTreeSet;
use std::process::Command;

use crate::cluster::{Cluster, cloneset, settled, signal_process, wait_until};

/// Everything on this machine that belongs to the cluster in `dir` whose outer process is or was `pid`.
fn traces(dir: &str, pid: u32) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let groups = Command::new("find")
        .args(["/sys/fs/cgroup", "-name", &format!("afloat-{pid}-*")])
        .output();
    for line in String::from_utf8_lossy(&groups.expect("find runs").stdout).lines() {
        found.insert(format!("control group {line}"));
    }
    for line in std::fs::read_to_string("/proc/self/mounts").unwrap_or_default().lines() {
        if line.contains(dir) {
            found.insert(format!("mount {line}"));
        }
    }
    for process in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(dir) {
            found.insert(format!("process {line}"));
        }
    }
    found
}

fn devices() -> BTreeSet<String> {
    let output = Command::new("ls").arg("/sys/class/net").output().expect("ls runs");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(str::to_owned)
        .collect()
}

fn descendants(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut at = 0;
    while at < all.len() {
        let output = Command::new("pgrep")
            .args(["-P", &all[at].to_string()])
            .output()
            .expect("pgrep runs");
        all.extend(
            String::from_utf8_lossy(&output.stdout)
                .lines()
                .filter_map(|l| l.parse::<u32>().ok()),
        );
        at += 1;
    }
    all.split_off(1)
}

fn ends_clean(signal: &str) {
    let before = devices();
    let Some(cluster) = Cluster::boot(2) else { return };
    cluster.build_images();
    cluster.apply(&cloneset("web", 2));
    cluster.wait("2 pods Ready", &["clonesets", "web"], |c| settled(c, 2));
    assert_eq!(devices(), before, "the host's network devices were touched");
    let dir = cluster.dir().to_str().unwrap().to_owned();
    let pid = cluster.pid();
    let processes = descendants(pid);
    assert!(
        processes.len() >= 6,
        "inner processes and four containers: {processes:?}"
    );
    signal_process(pid, signal);
    cluster.stop_after_signal();
    wait_until("all processes to be gone", || !processes.iter().any(|pid| alive(*pid)));
    // After kill -9 a janitor removes the control groups as soon as they are empty, and ends.
    wait_until("all traces to be gone", || traces(&dir, pid).is_empty());
    assert_eq!(devices(), before);
}

/// Zombies wait for their parent and are nobody's leak.
fn alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|s| !s.contains(") Z "))
}

#[test]
fn after_ctrl_c() {
    ends_clean("INT");
}

#[test]
fn after_kill_9() {
    ends_clean("KILL");
}
