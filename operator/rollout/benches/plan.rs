//! What one plan costs, by all pods and by pods that change: `cargo bench -p afloat-rollout`. The figures are
//! microseconds of the fastest of many plans; read them against each other, not against another machine's.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use afloat_api::{CloneSet, CloneSetStatus};
use afloat_rollout::action::Action;
use afloat_rollout::pod::Pod;
use afloat_rollout::pod::images::Nodes;
use afloat_rollout::pod::launch::Opened;
use afloat_rollout::pod::server::Server;
use afloat_rollout::workload::kind::Workload as _;
use afloat_rollout::workload::memo::Memo;
use afloat_rollout::workload::observed::{Observed, Plan};
use afloat_rollout::workload::roster::Roster;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ControllerRevision;

use serde_json::{Value, json};

/// A CloneSet of `all` pods, of which `outdated` have an older image.
struct Scene {
    set: CloneSet,
    pods: Roster,
    revisions: Vec<Arc<ControllerRevision>>,
    /// What the plan before found out of the templates.
    memo: Memo,
}

fn set(all: usize, image: &str) -> Value {
    json!({
        "metadata": {"name": "web", "namespace": "n", "uid": "set", "resourceVersion": "1", "generation": 1},
        "spec": {
            "replicas": all, "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "app", "image": image}, {"name": "log", "image": "log:1"}]},
            },
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {
                "podUpdatePolicy": "InPlaceIfPossible", "maxUnavailable": "20%"}},
        },
    })
}

fn plan_of(scene: &Scene) -> Plan<CloneSetStatus> {
    scene.set.plan(&Observed {
        pods: &scene.pods,
        revisions: &scene.revisions,
        claims: &[],
        classes: &[],
        now: "2026-01-01T01:00:00Z".parse::<Timestamp>().unwrap(),
        seed: 1,
        drained: &BTreeMap::new(),
        nodes: &Nodes::new(),
        opened: &Opened::new(),
        traffic: &afloat_rollout::workload::traffic::Traffic::default(),
        guards: &[],
        lacks: &[],
        server: Server::default(),
        gates: afloat_api::Gates::default(),
        memo: &scene.memo,
        recorded: None,
    })
}

fn scene(all: usize, outdated: usize) -> Scene {
    let mut scene = Scene {
        set: serde_json::from_value(set(all, "app:1")).unwrap(),
        pods: Roster::default(),
        revisions: Vec::new(),
        memo: Memo::default(),
    };
    let mut names = Vec::new();
    for image in ["app:1", "app:2"] {
        scene.set = serde_json::from_value(set(all, image)).unwrap();
        let plan = plan_of(&scene);
        let [Action::CreateRevision { body }] = plan.actions.as_slice() else {
            unreachable!("a revision is missing")
        };
        names.push(body["metadata"]["name"].as_str().unwrap().to_owned());
        scene
            .revisions
            .push(Arc::new(serde_json::from_value(body.clone()).unwrap()));
    }
    let pods = (0..all).map(|number| {
        let (image, revision) = if number < outdated {
            ("app:1", &names[0])
        } else {
            ("app:2", &names[1])
        };
        let status = |name: &str, image: &str| json!({"name": name, "image": image, "imageID": image, "containerID": "c", "ready": true, "state": {"running": {}}});
        let pod = json!({
            "metadata": {
                "name": format!("web-{number:05}"), "namespace": "n", "uid": number.to_string(), "resourceVersion": "5",
                "labels": {"app": "web", "controller-revision-hash": revision, "lifecycle.apps.kruise.io/state": "Normal",
                    "pod-template-hash": revision, "apps.kruise.io/cloneset-instance-id": format!("{number:05}")},
                "ownerReferences": [{"apiVersion": "apps.kruise.io/v1beta1", "kind": "CloneSet", "name": "web",
                    "uid": "set", "controller": true}],
            },
            "spec": {"nodeName": "node", "containers": [{"name": "app", "image": image}, {"name": "log", "image": "log:1"}],
                "readinessGates": [{"conditionType": "InPlaceUpdateReady"}]},
            "status": {"phase": "Running",
                "conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "ContainersReady", "status": "True"},
                    {"type": "InPlaceUpdateReady", "status": "True"},
                    {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
                "containerStatuses": [status("app", image), status("log", "log:1")]},
        });
        Arc::<Pod>::new(serde_json::from_value(pod).unwrap())
    });
    scene.pods = scene.set.roster().with(pods);
    scene.memo = plan_of(&scene).memo;
    scene
}

fn main() {
    println!(
        "{:>8} {:>10} {:>10} {:>14} {:>12}",
        "PODS", "OUTDATED", "WRITES", "MICROSECONDS", "NS PER POD"
    );
    for (all, outdated) in [
        (100, 0),
        (1_000, 0),
        (10_000, 0),
        (10_000, 100),
        (10_000, 1_000),
        (10_000, 10_000),
        (100_000, 0),
        (100_000, 1_000),
        (100_000, 100_000),
    ] {
        let scene = scene(all, outdated);
        let mut fastest = u128::MAX;
        let mut writes = 0;
        for _ in 0..30 {
            let start = Instant::now();
            let plan = plan_of(&scene);
            fastest = fastest.min(start.elapsed().as_nanos());
            writes = plan.actions.len();
        }
        let per_pod = fastest / u128::try_from(all).unwrap();
        println!(
            "{all:>8} {outdated:>10} {writes:>10} {:>14} {per_pod:>12}",
            fastest / 1000
        );
    }
}
