//! A StatefulSet of OpenKruise with real containers and volumes: names, data and addresses stay where they are to.

use std::path::Path;

use serde_json::{Value, json};

use crate::cluster::{AFLOAT, Cluster, container, wait_until};

const BUSYBOX: &str = "/bin/busybox";
const KIND: &str = "statefulsets.apps.kruise.io";

/// Two images that differ; None where this machine has no shell to put into them.
fn build_images(cluster: &Cluster) -> Option<()> {
    if !Path::new(BUSYBOX).exists() {
        eprintln!("skipped: no {BUSYBOX} to make an image of");
        return None;
    }
    let shell = format!("--file={BUSYBOX}={BUSYBOX}");
    let more = format!("--file={AFLOAT}=/more");
    cluster.image(&["build", "db:v1", "--libraries", &shell]);
    cluster.image(&["build", "db:v2", "--libraries", &shell, &more]);
    Some(())
}

fn set(replicas: u32) -> String {
    let script =
        "trap 'exit 0' TERM; [ -e /data/who ] || hostname > /data/who; while :; do /bin/busybox sleep 0.2; done";
    let script = script.replace("hostname", "/bin/busybox hostname");
    let probe = json!({"exec": {"command": [BUSYBOX, "test", "-e", "/data/who"]}, "periodSeconds": 1});
    let template = json!({
        "metadata": {"labels": {"app": "db"}},
        "spec": {"terminationGracePeriodSeconds": 5, "readinessGates": [{"conditionType": "InPlaceUpdateReady"}],
            "containers": [{"name": "db", "image": "db:v1", "command": [BUSYBOX, "sh", "-c", script], "readinessProbe": probe,
                "volumeMounts": [{"name": "data", "mountPath": "/data"}]}]},
    });
    let set = json!({"apiVersion": "apps.kruise.io/v1beta1", "kind": "StatefulSet", "metadata": {"name": "db"},
        "spec": {"replicas": replicas, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}}, "template": template,
            "updateStrategy": {"rollingUpdate": {"podUpdatePolicy": "InPlaceIfPossible"}},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {
                "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}}]}});
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "db"},
        "spec": {"clusterIP": "None", "selector": {"app": "db"}, "ports": [{"port": 80}]}});
    json!({"apiVersion": "v1", "kind": "List", "items": [service, set]}).to_string()
}

fn patch(cluster: &Cluster, patch: &Value) {
    let patch = format!("-p={patch}");
    cluster.kubectl(&["patch", KIND, "db", "--type=merge", &patch]);
}

/// The next image, for pods beyond a partition.
fn release(cluster: &Cluster, image: &str, partition: u32) {
    let path = "/spec/template/spec/containers/0/image";
    let partition_path = "/spec/updateStrategy/rollingUpdate/partition";
    let patch = json!([{"op": "replace", "path": path, "value": image}, {"op": "add", "path": partition_path, "value": partition}]);
    cluster.kubectl(&["patch", KIND, "db", "--type=json", &format!("-p={patch}")]);
}

fn settled(cluster: &Cluster, replicas: u32, updated: u32) {
    cluster.wait(
        &format!("{updated} of {replicas} updated and available"),
        &[KIND, "db"],
        |set| {
            let (status, generation) = (&set["status"], &set["metadata"]["generation"]);
            status["observedGeneration"] == *generation
                && status["replicas"] == replicas
                && status["availableReplicas"] == replicas
                && status["updatedAvailableReplicas"] == updated
        },
    );
}

fn pods(cluster: &Cluster) -> Vec<Value> {
    let list = cluster.get(&["pods", "-l", "app=db"]).expect("pods");
    let mut pods = list["items"].as_array().cloned().unwrap_or_default();
    pods.sort_by_key(|pod| pod["metadata"]["name"].to_string());
    pods
}

fn values<'a>(pods: &'a [Value], path: &str) -> Vec<&'a Value> {
    pods.iter()
        .map(|pod| pod.pointer(path).unwrap_or(&Value::Null))
        .collect()
}

/// Who wrote each pod's data.
fn authors(cluster: &Cluster) -> Vec<String> {
    let cat = |pod: &Value| {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        cluster
            .kubectl(&["exec", name, "--", BUSYBOX, "cat", "/data/who"])
            .trim()
            .to_owned()
    };
    pods(cluster).iter().map(cat).collect()
}

#[test]
fn names_data_and_addresses_stay_where_they_are() {
    let Some(cluster) = Cluster::boot(2) else { return };
    let Some(()) = build_images(&cluster) else { return };
    cluster.apply(&set(3));
    settled(&cluster, 3, 3);
    let before = pods(&cluster);
    assert_eq!(values(&before, "/metadata/name"), ["db-0", "db-1", "db-2"]);
    assert_eq!(authors(&cluster), ["db-0", "db-1", "db-2"]);

    // In place, the last one first: the same pods with other containers.
    release(&cluster, "db:v2", 2);
    settled(&cluster, 3, 1);
    let images = || {
        values(&pods(&cluster), "/spec/containers/0/image")
            .into_iter()
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(images(), ["db:v1", "db:v1", "db:v2"]);
    release(&cluster, "db:v2", 0);
    settled(&cluster, 3, 3);
    let after = pods(&cluster);
    for path in ["/metadata/uid", "/status/podIP", "/spec/nodeName"] {
        assert_eq!(values(&before, path), values(&after, path), "{path}");
    }
    for pod in &after {
        assert_eq!(container(pod, "db")["restartCount"], 1);
    }

    // Fewer and more: whoever comes back finds what it had.
    patch(&cluster, &json!({"spec": {"replicas": 1}}));
    settled(&cluster, 1, 1);
    let claims = cluster.get(&["pvc"]).expect("claims");
    assert_eq!(claims["items"].as_array().map(Vec::len), Some(3));
    wait_until("the first one alone", || {
        values(&pods(&cluster), "/metadata/uid") == values(&after[..1], "/metadata/uid")
    });
    patch(&cluster, &json!({"spec": {"replicas": 3}}));
    settled(&cluster, 3, 3);
    assert_eq!(authors(&cluster), ["db-0", "db-1", "db-2"]);

    // Another ordinal in the place of one that is reserved.
    patch(&cluster, &json!({"spec": {"reserveOrdinals": [1]}}));
    wait_until("db-3 in the place of db-1", || {
        values(&pods(&cluster), "/metadata/name") == ["db-0", "db-2", "db-3"]
    });
    settled(&cluster, 3, 3);

    // A revision that does not work is taken back by writing the one before.
    release(&cluster, "db:missing", 0);
    cluster.wait("db-3 without an image", &["pod", "db-3"], |pod| {
        container(pod, "db")["state"]["waiting"]["reason"] == "ImagePullBackOff"
    });
    release(&cluster, "db:v2", 0);
    settled(&cluster, 3, 3);
    assert_eq!(authors(&cluster), ["db-0", "db-2", "db-3"]);
}
