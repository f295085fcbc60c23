//! An Advanced DaemonSet with real containers on several nodes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::cluster::{Cluster, condition, container, wait_until};

const NODES: usize = 3;

fn daemon_set(rolling: &Value) -> String {
    json!({
        "apiVersion": "apps.kruise.io/v1beta1", "kind": "DaemonSet", "metadata": {"name": "web"},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"terminationGracePeriodSeconds": 5, "containers": [
                    {"name": "web", "image": "web:v1", "ports": [{"name": "http", "containerPort": 8080}],
                     "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1}},
                    {"name": "collector", "image": "collector:v1"},
                ]},
            },
        },
    })
    .to_string()
}

/// So many nodes have an available pod of the newest revision.
fn settled(set: &Value, nodes: usize) -> bool {
    let status = &set["status"];
    let all = [
        "desiredNumberScheduled",
        "currentNumberScheduled",
        "updatedNumberScheduled",
        "numberReady",
        "numberAvailable",
    ];
    status["observedGeneration"] == set["metadata"]["generation"] && all.iter().all(|field| status[field] == nodes)
}

/// The pods that are not on their way out, by their nodes.
fn pods(cluster: &Cluster) -> BTreeMap<String, Vec<Value>> {
    let list = cluster.get(&["pods", "-l", "app=web"]).expect("pods");
    let mut by_node: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for pod in list["items"].as_array().into_iter().flatten() {
        if pod["metadata"]["deletionTimestamp"].is_null() {
            let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
            by_node.entry(node.to_owned()).or_default().push(pod.clone());
        }
    }
    by_node
}

fn wait_settled(cluster: &Cluster, nodes: usize) -> BTreeMap<String, Vec<Value>> {
    cluster.wait("the daemons settled", &["ads", "web"], |set| settled(set, nodes));
    let one_each =
        |pods: &BTreeMap<String, Vec<Value>>| pods.len() == nodes && pods.values().all(|here| here.len() == 1);
    wait_until("one pod per node", || one_each(&pods(cluster)));
    pods(cluster)
}

fn give_image(cluster: &Cluster, image: &str) {
    let patch = json!([{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": image}]);
    cluster.kubectl(&["patch", "ads", "web", "--type=json", &format!("-p={patch}")]);
}

#[test]
fn daemons_change_in_place_and_follow_their_nodes() {
    let Some(cluster) = Cluster::boot(u32::try_from(NODES).expect("few")) else {
        return;
    };
    cluster.build_images();
    cluster.apply(&daemon_set(&json!({"rollingUpdateType": "InPlaceIfPossible"})));
    let before = wait_settled(&cluster, NODES);

    // Node by node: never is more than one of them away.
    give_image(&cluster, "web:v2");
    wait_until("all daemons updated", || {
        let now = pods(&cluster);
        let away = now
            .values()
            .flatten()
            .filter(|pod| condition(pod, "Ready") != Some("True"))
            .count();
        assert!(away <= 1, "{away} of {NODES} daemons are away: {now:#?}");
        now.values()
            .flatten()
            .all(|pod| pod["spec"]["containers"][0]["image"] == "web:v2")
    });
    let after = wait_settled(&cluster, NODES);
    for (node, old) in &before {
        let (old, new) = (&old[0], &after[node][0]);
        for path in ["/metadata/uid", "/metadata/name", "/status/podIP"] {
            assert_eq!(old.pointer(path), new.pointer(path), "{path}");
        }
        assert_eq!(container(new, "web")["restartCount"], 1);
        assert_eq!(
            container(new, "collector")["containerID"],
            container(old, "collector")["containerID"]
        );
    }

    // A node leaves, and comes back.
    let node = before.keys().next().expect("a node").clone();
    cluster.kubectl(&["taint", "node", &node, "gone=yes:NoExecute"]);
    let others = wait_settled(&cluster, NODES - 1);
    assert!(!others.contains_key(&node));
    cluster.kubectl(&["taint", "node", &node, "gone-"]);
    let back = wait_settled(&cluster, NODES);
    assert_eq!(back[&node][0]["spec"]["containers"][0]["image"], "web:v2");
    cluster.kubectl(&["cordon", &node]);
    cluster.kubectl(&[
        "delete",
        "pod",
        back[&node][0]["metadata"]["name"].as_str().expect("a name"),
    ]);
    let again = wait_settled(&cluster, NODES);
    assert_ne!(
        again[&node][0]["metadata"]["uid"], back[&node][0]["metadata"]["uid"],
        "cordoned or not"
    );
    cluster.kubectl(&["delete", "node", &node]);
    cluster.wait("one node less", &["ads", "web"], |set| settled(set, NODES - 1));
}

#[test]
fn a_new_daemon_is_there_before_the_old_one_goes() {
    let Some(cluster) = Cluster::boot(2) else { return };
    cluster.build_images();
    cluster.apply(&daemon_set(&json!({"maxSurge": "100%", "maxUnavailable": 0})));
    let before = wait_settled(&cluster, 2);
    let old: BTreeSet<String> = before
        .values()
        .flatten()
        .map(|pod| pod["metadata"]["uid"].to_string())
        .collect();
    give_image(&cluster, "web:v2");
    wait_until("all daemons replaced", || {
        let now = pods(&cluster);
        for node in before.keys() {
            let here = now.get(node).map_or(&[][..], Vec::as_slice);
            let served = here.iter().any(|pod| condition(pod, "Ready") == Some("True"));
            assert!(served && here.len() <= 2, "{node}: {here:#?}");
        }
        now.values()
            .flatten()
            .all(|pod| !old.contains(&pod["metadata"]["uid"].to_string()))
    });
    let after = wait_settled(&cluster, 2);
    assert!(
        after
            .values()
            .flatten()
            .all(|pod| pod["spec"]["containers"][0]["image"] == "web:v2")
    );
}
