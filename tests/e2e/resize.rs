//! Resources of a running pod change by `kubectl patch --subresource resize` (KEP-1287).

use std::process::Command;

use serde_json::Value;

use crate::cluster::{Cluster, condition, container};

const PODS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: calm}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: web
    image: web:v1
    resources: {requests: {cpu: 100m, memory: 64Mi}, limits: {cpu: 500m, memory: 128Mi}}
---
apiVersion: v1
kind: Pod
metadata: {name: shaken}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: web
    image: web:v1
    resources: {requests: {memory: 64Mi}, limits: {memory: 128Mi}}
    resizePolicy: [{resourceName: memory, restartPolicy: RestartContainer}]
  - name: collector
    image: collector:v1
"#;

fn ready(pod: &Value) -> bool {
    condition(pod, "Ready") == Some("True")
}

fn limit<'a>(pod: &'a Value, name: &str) -> &'a Value {
    &container(pod, "web")["resources"]["limits"][name]
}

/// Values of a container's cgroup files of these names, as the host sees them; none where there are no cgroups.
fn cgroup_values(pod: &Value, names: [&str; 2]) -> Vec<String> {
    let id = container(pod, "web")["containerID"].as_str().unwrap_or_default();
    let id = id.strip_prefix("afloat://").expect("a container id");
    let [v1, v2] = names.map(|name| format!("*/{id}/{name}"));
    let found = Command::new("find")
        .args(["/sys/fs/cgroup", "-path", &v1, "-o", "-path", &v2])
        .output()
        .expect("find runs");
    let paths = String::from_utf8_lossy(&found.stdout).into_owned();
    // Of two mounts of one hierarchy both are found.
    paths
        .lines()
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .map(|text| text.trim().to_owned())
        .collect()
}

#[track_caller]
fn holds(pod: &Value, names: [&str; 2], expected: [&str; 2]) {
    let values = cgroup_values(pod, names);
    if values.is_empty() {
        eprintln!("not looked at: there are no cgroups that could be written here");
    }
    for value in values {
        assert!(
            expected.contains(&value.as_str()),
            "{names:?}: {value}, not {expected:?}"
        );
    }
}

const MEMORY: [&str; 2] = ["memory.limit_in_bytes", "memory.max"];
const CPU: [&str; 2] = ["cpu.cfs_quota_us", "cpu.max"];

fn resize(cluster: &Cluster, pod: &str, resources: &str) {
    let patch = format!(r#"{{"spec":{{"containers":[{{"name":"web","resources":{resources}}}]}}}}"#);
    cluster.kubectl(&["patch", "pod", pod, "--subresource", "resize", "-p", &patch]);
}

#[test]
fn a_running_pod_is_resized() {
    let Some(cluster) = Cluster::boot(1) else { return };
    cluster.build_images();
    cluster.apply(PODS);
    let before = cluster.wait("the pod Ready", &["pod", "calm"], ready);
    let shaken = cluster.wait("the other pod Ready", &["pod", "shaken"], ready);
    holds(&before, MEMORY, ["134217728"; 2]);
    holds(&before, CPU, ["50000", "50000 100000"]);

    resize(&cluster, "calm", r#"{"limits":{"cpu":"800m","memory":"192Mi"}}"#);
    let after = cluster.wait("the new limits", &["pod", "calm"], |pod| limit(pod, "cpu") == "800m");
    assert_eq!(limit(&after, "memory"), "192Mi");
    holds(&after, MEMORY, ["201326592"; 2]);
    holds(&after, CPU, ["80000", "80000 100000"]);
    for key in ["containerID", "restartCount", "state"] {
        assert_eq!(container(&after, "web")[key], container(&before, "web")[key], "{key}");
    }
    assert!(ready(&after) && condition(&after, "PodResizeInProgress").is_none());
    assert_eq!(container(&after, "web")["allocatedResources"]["memory"], "64Mi");

    resize(&cluster, "shaken", r#"{"limits":{"memory":"256Mi"}}"#);
    let restarted = cluster.wait("the restart", &["pod", "shaken"], |pod| {
        limit(pod, "memory") == "256Mi" && ready(pod)
    });
    holds(&restarted, MEMORY, ["268435456"; 2]);
    assert_eq!(container(&restarted, "web")["restartCount"], 1);
    assert_eq!(
        container(&restarted, "collector")["containerID"],
        container(&shaken, "collector")["containerID"]
    );

    resize(
        &cluster,
        "calm",
        r#"{"requests":{"memory":"32Ti"},"limits":{"memory":"64Ti"}}"#,
    );
    let pending = cluster.wait("a refusal", &["pod", "calm"], |pod| {
        condition(pod, "PodResizePending") == Some("True")
    });
    assert_eq!(limit(&pending, "memory"), "192Mi", "it keeps what it has");
    assert_eq!(container(&pending, "web")["restartCount"], 0);
    let described = cluster.kubectl(&["describe", "pod", "calm"]);
    assert!(described.contains("PodResizePending"), "{described}");
}
