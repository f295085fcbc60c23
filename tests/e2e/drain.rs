//! Nothing is lost though proxies learn late, because pods are changed and deleted only once the proxies have let go.

use serde_json::{Value, json};

use crate::cluster::{Cluster, cloneset, settled};
use crate::load::{Load, request};

/// What the proxies lag behind.
const LAG: &str = "--proxy-lag=1s";

/// A CloneSet with a Service in front, both in service on the host; gives the port.
fn start(cluster: &Cluster, replicas: u32, drain: &str) -> u16 {
    cluster.build_images();
    let mut set: Value = serde_json::from_str(&cloneset("web", replicas)).expect("JSON");
    set["metadata"]["annotations"] = json!({"afloat.dev/drain": drain});
    cluster.apply(&set.to_string());
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"type": "NodePort", "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]}});
    cluster.apply(&service.to_string());
    cluster.wait("all pods available", &["clonesets", "web"], |set| {
        available(set, replicas)
    });
    let service = cluster.get(&["services", "web"]).expect("the Service");
    let port = service["spec"]["ports"][0]["nodePort"].as_u64().expect("a node port");
    let port = u16::try_from(port).expect("a port");
    // The proxies lag, also with the very first endpoints.
    crate::cluster::wait_until("an answer", || request(port));
    port
}

fn available(set: &Value, replicas: u32) -> bool {
    settled(set, replicas) && set["status"]["availableReplicas"] == replicas
}

fn release(cluster: &Cluster) {
    let patch = r#"-p=[{"op":"replace","path":"/spec/template/spec/containers/0/image","value":"web:v2"}]"#;
    cluster.kubectl(&["patch", "clonesets", "web", "--type=json", patch]);
}

fn updated(set: &Value, replicas: u32) -> bool {
    available(set, replicas) && set["status"]["updateRevision"] == set["status"]["currentRevision"]
}

#[test]
fn an_update_and_a_scale_in_wait_for_every_proxy() {
    let Some(cluster) = Cluster::boot_with(3, &[LAG]) else {
        return;
    };
    let port = start(&cluster, 3, "Observed");
    cluster.wait("reports of three nodes", &["nodetraffics"], |reports| {
        let reports = reports["items"].as_array().cloned().unwrap_or_default();
        reports.len() == 3 && reports.iter().all(|report| report["status"]["synced"] == true)
    });

    let load = Load::start(port);
    let said = cluster.watch(&["clonesets", "web"], "{.status.conditions}");
    release(&cluster);
    crate::cluster::wait_until("the status to say what it waits for", || {
        said.so_far().contains("nodes have let go")
    });
    cluster.wait("all pods updated", &["clonesets", "web"], |set| updated(set, 3));
    let (answered, lost) = load.finish();
    assert_eq!(lost, 0, "of {answered} during the update");
    assert!(answered > 0);

    // Without a preStop hook in the pods: they stop listening as soon as they are told to end.
    let load = Load::start(port);
    cluster.kubectl(&["scale", "clonesets", "web", "--replicas=1"]);
    cluster.wait("one pod", &["pods", "-l", "app=web"], |pods| {
        pods["items"].as_array().is_some_and(|pods| pods.len() == 1)
    });
    let seen = load.so_far();
    crate::cluster::wait_until("some more requests", || load.so_far() > seen + 100);
    let (answered, lost) = load.finish();
    assert_eq!(lost, 0, "of {answered} while it was scaled in");
}

/// No pod may be missing, and yet a node is emptied, by kubectl's own hand: its pods are replaced before they go.
#[test]
fn a_node_is_drained_without_loss() {
    let Some(cluster) = Cluster::boot_with(3, &[LAG]) else {
        return;
    };
    let port = start(&cluster, 3, "Observed");
    let wish = r#"-p={"metadata":{"annotations":{"afloat.dev/before-eviction":"Surge"}},"spec":{"updateStrategy":{"rollingUpdate":{"maxUnavailable":0}}}}"#;
    cluster.kubectl(&["patch", "clonesets", "web", "--type=merge", wish]);
    // Who is to be asked is known to the API server before anybody evicts.
    cluster.wait_webhooks();
    let pods = cluster.get(&["pods", "-l", "app=web"]).expect("pods");
    let node = pods["items"][0]["spec"]["nodeName"]
        .as_str()
        .expect("a node")
        .to_owned();
    let load = Load::start(port);
    let drained = cluster.kubectl(&[
        "drain",
        &node,
        "--ignore-daemonsets",
        "--delete-emptydir-data",
        "--timeout=120s",
    ]);
    assert!(drained.contains("drained"), "{drained}");
    cluster.wait("three pods elsewhere", &["pods", "-l", "app=web"], |pods| {
        let pods = pods["items"].as_array().cloned().unwrap_or_default();
        pods.len() == 3 && pods.iter().all(|pod| pod["spec"]["nodeName"] != *node)
    });
    cluster.wait("all pods available", &["clonesets", "web"], |set| available(set, 3));
    let seen = load.so_far();
    crate::cluster::wait_until("some more requests", || load.so_far() > seen + 100);
    let (answered, lost) = load.finish();
    assert_eq!(lost, 0, "of {answered} while the node was drained");
    assert!(answered > 0);
}

/// What the other test would not notice if its load could not lose anything.
#[test]
fn a_timed_drain_shorter_than_the_lag_is_lossy() {
    let Some(cluster) = Cluster::boot_with(2, &[LAG]) else {
        return;
    };
    let port = start(&cluster, 2, "Timed");
    let load = Load::start(port);
    release(&cluster);
    cluster.wait("all pods updated", &["clonesets", "web"], |set| updated(set, 2));
    let (answered, lost) = load.finish();
    assert!(lost > 0, "{answered} answered, none lost");
}
