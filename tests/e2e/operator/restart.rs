//! `afloat restart`: containers start anew in pods that stay, and no request is lost.

use serde_json::{Value, json};

use crate::cluster::{Cluster, afloat, cloneset, container, settled};
use crate::load::{Load, request};

/// What the proxies lag behind.
const LAG: &str = "--proxy-lag=1s";

fn pods(cluster: &Cluster) -> Vec<Value> {
    let list = cluster.get(&["pods", "-l", "app=web"]).expect("pods");
    let mut pods = list["items"].as_array().cloned().unwrap_or_default();
    pods.sort_by_key(|pod| pod["metadata"]["name"].as_str().map(str::to_owned));
    pods
}

fn restarts(pods: &[Value], name: &str) -> Vec<Value> {
    pods.iter()
        .map(|pod| container(pod, name)["restartCount"].clone())
        .collect()
}

#[test]
fn restarts_lose_no_request() {
    let Some(cluster) = Cluster::boot_with(2, &[LAG]) else {
        return;
    };
    cluster.build_images();
    cluster.apply(&cloneset("web", 3));
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"type": "NodePort", "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]}});
    cluster.apply(&service.to_string());
    cluster.wait("3 pods Ready", &["clonesets", "web"], |set| settled(set, 3));
    let service = cluster.get(&["services", "web"]).expect("the Service");
    let port = service["spec"]["ports"][0]["nodePort"].as_u64().expect("a node port");
    let port = u16::try_from(port).expect("a port");
    crate::cluster::wait_until("an answer", || request(port));
    let before = pods(&cluster);
    let kubeconfig = cluster.dir().join("kubeconfig");
    let restart = |arguments: &[&str]| {
        let kubeconfig = ["--kubeconfig", kubeconfig.to_str().expect("a path")];
        afloat(&[&["restart"][..], arguments, &kubeconfig].concat(), "")
    };

    let load = Load::start(port);
    let (code, out, err) = restart(&["clone/web", "-c", "web", "--wait"]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("CloneSet web: web to be started anew in 3 pods"), "{out}");
    assert!(out.contains("3 of 3 pods are back"), "{out}");
    let after = pods(&cluster);
    for (old, new) in before.iter().zip(&after) {
        for path in ["/metadata/uid", "/metadata/name", "/status/podIP"] {
            assert_eq!(old.pointer(path), new.pointer(path), "{path}");
        }
        assert_eq!(container(old, "web")["imageID"], container(new, "web")["imageID"]);
    }
    assert_eq!(restarts(&after, "web"), [1, 1, 1]);
    assert_eq!(restarts(&after, "collector"), [0, 0, 0]);

    // Once more, all of one pod.
    let name = after[0]["metadata"]["name"].as_str().expect("a name");
    let (code, out, err) = restart(&[&format!("pod/{name}"), "--wait"]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("web is back, collector is back"), "{out}");
    let (answered, lost) = load.finish();
    assert_eq!(lost, 0, "of {answered}");
    assert!(answered > 0);
    let last = pods(&cluster);
    assert_eq!(restarts(&last, "web"), [2, 1, 1]);
    assert_eq!(restarts(&last, "collector"), [1, 0, 0]);
    // The pod was out of service for it, and is back.
    let requests = cluster.get(&["crr"]).expect("requests");
    let conditions = requests["items"][0]["status"]["conditions"].to_string();
    assert!(conditions.contains("afloat.dev/Drained"), "{conditions}");
    cluster.wait("the pod Ready", &["pod", name], |pod| {
        crate::cluster::condition(pod, "Ready") == Some("True")
            && crate::cluster::condition(pod, "KruisePodReady") == Some("True")
    });

    for (arguments, word) in [
        (vec!["clone/other"], "no CloneSet other in namespace default"),
        (
            vec!["clone/web", "-c", "x"],
            "no container \"x\" in spec.containers: there is web, collector",
        ),
        (vec!["pod/nobody"], "no pod nobody in namespace default"),
        (vec!["deploy/web"], "say KIND/NAME"),
        (vec!["clone/web", "--ordered"], "--ordered is for a single pod"),
    ] {
        let (code, _, err) = restart(&arguments);
        assert_eq!(code, 2, "{err}");
        assert!(err.contains(word), "{err}");
    }
}
