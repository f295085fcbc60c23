//! Pods and images whose author means harm: to the node agent, which is in the same process as everything else.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use super::bystander::Bystander;
use super::world::World;
use crate::cluster::container;
use crate::network::{ready, waiting};
use crate::registry::{gzip, layer};

const PODS: &str = "/api/v1/namespaces/default/pods";

async fn create(world: &World, pod: &Value) {
    world
        .expect("POST", PODS, "application/json", &Bytes::from(pod.to_string()), 201)
        .await;
}

async fn remove(world: &World, name: &str) {
    let now = Bytes::from(json!({"gracePeriodSeconds": 0}).to_string());
    world
        .expect("DELETE", &format!("{PODS}/{name}"), "application/json", &now, 200)
        .await;
}

/// Runs what blocks beside what does not.
fn wait(world: &World, what: &str, name: &str, wish: impl Fn(&Value) -> bool) {
    tokio::task::block_in_place(|| world.cluster.wait(what, &["pod", name], wish));
}

/// Variables that are made of two of the one before: 2^40 bytes.
pub(super) async fn variables(world: &World, _: &Bystander) {
    let mut env = vec![json!({"name": "A0", "value": "x"})];
    env.extend((1..40).map(|n| json!({"name": format!("A{n}"), "value": format!("$(A{0})$(A{0})", n - 1)})));
    let mut pod = waiting("doubling", &json!({}));
    pod["spec"]["containers"][0]["env"] = json!(env);
    create(world, &pod).await;
    // What becomes of it is told.
    wait(world, "a word about its variables", "doubling", |pod| {
        container(pod, "main")["state"]["waiting"]["message"]
            .as_str()
            .is_some_and(|text| text.contains("env"))
    });
    remove(world, "doubling").await;
}

/// More connections than the process may have descriptors, and a pod that is to start beside them.
pub(super) async fn beside_connections(world: &World, others: &Bystander) {
    let mut open = Vec::new();
    for _ in 0..300 {
        open.extend(world.door.enter(b"").await.ok());
    }
    create(world, &waiting("beside", &json!({}))).await;
    wait(world, "a pod beside many connections", "beside", ready);
    others.rounds(10).await;
    remove(world, "beside").await;
}

/// Output without end and without lines, and a reader who does not read.
pub(super) async fn output(world: &World, others: &Bystander) {
    let shout = |name: &str, script: &str| {
        let mut pod = waiting(name, &json!({}));
        pod["spec"]["containers"][0]["command"] = json!(["bash", "-c", script]);
        pod
    };
    create(
        world,
        &shout(
            "lines",
            "while :; do printf 'all work and no play makes a dull log\\n%.0s' {1..200}; done",
        ),
    )
    .await;
    create(world, &shout("line", "while :; do printf 'x%.0s' {1..5000}; done")).await;
    for name in ["lines", "line"] {
        wait(world, "a pod that talks", name, ready);
    }
    let follow = |name: &str| {
        let uri = format!("{PODS}/{name}/log?follow=true");
        let door = world.door.clone();
        async move {
            tokio::time::timeout(Duration::from_secs(4), door.ask("GET", &uri, "", &Bytes::new()))
                .await
                .is_ok()
        }
    };
    let _ = tokio::join!(follow("lines"), follow("line"), others.rounds(40));
    for name in ["lines", "line"] {
        remove(world, name).await;
    }
}

/// Folders in folders in a volume, without end, and then the pod goes.
pub(super) async fn folders(world: &World, others: &Bystander) {
    let mut pod = waiting("folders", &json!({"volumes": [{"name": "data", "emptyDir": {}}]}));
    pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
    let script = "cd /data; for ((i = 0; i < 1000; i++)); do mkdir d && cd ./d || break; done; touch /data/done; exec sleep 100000";
    pod["spec"]["containers"][0]["command"] = json!(["bash", "-c", script]);
    pod["spec"]["containers"][0]["readinessProbe"] =
        json!({"exec": {"command": ["cat", "/data/done"]}, "periodSeconds": 1});
    create(world, &pod).await;
    wait(world, "the folders", "folders", ready);
    remove(world, "folders").await;
    others.rounds(10).await;
}

/// Probes that are answered without end.
pub(super) async fn probes(world: &World, others: &Bystander) {
    let mut pod = waiting("endless", &json!({}));
    pod["spec"]["containers"][0]["readinessProbe"] = json!({"exec": {"command": ["bash", "-c", "while :; do printf 'x%.0s' {1..5000}; done"]}, "periodSeconds": 1, "timeoutSeconds": 2});
    pod["spec"]["containers"][0]["lifecycle"] = json!({"postStart": {"exec": {"command": ["bash", "-c", "for i in {1..2000}; do printf 'x%.0s' {1..5000}; done; exit 1"]}}});
    create(world, &pod).await;
    others.rounds(60).await;
    remove(world, "endless").await;
}

/// Layers that no honest tool makes, from a registry.
pub(super) async fn images(world: &World, others: &Bystander) {
    let mut deep = tar::Builder::new(Vec::new());
    for depth in [1_500, 1_900] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_size(0);
        header.set_mode(0o755);
        let _ = deep.append_data(&mut header, "d/".repeat(depth), std::io::empty());
    }
    let mut names = Vec::new();
    for (name, kind) in [("name", b'L'), ("record", b'x')] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_size(64 << 20);
        header.set_cksum();
        let mut long = header.as_bytes().to_vec();
        long.resize(long.len() + (64 << 20), b'x');
        names.push((name, long));
    }
    let zeros = layer(&[("zeros", &vec![0; 256 << 20])]);
    let layers = [("deep", deep.into_inner().expect("into memory")), ("zeros", zeros)]
        .into_iter()
        .chain(names);
    let mut pods = Vec::new();
    for (name, plain) in layers {
        let sent = gzip(&plain);
        world
            .registry
            .image(&format!("bad/{name}"), "v1", &[(plain, sent)], &["/none"]);
        let mut pod = waiting(&format!("bad-{name}"), &json!({}));
        pod["spec"]["containers"][0]["image"] = json!(world.registry.name(&format!("bad/{name}:v1")));
        create(world, &pod).await;
        pods.push(format!("bad-{name}"));
    }
    for name in &pods {
        wait(world, "what became of its image", name, |pod| {
            let status = container(pod, "main");
            let reason = status["state"]["waiting"]["reason"].as_str().unwrap_or_default();
            reason.ends_with("BackOff")
                || reason.ends_with("Error")
                || reason.ends_with("ErrImagePull")
                || status["lastState"]["terminated"].is_object()
        });
    }
    others.rounds(5).await;
    for name in &pods {
        remove(world, name).await;
    }
}
