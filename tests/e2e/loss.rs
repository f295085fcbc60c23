//! What rules of `afloat check` predict is measured: the manifest that a rule speaks of loses requests, and with the
//! fix that the rule gives it loses none.

use serde_json::{Value, json};

use crate::cluster::{Cluster, afloat};
use crate::load::{Load, request};

/// The fix of the rule for the manifest, if the rule speaks of it.
fn fix(manifest: &str, rule: &str) -> Option<Value> {
    let (_, output, _) = afloat(&["check", "-f", "-", "--format", "json"], manifest);
    let report: Value = serde_json::from_str(&output).expect("JSON");
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
fn release(cluster: &Cluster, name: &str, port: u16, version: &str) -> u64 {
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
    cluster.wait("an answer", &pods, |_| (0..20).all(|_| request(port)));
    let load = Load::start(port);
    cluster.kubectl(&[
        "set",
        "env",
        &format!("deployment/{name}"),
        &format!("APP_VERSION={version}"),
    ]);
    cluster.wait("the release", &["deployment", name], settled);
    cluster.wait("the end of the old pods", &pods, two);
    cluster.wait("an answer", &pods, |_| (0..20).all(|_| request(port)));
    let (answered, lost) = load.finish();
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
