//! `afloat probe` against real containers: it loses nothing where nothing happens, and names the pod where one is killed.

use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};

use crate::cluster::{AFLOAT, Cluster};

const MODES: [&str; 7] = ["http", "http-new", "http2", "grpc", "grpc-stream=20", "tcp", "tcp-new"];

/// A Deployment of the demo's application that speaks all protocols, and its Service.
fn application() -> String {
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": {
            "metadata": {"labels": {"app": "web"}},
            // It ends without a word: asked politely, it would say goodbye to everybody.
            "spec": {"os": {"name": "linux"}, "terminationGracePeriodSeconds": 5, "containers": [{
                "name": "app", "image": "web:v1", "lifecycle": {"stopSignal": "SIGKILL"},
                "env": [{"name": "APP_TCP_PORT", "value": "9000"}],
                "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
            }]},
        }},
    });
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"type": "NodePort", "selector": {"app": "web"}, "ports": [
            {"name": "http", "port": 80, "targetPort": 8080},
            {"name": "echo", "port": 90, "targetPort": 9000},
        ]},
    });
    json!({"apiVersion": "v1", "kind": "List", "items": [deployment, service]}).to_string()
}

fn serving(endpoints: &Value) -> bool {
    let slices = endpoints["items"].as_array();
    let all = slices.into_iter().flatten();
    let ready = all
        .flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten())
        .filter(|e| e["conditions"]["ready"] == true);
    ready.count() == 3
}

fn boot() -> Option<Cluster> {
    let cluster = Cluster::boot(2)?;
    cluster.build_images();
    cluster.apply(&application());
    let selector = ["endpointslices", "-l", "kubernetes.io/service-name=web"];
    cluster.wait("3 ready endpoints", &selector, serving);
    // The proxies have them a moment later: until an answer comes through each port, nothing is measured.
    for mode in ["http-new", "tcp-new@svc/web:echo"] {
        crate::cluster::wait_until("the Service to answer", || {
            let output = start(&cluster, &["--mode", mode, "--requests", "10"]).wait_with_output();
            report(&output.expect("it ends"))["lost"] == 0
        });
    }
    Some(cluster)
}

fn start(cluster: &Cluster, arguments: &[&str]) -> Child {
    Command::new(AFLOAT)
        .args(["probe", "svc/web:http", "--json", "--kubeconfig"])
        .arg(cluster.dir().join("kubeconfig"))
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("afloat starts")
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

#[test]
fn nothing_is_lost_where_nothing_happens_and_a_killed_pod_is_named() {
    let Some(cluster) = boot() else { return };
    let modes = MODES.map(|mode| {
        if mode.starts_with("tcp") {
            format!("--mode={mode}@svc/web:echo")
        } else {
            format!("--mode={mode}")
        }
    });
    let mut arguments = vec!["--requests", "200", "--stream-for", "1s", "--fail-on-loss"];
    arguments.extend(modes.iter().map(String::as_str));
    let output = start(&cluster, &arguments).wait_with_output().expect("it ends");
    let quiet = report(&output);
    assert!(output.status.success(), "{quiet:#}");
    assert_eq!((&quiet["lost"], &quiet["valid"]), (&json!(0), &json!(true)));
    assert_eq!(quiet["sent"], 200 * MODES.len());
    assert_eq!(quiet["ok"], 200 * MODES.len());

    // Until it is told to stop.
    let modes = [
        "--mode=tcp=200@svc/web:echo",
        "--mode=grpc-stream=20",
        "--mode=http=200",
    ];
    let mut probe = start(
        &cluster,
        &[&modes[..], &["--fail-on-loss", "--stream-for", "60s"]].concat(),
    );
    let pods = cluster.get(&["pods", "-l", "app=web"]).expect("they run");
    let victim = pods["items"][0]["metadata"]["name"]
        .as_str()
        .expect("a name")
        .to_owned();
    // It has started once it wrote nothing wrong and its streams are seen; the application's own log does not tell, so the
    // pod is killed only after a run of the same length went through.
    let warm = start(&cluster, &["--mode=http-new", "--requests", "200"]).wait_with_output();
    assert!(warm.expect("it ends").status.success());
    cluster.kubectl(&["delete", "pod", &victim, "--grace-period=0", "--force"]);
    let after = start(&cluster, &["--mode=http-new", "--requests", "200"]).wait_with_output();
    assert!(after.expect("it ends").status.success());
    cluster.wait(
        "3 ready endpoints",
        &["endpointslices", "-l", "kubernetes.io/service-name=web"],
        serving,
    );
    assert!(
        probe.try_wait().expect("our own child").is_none(),
        "it runs until it is told"
    );
    crate::cluster::signal_process(probe.id(), "INT");
    let output = probe.wait_with_output().expect("it ends");
    let killed = report(&output);
    assert_eq!(output.status.code(), Some(1), "{killed:#}");
    assert!(killed["lost"].as_u64() > Some(0), "{killed:#}");
    let losses = killed["losses"].as_array().expect("a list");
    assert_eq!(json!(losses.len()), killed["lost"]);
    // On a busy machine the first may come before the watch has told of the deletion.
    let around = losses.iter().filter_map(|loss| loss["around"].as_array()).flatten();
    let mut texts = around.filter_map(Value::as_str);
    assert!(texts.any(|text| text.contains(&victim)), "{:#}", killed["losses"]);
}

#[test]
fn what_cannot_be_measured_is_one_line_and_exit_code_2() {
    for (arguments, word) in [
        (&["nowhere"][..], "HOST:PORT"),
        (&["127.0.0.1:1", "--mode", "udp"], "udp"),
        (&["127.0.0.1:1", "--mode", "http=0"], "rate"),
        (&["127.0.0.1:1", "-n", "x"], "--service"),
        (&["svc/web", "--kubeconfig", "/nonexistent"], "/nonexistent"),
    ] {
        let output = Command::new(AFLOAT)
            .arg("probe")
            .args(arguments)
            .output()
            .expect("afloat starts");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {errors}");
        assert!(errors.contains(word), "{arguments:?}: {errors}");
    }
}
