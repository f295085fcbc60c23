//! A real stateful application under constant writes: three etcd members, each with its own claim, are brought to another release one by
//! one, in place and by recreation. No acknowledged write may be lost, and the quorum holds at any time.

mod writer;

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};

use crate::cluster::{AFLOAT, Cluster, condition, container, wait_until};
use writer::{Writer, Written, members, stored};

const MEMBERS: usize = 3;
/// With fewer the store takes no writes.
const QUORUM: usize = 2;

/// Whose pods they are.
const API: &str = "apps.kruise.io/v1beta1";
const KIND: &str = "statefulsets.apps.kruise.io";

/// Packs etcd as two images. False where there is none to be had, which is printed.
fn images(cluster: &Cluster) -> bool {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/etcd-image.sh");
    let mut command = Command::new("bash");
    let output = command.arg(script).arg(AFLOAT).arg(cluster.dir()).output();
    let output = output.expect("bash runs");
    match output.status.code() {
        Some(0) => true,
        Some(77) => {
            eprintln!("skipped: {}", String::from_utf8_lossy(&output.stderr));
            false
        }
        _ => panic!("{output:?}"),
    }
}

/// The members know each other by name, also before they are ready; clients reach those that are.
fn services() -> Value {
    let ports = json!([{"name": "client", "port": 2379}, {"name": "peer", "port": 2380}]);
    let selector = json!({"app": "etcd"});
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "etcd"},
            "spec": {"clusterIP": "None", "selector": selector, "ports": ports, "publishNotReadyAddresses": true}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "store"},
            "spec": {"type": "NodePort", "selector": selector, "ports": [{"port": 2379}]}},
    ]})
}

fn set(policy: &str) -> Value {
    let peers: Vec<String> = (0..MEMBERS)
        .map(|n| format!("etcd-{n}=http://etcd-{n}.etcd:2380"))
        .collect();
    let arguments = json!([
        "--name=$(NAME)",
        "--data-dir=/data/etcd",
        "--listen-peer-urls=http://0.0.0.0:2380",
        "--listen-client-urls=http://0.0.0.0:2379",
        "--advertise-client-urls=http://$(NAME).etcd:2379",
        "--initial-advertise-peer-urls=http://$(NAME).etcd:2380",
        format!("--initial-cluster={}", peers.join(",")),
        "--initial-cluster-state=new",
    ]);
    json!({"apiVersion": API, "kind": "StatefulSet", "metadata": {"name": "etcd"}, "spec": {
        "replicas": MEMBERS, "serviceName": "etcd", "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": {"app": "etcd"}},
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"podUpdatePolicy": policy, "maxUnavailable": 1}},
        "template": {"metadata": {"labels": {"app": "etcd"}}, "spec": {
            "terminationGracePeriodSeconds": 10,
            "readinessGates": [{"conditionType": "InPlaceUpdateReady"}],
            "containers": [{
                "name": "etcd", "image": "etcd:v1", "args": arguments,
                "env": [{"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                "ports": [{"containerPort": 2379}, {"containerPort": 2380}],
                "readinessProbe": {"httpGet": {"path": "/health", "port": 2379}, "periodSeconds": 1, "timeoutSeconds": 5},
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            }],
        }},
        "volumeClaimTemplates": [{"metadata": {"name": "data"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}],
    }})
}

fn pods(cluster: &Cluster) -> Vec<Value> {
    let list = cluster.get(&["pods", "-l", "app=etcd"]).unwrap_or_default();
    let mut pods = list["items"].as_array().cloned().unwrap_or_default();
    pods.sort_by_key(|pod| pod["metadata"]["name"].to_string());
    pods
}

fn ready(pods: &[Value]) -> usize {
    pods.iter()
        .filter(|pod| condition(pod, "Ready") == Some("True"))
        .count()
}

/// What a release cost.
struct Cost {
    seconds: f64,
    written: Written,
    least_ready: usize,
    pods_kept: usize,
    addresses_kept: usize,
}

/// The members' ids, once somebody answers.
fn known(port: u16) -> Vec<String> {
    let mut found = None;
    wait_until("the members", || {
        found = members(port);
        found.is_some()
    });
    found.unwrap_or_default()
}

/// Brings all members to an image while somebody writes.
fn release(cluster: &Cluster, port: u16, image: &str, first: u64) -> Cost {
    let before = pods(cluster);
    let claims = volumes(cluster);
    let ids = known(port);
    let writer = Writer::start(port, first);
    wait_until("writes", || writer.so_far() > 50);
    let start = Instant::now();
    let patch = json!([{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": image}]);
    cluster.kubectl(&["patch", KIND, "etcd", "--type=json", "-p", &patch.to_string()]);
    let mut least_ready = MEMBERS;
    let runs = |pod: &Value| {
        container(pod, "etcd")["image"]
            .as_str()
            .is_some_and(|runs| runs.ends_with(image))
    };
    wait_until("all members at the release", || {
        let now = pods(cluster);
        let serving = ready(&now);
        least_ready = least_ready.min(serving);
        assert!(serving >= QUORUM, "{serving} members are Ready: {now:#?}");
        now.len() == MEMBERS && serving == MEMBERS && now.iter().all(runs)
    });
    let seconds = start.elapsed().as_secs_f64();
    let seen = writer.so_far();
    wait_until("some more writes", || writer.so_far() > seen + 50);
    let written = writer.finish();
    let after = pods(cluster);
    assert_eq!(volumes(cluster), claims, "the claims and what they are bound to");
    assert_eq!(known(port), ids, "no member came or went");
    let same = |pointer: &str| {
        let pairs = before.iter().zip(&after);
        pairs
            .filter(|(old, new)| old.pointer(pointer) == new.pointer(pointer))
            .count()
    };
    Cost {
        seconds,
        written,
        least_ready,
        pods_kept: same("/metadata/uid"),
        addresses_kept: same("/status/podIP"),
    }
}

/// The claims by name, with the volumes that they are bound to.
fn volumes(cluster: &Cluster) -> Vec<(String, String)> {
    let list = cluster.get(&["pvc", "-l", "app=etcd"]).expect("claims");
    let claims = list["items"].as_array().cloned().unwrap_or_default();
    let text = |claim: &Value, pointer: &str| claim.pointer(pointer).map(ToString::to_string).unwrap_or_default();
    let mut all: Vec<_> = claims
        .iter()
        .map(|claim| (text(claim, "/metadata/name"), text(claim, "/spec/volumeName")))
        .collect();
    all.sort();
    all
}

/// Nothing that was acknowledged is missing; what was not may be there or not.
fn complete(port: u16, written: &Written) {
    let mut there = None;
    wait_until("an answer of a majority", || {
        there = stored(port);
        there.is_some()
    });
    let there = there.unwrap_or_default();
    let lost: Vec<_> = written.acknowledged.difference(&there).collect();
    assert!(lost.is_empty(), "acknowledged and not there: {lost:?}");
}

fn tell(how: &str, cost: &Cost) {
    eprintln!(
        "etcd {how:<10} {:>5.1} s, {:>6} writes acknowledged, {:>3} not, longest pause {:>6.0} ms, never fewer than {} of {MEMBERS} Ready, pods kept \
         {}/{MEMBERS}, addresses {}/{MEMBERS}",
        cost.seconds,
        cost.written.acknowledged.len(),
        cost.written.failed,
        cost.written.pause.as_secs_f64() * 1000.0,
        cost.least_ready,
        cost.pods_kept,
        cost.addresses_kept,
    );
}

#[test]
fn etcd_is_released_under_writes_and_loses_none() {
    let Some(cluster) = Cluster::boot(3) else { return };
    if !images(&cluster) {
        return;
    }
    cluster.apply(&services().to_string());
    cluster.apply(&set("InPlaceIfPossible").to_string());
    wait_until("all members Ready", || ready(&pods(&cluster)) == MEMBERS);
    let service = cluster.get(&["services", "store"]).expect("the Service");
    let port = service["spec"]["ports"][0]["nodePort"].as_u64().expect("a node port");
    let port = u16::try_from(port).expect("a port");
    wait_until("an answer", || members(port).is_some_and(|all| all.len() == MEMBERS));

    let in_place = release(&cluster, port, "etcd:v2", 0);
    let policy =
        json!([{"op": "replace", "path": "/spec/updateStrategy/rollingUpdate/podUpdatePolicy", "value": "ReCreate"}]);
    cluster.kubectl(&["patch", KIND, "etcd", "--type=json", "-p", &policy.to_string()]);
    let anew = release(&cluster, port, "etcd:v1", 1_000_000);
    for (how, cost) in [("in place", &in_place), ("recreated", &anew)] {
        tell(how, cost);
        complete(port, &cost.written);
    }
    assert_eq!((in_place.pods_kept, in_place.addresses_kept), (MEMBERS, MEMBERS));
    assert_eq!(anew.pods_kept, 0, "what the other way is measured beside");
}
