//! What pods share: memory always, processes where they ask for it, and the node's own.

use serde_json::json;

use crate::cluster::{Cluster, container as status, wait_until};
use crate::network::{build_images, container, ready, run, waiting};

#[test]
fn containers_of_a_pod_share_memory_and_on_request_processes() {
    let Some(cluster) = Cluster::boot(1) else { return };
    if !build_images(&cluster) {
        return;
    }
    let two = || json!([container("a"), container("b")]);
    let pods = [
        waiting("apart", &json!({"containers": two()})),
        waiting("together", &json!({"containers": two(), "shareProcessNamespace": true})),
        waiting("node", &json!({"containers": two(), "hostPID": true, "hostIPC": true})),
    ];
    cluster.apply(&json!({"apiVersion": "v1", "kind": "List", "items": pods}).to_string());
    for name in ["apart", "together", "node"] {
        cluster.wait(name, &["pod", name], ready);
        let (text, done) = run(
            &cluster,
            name,
            "a",
            &format!("echo {name} > /dev/shm/afloat-test-$$-{name}"),
        );
        assert!(done, "{text}");
        let (text, done) = run(
            &cluster,
            name,
            "b",
            &format!("cat /dev/shm/afloat-test-*-{name}; rm /dev/shm/afloat-test-*-{name}"),
        );
        assert!(done && text.trim() == name, "{text}");
    }
    let first = |name: &str| run(&cluster, name, "b", "cat /proc/1/comm").0.trim().to_owned();
    assert_eq!((first("apart"), first("together")), ("sleep".into(), "pause".into()));
    assert_ne!(first("node"), "sleep", "the node's own first process");
    let (seen, _) = run(&cluster, "apart", "b", "set -- /proc/[0-9]*; echo $#; ls /dev/shm");
    assert!(seen.trim().parse::<u32>().is_ok_and(|count| count < 5), "{seen}");

    // As in "Share Process Namespace between Containers in a Pod": one container looks at the files of another and signals it.
    // Both run the same program: the one whose root has the mark is the other.
    run(&cluster, "together", "a", "echo here > /mark");
    let find = "for p in /proc/[0-9]*; do [ -e $p/root/mark ] && [ \"$(cat $p/comm)\" = sleep ] && echo ${p#/proc/}; done; true";
    let (found, _) = run(&cluster, "together", "b", find);
    let pid: u32 = found
        .trim()
        .parse()
        .unwrap_or_else(|_| panic!("one process is expected: {found}"));
    let (text, done) = run(
        &cluster,
        "together",
        "b",
        &format!("cat /proc/{pid}/root/mark && kill {pid}"),
    );
    assert!(done && text == "here\n", "{text}");
    let pod = cluster.wait("the other one's restart", &["pod", "together"], |pod| {
        ready(pod) && status(pod, "a")["restartCount"] == 1
    });
    let end = &status(&pod, "a")["lastState"]["terminated"];
    assert_eq!(end["exitCode"], 143, "nobody is number 1, so the signal ends it: {end}");
    assert_eq!(status(&pod, "b")["restartCount"], 0);

    // What a command leaves running ends with its container.
    let (text, done) = run(
        &cluster,
        "together",
        "a",
        "echo here > /mark; sleep 4747 > /dev/null 2>&1 & echo left",
    );
    assert!(done, "{text}");
    let words =
        "for p in /proc/[0-9]*; do while read -r -d '' word; do echo -n \"$word \"; done < $p/cmdline; echo; done";
    let running = || run(&cluster, "together", "b", words).0.contains("sleep 4747");
    wait_until("the command", running);
    cluster.kubectl(&["delete", "pod", "apart", "node", "--wait=false"]);
    cluster.kubectl(&[
        "exec",
        "together",
        "-c",
        "b",
        "--",
        "bash",
        "-c",
        &format!("kill -9 $({find})"),
    ]);
    cluster.wait("the second restart", &["pod", "together"], |pod| {
        status(pod, "a")["restartCount"] == 2
    });
    assert!(!running());
    cluster.kubectl(&["delete", "pod", "together"]);
}
