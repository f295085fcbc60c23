//! What survives the end of a process.

use std::process::Command;

use crate::cluster::{Cluster, cloneset, container, settled, signal_process, wait_until};

/// The words that a process was started with.
pub(crate) fn words(pid: u32) -> Vec<String> {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = line.split(|byte| *byte == 0);
    words.map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

/// All processes below one, as the host sees them.
pub(crate) fn descendants(pid: u32) -> Vec<u32> {
    let children = |pid: u32| -> Vec<u32> {
        let output = Command::new("pgrep")
            .args(["-P", &pid.to_string()])
            .output()
            .expect("pgrep runs");
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .filter_map(|l| l.parse().ok())
            .collect()
    };
    let mut below = children(pid);
    let mut at = 0;
    while at < below.len() {
        below.extend(children(below[at]));
        at += 1;
    }
    below
}

/// Pid of the inner process as the host sees it. Pid 1 of the inner namespace was forked from the outer process and still
/// has its command line.
pub(crate) fn inner_pid(outer: u32) -> Option<u32> {
    let mut below = descendants(outer).into_iter();
    below.find(|pid| words(*pid).get(1).is_some_and(|word| word == "inner"))
}

#[test]
fn kill_9_and_a_new_start_is_a_node_reboot() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("data");
    let Some(cluster) = Cluster::boot_in(&dir, 2, &[]) else {
        return;
    };
    cluster.build_images();
    cluster.apply(&cloneset("web", 3));
    cluster.wait("3 pods Ready", &["clonesets", "web"], |c| settled(c, 3));
    cluster.kubectl(&["create", "configmap", "last-write", "--from-literal=acknowledged=yes"]);
    let before = cluster.get(&["pods", "-l", "app=web"]).unwrap();
    cluster.stop("KILL");

    let cluster = Cluster::boot_in(&dir, 2, &[]).expect("it booted before");
    assert!(
        cluster.get(&["configmap", "last-write"]).is_some(),
        "an acknowledged write was lost"
    );
    let restarted = |list: &serde_json::Value| {
        let pods = list["items"].as_array().cloned().unwrap_or_default();
        pods.len() == 3
            && pods.iter().all(|pod| {
                ["web", "collector"].iter().all(|name| {
                    let status = container(pod, name);
                    status["restartCount"] == 1 && status["ready"] == true
                })
            })
    };
    let after = cluster.wait("all containers started again", &["pods", "-l", "app=web"], restarted);
    for (old, new) in before["items"]
        .as_array()
        .unwrap()
        .iter()
        .zip(after["items"].as_array().unwrap())
    {
        for path in ["/metadata/name", "/metadata/uid", "/status/podIP", "/spec/nodeName"] {
            assert_eq!(old.pointer(path), new.pointer(path), "{path}");
        }
    }
    cluster.wait("the CloneSet settled", &["clonesets", "web"], |c| settled(c, 3));
}

#[test]
fn if_only_the_inner_process_dies_the_containers_run_on() {
    let Some(cluster) = Cluster::boot(1) else { return };
    cluster.build_images();
    cluster.apply(&cloneset("web", 2));
    cluster.wait("2 pods Ready", &["clonesets", "web"], |c| settled(c, 2));
    let before = cluster.get(&["pods", "-l", "app=web"]).unwrap();
    let inner = inner_pid(cluster.pid()).expect("the inner process is found");
    signal_process(inner, "KILL");
    wait_until("the API to answer again", || {
        inner_pid(cluster.pid()).is_some_and(|pid| pid != inner) && cluster.get(&["nodes"]).is_some()
    });
    // A change made now must be carried out by the new inner process, on the containers of the old one.
    cluster.kubectl(&["scale", "clonesets/web", "--replicas=3"]);
    cluster.wait("3 pods Ready", &["clonesets", "web"], |c| settled(c, 3));
    let after = cluster.get(&["pods", "-l", "app=web"]).unwrap();
    for old in before["items"].as_array().unwrap() {
        let new = after["items"]
            .as_array()
            .unwrap()
            .iter()
            .find(|p| p["metadata"]["uid"] == old["metadata"]["uid"]);
        let new = new.expect("the pod is still there");
        for name in ["web", "collector"] {
            assert_eq!(
                container(old, name)["containerID"],
                container(new, name)["containerID"],
                "{name}"
            );
            assert_eq!(container(new, name)["restartCount"], 0, "{name}");
        }
    }
}
