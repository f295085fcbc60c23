//! ConfigMaps and Secrets that are rolled out into running pods, under requests.

use std::path::Path;

use serde_json::{Value, json};

use crate::cluster::{Cluster, afloat, cloneset, condition, container, settled, wait_until};
use crate::load::{Load, answer};

const BUSYBOX: &str = "/bin/busybox";
/// Keeps what it has read when it started, as a program does that reads its files once.
const READER: &str = "/bin/busybox cat /etc/files/token > /dev/shm/started; trap 'exit 0' TERM; \
    while :; do /bin/busybox sleep 0.2; done";

fn pods(cluster: &Cluster) -> Vec<Value> {
    let list = cluster.get(&["pods", "-l", "app=web"]).expect("pods");
    let mut pods = list["items"].as_array().cloned().unwrap_or_default();
    pods.sort_by_key(|pod| pod["metadata"]["name"].as_str().map(str::to_owned));
    pods
}

fn restarts(pods: &[Value], name: &str) -> Vec<u64> {
    let times = |pod| container(pod, name)["restartCount"].as_u64().unwrap_or_default();
    pods.iter().map(times).collect()
}

fn name(pod: &Value) -> &str {
    pod["metadata"]["name"].as_str().unwrap_or_default()
}

/// A CloneSet whose container web answers with what a ConfigMap held when it started, and whose container reader has a file of a Secret.
fn workload() -> Value {
    let mut set: Value = serde_json::from_str(&cloneset("web", 3)).expect("JSON");
    set["metadata"]["annotations"] = json!({"afloat.dev/config": "Rollout"});
    let spec = &mut set["spec"]["template"]["spec"];
    spec["containers"][0]["env"] =
        json!([{"name": "APP_VERSION", "valueFrom": {"configMapKeyRef": {"name": "conf", "key": "text"}}}]);
    spec["containers"][1] = json!({"name": "reader", "image": "tools:v1", "command": [BUSYBOX, "sh", "-c", READER],
        "volumeMounts": [{"name": "files", "mountPath": "/etc/files"}]});
    spec["volumes"] = json!([{"name": "files", "secret": {"secretName": "files"}}]);
    set
}

/// What the container reader of a pod read when it started.
fn started_with(cluster: &Cluster, pod: &Value) -> String {
    let cat = [BUSYBOX, "cat", "/dev/shm/started"];
    let output = cluster.try_kubectl(&[&["exec", name(pod), "-c", "reader", "--"][..], &cat].concat(), None);
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn serve(pods: &[Value]) -> bool {
    pods.iter().all(|pod| condition(pod, "Ready") == Some("True"))
}

#[test]
fn changed_configs_roll_out_and_lose_no_request() {
    if !Path::new(BUSYBOX).exists() {
        eprintln!("skipped: no {BUSYBOX} to make an image of");
        return;
    }
    let Some(cluster) = Cluster::boot_with(2, &["--proxy-lag=1s"]) else {
        return;
    };
    cluster.build_images();
    cluster.image(&[
        "build",
        "tools:v1",
        "--libraries",
        &format!("--file={BUSYBOX}={BUSYBOX}"),
    ]);
    let map = |text: &str| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "conf"}, "data": {"text": text}})
            .to_string()
    };
    let conf = |text: &str| cluster.apply(&map(text));
    let token = |text: &str| {
        let secret =
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "files"}, "stringData": {"token": text}});
        cluster.apply(&secret.to_string());
    };
    conf("one");
    token("a");
    cluster.apply(&workload().to_string());
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"type": "NodePort", "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]}});
    cluster.apply(&service.to_string());
    cluster.wait("3 pods Ready", &["clonesets", "web"], |set| settled(set, 3));
    let service = cluster.get(&["services", "web"]).expect("the Service");
    let port = service["spec"]["ports"][0]["nodePort"].as_u64().expect("a node port");
    let port = u16::try_from(port).expect("a port");
    wait_until("an answer", || answer(port).as_deref() == Some("one"));
    let before = pods(&cluster);

    // What a change will do is known beforehand.
    let kubeconfig = cluster.dir().join("kubeconfig");
    let flags = ["plan", "-f", "-", "--kubeconfig", kubeconfig.to_str().expect("a path")];
    for (text, words) in [
        (
            "two",
            &[
                "web restarts: ConfigMap conf changed",
                "reader keeps running",
                "3 to change",
            ][..],
        ),
        ("one", &["nothing to do"]),
    ] {
        let (code, said, error) = afloat(&flags, &map(text));
        assert_eq!(code, 0, "{said}{error}");
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    }

    let load = Load::start(port);
    // Environment: web restarts in each pod, and starts with the new value.
    conf("two");
    wait_until("web to be restarted", || {
        let pods = pods(&cluster);
        serve(&pods) && restarts(&pods, "web") == [1, 1, 1]
    });
    cluster.wait("the rollout at its end", &["clonesets", "web"], |set| settled(set, 3));
    assert!((0..20).all(|_| answer(port).as_deref() == Some("two")));
    assert_eq!(restarts(&pods(&cluster), "reader"), [0, 0, 0]);

    // A file: reader restarts, and web does not.
    token("b");
    wait_until("reader to be restarted", || {
        let pods = pods(&cluster);
        serve(&pods) && restarts(&pods, "reader") == [1, 1, 1]
    });
    cluster.wait("the rollout at its end", &["clonesets", "web"], |set| settled(set, 3));
    let after = pods(&cluster);
    for pod in &after {
        wait_until("what reader started with", || started_with(&cluster, pod) == "b");
    }
    assert_eq!(restarts(&after, "web"), [1, 1, 1]);

    // A part of it, taken back: the pods that were kept are not touched.
    let partition = |pods: u32| {
        let patch = json!({"spec": {"updateStrategy": {"rollingUpdate": {"partition": pods}}}}).to_string();
        cluster.kubectl(&["patch", "clonesets", "web", "--type=merge", "-p", &patch]);
    };
    partition(2);
    conf("three");
    let part = |set: &Value| set["status"]["updatedAvailableReplicas"] == 1 && set["status"]["availableReplicas"] == 3;
    cluster.wait("one of three updated", &["clonesets", "web"], part);
    wait_until("an answer of the new one", || answer(port).as_deref() == Some("three"));
    conf("two");
    partition(0);
    cluster.wait("all back", &["clonesets", "web"], |set| settled(set, 3));
    let back = pods(&cluster);
    let mut all = restarts(&back, "web");
    all.sort_unstable();
    assert_eq!(all, [1, 1, 3]);
    let (answered, lost) = load.finish();
    assert_eq!(lost, 0, "of {answered}");
    assert!((0..20).all(|_| answer(port).as_deref() == Some("two")));
    for (old, new) in before.iter().zip(&back) {
        for path in ["/metadata/uid", "/status/podIP"] {
            assert_eq!(old.pointer(path), new.pointer(path), "{path}");
        }
    }
}
