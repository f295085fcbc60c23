//! What rules of `afloat check` predict is measured: the manifest that a rule speaks of loses requests, and with the
//! fix that the rule gives it loses none.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::{AFLOAT, Cluster};

/// Asks on new connections, one after the other, until told to stop.
struct Client {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    thread: std::thread::JoinHandle<usize>,
}

fn asks(address: SocketAddr) -> bool {
    // Far beyond any answer; a request without one is lost.
    let limit = Duration::from_secs(5);
    let Ok(mut stream) = TcpStream::connect_timeout(&address, limit) else {
        return false;
    };
    let mut answer = String::new();
    stream.set_read_timeout(Some(limit)).is_ok()
        && stream
            .write_all(b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")
            .is_ok()
        && stream.read_to_string(&mut answer).is_ok()
        && answer.starts_with("HTTP/1.1 200")
}

impl Client {
    fn start(port: u16) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopping, counting) = (stop.clone(), answered.clone());
        let thread = std::thread::spawn(move || {
            let mut lost = 0;
            while !stopping.load(Ordering::Relaxed) {
                if asks(SocketAddr::from(([127, 0, 0, 1], port))) {
                    counting.fetch_add(1, Ordering::Relaxed);
                } else {
                    lost += 1;
                }
                // The pace of the requests.
                std::thread::sleep(Duration::from_millis(2));
            }
            lost
        });
        Self { stop, answered, thread }
    }

    /// Answered, and lost.
    fn end(self) -> (usize, usize) {
        self.stop.store(true, Ordering::Relaxed);
        let lost = self.thread.join().expect("the client ends");
        (self.answered.load(Ordering::Relaxed), lost)
    }
}

/// The fix of the rule for the manifest, if the rule speaks of it.
fn fix(manifest: &str, rule: &str) -> Option<Value> {
    let mut child = Command::new(AFLOAT)
        .args(["check", "-f", "-", "--format", "json"])
        .env_remove("AFLOAT_DATA_DIR")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("afloat starts");
    let mut stdin = child.stdin.take().expect("stdin is a pipe");
    stdin.write_all(manifest.as_bytes()).expect("afloat reads");
    drop(stdin);
    let output = child.wait_with_output().expect("afloat ends");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let mut findings = report["findings"].as_array().expect("findings").iter();
    findings
        .find(|finding| finding["rule"] == rule)
        .map(|finding| finding["fix"].clone())
}

fn manifest(name: &str, port: u16, container: &Value) -> String {
    let mut app = json!({"name": "app", "image": "web:v1", "ports": [{"containerPort": 8080}]});
    app.as_object_mut()
        .unwrap()
        .extend(container.as_object().unwrap().clone());
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"type": "NodePort", "selector": {"app": name},
            "ports": [{"port": 80, "targetPort": 8080, "nodePort": port}]}},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {
            "replicas": 2, "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [app]}}}},
    ]})
    .to_string()
}

/// Lost requests of one release.
fn release(cluster: &Cluster, name: &str, port: u16, version: &str) -> usize {
    let settled = |web: &Value| {
        let status = &web["status"];
        status["observedGeneration"] == web["metadata"]["generation"]
            && ["replicas", "updatedReplicas", "availableReplicas"]
                .iter()
                .all(|field| status[field] == 2)
    };
    cluster.wait("the pods", &["deployment", name], settled);
    let pods = ["pods", "-l", &format!("app={name}")];
    let two = |list: &Value| list["items"].as_array().is_some_and(|list| list.len() == 2);
    cluster.wait("only the pods", &pods, two);
    // Available is not yet serving where there is no probe.
    cluster.wait("an answer", &pods, |_| {
        (0..20).all(|_| asks(SocketAddr::from(([127, 0, 0, 1], port))))
    });
    let client = Client::start(port);
    cluster.kubectl(&[
        "set",
        "env",
        &format!("deployment/{name}"),
        &format!("APP_VERSION={version}"),
    ]);
    cluster.wait("the release", &["deployment", name], settled);
    cluster.wait("the end of the old pods", &pods, two);
    cluster.wait("an answer", &pods, |_| {
        (0..20).all(|_| asks(SocketAddr::from(([127, 0, 0, 1], port))))
    });
    let (answered, lost) = client.end();
    assert!(answered > 0, "nothing was measured");
    lost
}

#[track_caller]
fn predicted(cluster: &Cluster, rule: &str, port: u16, container: &Value) {
    let name = rule;
    let manifest = manifest(name, port, container);
    let fix = fix(&manifest, rule).expect("the rule speaks of it");
    cluster.apply(&manifest);
    let lost = release(cluster, name, port, "two");
    assert!(lost > 0, "{rule} predicts a loss, and there was none");
    cluster.kubectl(&["patch", "deployment", name, "--type=json", "-p", &fix.to_string()]);
    let lost = release(cluster, name, port, "three");
    assert_eq!(lost, 0, "{rule}: with its fix nothing may be lost");
}

/// An application that needs a second to listen, and nothing that asks it. (preStop keeps the other loss out.)
#[test]
fn no_readiness_probe_loses_requests() {
    let Some(cluster) = Cluster::boot(1) else { return };
    cluster.build_images();
    let container = json!({"env": [{"name": "APP_START_MS", "value": "1000"}],
        "lifecycle": {"preStop": {"sleep": {"seconds": 2}}}});
    predicted(&cluster, "no-readiness-probe", 30_471, &container);
}

/// Proxies that take a second to hear of a pod's end, and nothing that waits for them.
#[test]
fn recreation_without_drain_loses_requests() {
    let Some(cluster) = Cluster::boot_with(1, &["--proxy-lag", "1s"]) else {
        return;
    };
    cluster.build_images();
    let container = json!({"readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1}});
    predicted(&cluster, "recreate-without-drain", 30_472, &container);
}
