//! Init containers, sidecars, hooks and stop signals, judged by what the containers themselves wrote down.

use std::path::Path;

use serde_json::{Value, json};

use crate::cluster::{Cluster, wait_until};
use crate::network::{build_images, ready, waiting};

/// A container that runs a script with `say WORD…` (a line into the pod's log) and the folder /shared.
fn scripted(name: &str, script: &str) -> Value {
    let say = format!("say() {{ echo {name} \"$@\" >> /shared/$POD.log; }}");
    json!({
        "name": name, "image": "tool:v1", "command": ["bash", "-c", format!("{say}\n{script}")],
        "env": [{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "volumeMounts": [{"name": "shared", "mountPath": "/shared"}],
    })
}

/// Waits until it is told to end, says so, and ends.
fn server(name: &str) -> Value {
    scripted(
        name,
        "trap 'say term; exit 0' TERM; say start; while :; do sleep 0.05; done",
    )
}

fn wait_for(file: &str) -> String {
    format!("say start; until [ -e /shared/{file} ]; do sleep 0.05; done; say end")
}

fn with(mut container: Value, key: &str, value: Value) -> Value {
    container[key] = value;
    container
}

fn sidecar(container: Value) -> Value {
    with(container, "restartPolicy", "Always".into())
}

fn hook(script: &str) -> Value {
    json!({"exec": {"command": ["bash", "-c", script]}})
}

struct Ground {
    cluster: Cluster,
}

impl Ground {
    fn shared(&self) -> std::path::PathBuf {
        self.cluster.dir().join("shared")
    }

    fn apply(&self, name: &str, spec: &Value) {
        let mut pod = waiting(name, spec);
        pod["spec"]["volumes"] = json!([{"name": "shared", "hostPath": {"path": self.shared()}}]);
        self.cluster.apply(&pod.to_string());
    }

    fn log(&self, pod: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.shared().join(format!("{pod}.log"))).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn touch(&self, file: &str) {
        std::fs::write(self.shared().join(file), "").expect("the folder is ours");
    }

    /// The word under STATUS.
    fn word(&self, pod: &str) -> String {
        let table = self.cluster.kubectl(&["get", "pod", pod, "--no-headers"]);
        table.split_whitespace().nth(2).unwrap_or_default().to_owned()
    }

    #[track_caller]
    fn wait_for_word(&self, pod: &str, word: &str) {
        wait_until(&format!("{pod}: {word}"), || self.word(pod) == word);
    }

    fn event(&self, pod: &str, reason: &str, word: &str) {
        let selector = format!("involvedObject.name={pod},reason={reason}");
        self.cluster
            .wait(reason, &["events", "--field-selector", &selector], |list| {
                let events = list["items"].as_array().cloned().unwrap_or_default();
                events
                    .iter()
                    .any(|e| e["message"].as_str().is_some_and(|m| m.contains(word)))
            });
    }
}

#[test]
fn containers_start_and_stop_in_their_order() {
    let Some(cluster) = Cluster::boot(1) else { return };
    if !build_images(&cluster) {
        return;
    }
    let ground = Ground { cluster };
    std::fs::create_dir(ground.shared()).expect("the folder is ours");
    assert!(Path::new(&ground.shared()).is_dir());
    in_order(&ground);
    failures(&ground);
    completion(&ground);
    hooks_and_signals(&ground);
}

fn in_order(ground: &Ground) {
    let probe = json!({"exec": {"command": ["bash", "-c", "[ -e /shared/gate ]"]}, "periodSeconds": 1, "failureThreshold": 1000});
    let first = with(sidecar(server("first")), "startupProbe", probe);
    let first = with(
        first,
        "lifecycle",
        json!({"preStop": hook("echo first preStop >> /shared/ordered.log")}),
    );
    let main = "say start; trap 'until [ -e /shared/leave ]; do sleep 0.05; done; say end; exit 0' TERM; while :; do sleep 0.05; done";
    ground.apply(
        "ordered",
        &json!({
            "terminationGracePeriodSeconds": 100,
            "initContainers": [
                scripted("one", &wait_for("one")), first, scripted("two", "say start"), sidecar(server("second")),
            ],
            "containers": [scripted("main", main)],
        }),
    );
    ground.wait_for_word("ordered", "Init:0/4");
    wait_until("it runs", || ground.log("ordered") == ["one start"]);
    ground.touch("one");
    ground.wait_for_word("ordered", "Init:1/4");
    wait_until("the sidecar runs", || ground.log("ordered").len() == 3);
    ground.touch("gate");
    let pod = ground.cluster.wait("all of it", &["pod", "ordered"], ready);
    wait_until("the last has written", || ground.log("ordered").len() == 6);
    let started = ["one start", "one end", "first start", "two start"];
    assert_eq!(ground.log("ordered")[..4], started);
    let statuses = &pod["status"]["initContainerStatuses"];
    assert_eq!(statuses[0]["state"]["terminated"]["reason"], "Completed");
    assert_eq!(
        (&statuses[1]["started"], &statuses[1]["ready"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(statuses[3]["restartCount"], 0);
    let table = ground.cluster.kubectl(&["get", "pod", "ordered", "--no-headers"]);
    assert!(table.contains("3/3") && table.contains("Running"), "{table}");

    ground.cluster.kubectl(&["delete", "pod", "ordered", "--wait=false"]);
    wait_until("the hook of the sidecar", || ground.log("ordered").len() == 7);
    assert_eq!(ground.word("ordered"), "Terminating");
    ground.touch("leave");
    ground
        .cluster
        .kubectl(&["wait", "--for=delete", "pod/ordered", "--timeout=120s"]);
    let log = ground.log("ordered");
    assert_eq!(log[6..], ["first preStop", "main end", "second term", "first term"]);
}

fn failures(ground: &Ground) {
    let init = |script: &str| json!([scripted("init", script)]);
    ground.apply(
        "failed",
        &json!({"restartPolicy": "Never", "initContainers": init("exit 3")}),
    );
    ground.apply(
        "again",
        &json!({"initContainers": init("say try; [ -e /shared/mended ]")}),
    );
    ground.wait_for_word("failed", "Init:Error");
    let pod = ground
        .cluster
        .wait("Failed", &["pod", "failed"], |pod| pod["status"]["phase"] == "Failed");
    assert_eq!(
        pod["status"]["initContainerStatuses"][0]["state"]["terminated"]["exitCode"],
        3
    );
    assert_eq!(
        pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"],
        "PodInitializing"
    );
    ground.wait_for_word("again", "Init:CrashLoopBackOff");
    ground.touch("mended");
    let pod = ground.cluster.wait("it to go on", &["pod", "again"], ready);
    let count = pod["status"]["initContainerStatuses"][0]["restartCount"]
        .as_u64()
        .expect("a number");
    assert_eq!(ground.log("again").len() as u64, count + 1);
}

fn completion(ground: &Ground) {
    let helper = sidecar(scripted(
        "helper",
        "trap 'say term; exit 7' TERM; say start; while :; do sleep 0.05; done",
    ));
    // Who is asked to stop before it has begun hears nothing.
    let heard = "until [ -e /shared/done.log ]; do sleep 0.05; done; say work";
    ground.apply(
        "done",
        &json!({"restartPolicy": "Never", "terminationGracePeriodSeconds": 30,
                "initContainers": [helper], "containers": [scripted("main", heard)]}),
    );
    ground.wait_for_word("done", "Completed");
    ground.cluster.wait("Succeeded", &["pod", "done"], |pod| {
        pod["status"]["phase"] == "Succeeded"
    });
    assert!(
        ground.log("done").contains(&"helper term".to_owned()),
        "{:?}",
        ground.log("done")
    );
}

fn hooks_and_signals(ground: &Ground) {
    let tcp = json!({"postStart": {"tcpSocket": {"port": 80}}});
    ground.apply("tcp", &json!({"containers": [with(server("main"), "lifecycle", tcp)]}));
    ground.event("tcp", "FailedPostStartHook", "tcpSocket is not supported");
    ground.event("tcp", "Killing", "FailedPostStartHook");

    let headers = json!([{"name": "X-Why", "value": "stop"}]);
    let web = json!({"name": "web", "image": "web:v1", "ports": [{"name": "http", "containerPort": 8080}]});
    let get = |port: &str, scheme: &str| json!({"preStop": {"httpGet": {"path": "/stop", "port": port, "scheme": scheme, "httpHeaders": headers}}});
    ground.apply(
        "plain",
        &json!({"containers": [with(web.clone(), "lifecycle", get("http", "HTTP"))]}),
    );
    ground.apply(
        "secret",
        &json!({"containers": [with(web.clone(), "lifecycle", get("http", "HTTPS"))]}),
    );
    ground.apply(
        "nameless",
        &json!({"containers": [with(web, "lifecycle", get("admin", "HTTP"))]}),
    );
    let odd = scripted(
        "main",
        "trap 'say usr1; exit 0' USR1; trap 'say term' TERM; say start; while :; do sleep 0.05; done",
    );
    let odd = with(odd, "lifecycle", json!({"stopSignal": "SIGUSR1"}));
    ground.apply("signalled", &json!({"os": {"name": "linux"}, "containers": [odd]}));
    let pods = ["plain", "secret", "nameless", "signalled"];
    for pod in pods {
        ground.cluster.wait(pod, &["pod", pod], ready);
    }
    wait_until("its trap is set", || ground.log("signalled").len() == 1);
    let all = [&["delete", "pod", "--grace-period=30"][..], &pods].concat();
    ground.cluster.kubectl(&all);
    ground.event("secret", "FailedPreStopHook", "https://");
    ground.event("nameless", "FailedPreStopHook", "couldn't find port");
    assert_eq!(ground.log("signalled"), ["main start", "main usr1"]);
    let selector = "involvedObject.name=plain,reason=FailedPreStopHook";
    let events = ground
        .cluster
        .get(&["events", "--field-selector", selector])
        .expect("a list");
    assert_eq!(events["items"], json!([]), "its hook was answered");
}
