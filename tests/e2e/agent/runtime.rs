//! `afloat agent` beside a real runtime: Debian's containerd, whose containers the test makes as a kubelet would.

use serde_json::Value;

use super::{Agent, command, report};
use crate::cluster::{Cluster, signal_process};

#[path = "../../../operator/agent/tests/cri/archive.rs"]
mod archive;
#[allow(dead_code)] // as above
#[path = "../../../operator/agent/tests/cri/containerd.rs"]
pub(super) mod containerd;
#[allow(dead_code)] // a part of it is for the other test program
#[path = "../../../operator/agent/tests/cri/kubelet.rs"]
mod kubelet;

use containerd::Containerd;
use kubelet::Kubelet;

const PAUSE: &str = "test.local/pause:1";
const WEB: &str = "test.local/team/web:v1";
const HASH: u64 = 0x3c7d_3f1a;
const RUNS: &str = "trap 'exit 7' TERM; while :; do sleep 0.1; done";

fn agent(cluster: &Cluster, containerd: &Containerd) -> Agent {
    let mut command = command(&cluster.dir().join("kubeconfig"), "http://127.0.0.1:1/metrics");
    command
        .arg("--runtime-endpoint")
        .arg(format!("unix://{}", containerd.socket().display()));
    Agent(command.spawn().expect("afloat agent starts"))
}

/// Until the report tells by what a container was started: by its text, or the kubelet's hash where the runtime keeps no text.
fn wait_for(cluster: &Cluster, what: &str, id: &str) {
    let id = format!("containerd://{id}");
    report(cluster, what, |status: &Value| {
        status["running"][&id] == WEB || status["hashes"][&id] == HASH
    });
}

/// Kilobytes of `/proc/PID/status`.
fn memory(agent: &Agent, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.0.id())).expect("its status");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .expect("the field");
    line.trim_matches([':', ' ', '\t', 'k', 'B']).parse().expect("a number")
}

#[test]
fn what_runs_is_told_whatever_is_killed() {
    let Some(mut containerd) = Containerd::start(PAUSE) else {
        return;
    };
    let Some(cluster) = Cluster::boot_with(0, &[]) else {
        return;
    };
    for (file, name, entrypoint) in [("pause.tar", PAUSE, "/pause"), ("web.tar", WEB, "/bin/sh")] {
        let path = containerd.dir().join(file);
        archive::write(&path, name, file, entrypoint);
        containerd.import(&path);
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let logs = containerd.dir().to_owned();
    let notes = [("io.kubernetes.container.hash", "3c7d3f1a")];
    let kubelet = runtime.block_on(Kubelet::connect(&containerd.socket()));
    let pod = runtime.block_on(kubelet.run_pod("web-0", "uid-0", &logs));

    let first = agent(&cluster, &containerd);
    let id = runtime.block_on(kubelet.run(&pod, 1, WEB, RUNS, &notes));
    wait_for(&cluster, "the container to be told of", &id);
    // Its own, without the program's pages, of which this build has many more than what is released.
    let own = memory(&first, "RssAnon");
    eprintln!(
        "the agent has {own} kB of its own, {} kB in all",
        memory(&first, "VmRSS")
    );
    assert!(own < 12 << 10, "{own} kB");

    containerd.kill();
    containerd.run();
    let kubelet = runtime.block_on(Kubelet::connect(&containerd.socket()));
    let id = runtime.block_on(kubelet.run(&pod, 2, WEB, RUNS, &notes));
    wait_for(&cluster, "the next one, after the runtime was killed", &id);

    signal_process(first.0.id(), "KILL");
    drop(first);
    let second = agent(&cluster, &containerd);
    let id = runtime.block_on(kubelet.run(&pod, 3, WEB, RUNS, &notes));
    wait_for(&cluster, "the next one, after the agent was killed", &id);
    second.stop();
    runtime.block_on(kubelet.remove(&pod));
}
