//! What is lost stops the rollout of any kind, from the node's report to the RolloutReport; the node's agent is played.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::QUICK;
use crate::play::Play;

/// As many as there are nodes.
const PODS: usize = 3;
const LIMIT: Duration = Duration::from_secs(60);

fn api(play: &Play, version: &str, kind: &str, namespaced: bool) -> Api<DynamicObject> {
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    match namespaced {
        true => Api::namespaced_with(play.client.clone(), "default", &kind),
        false => Api::all_with(play.client.clone(), &kind),
    }
}

async fn create(api: &Api<DynamicObject>, object: Value) {
    let object = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap();
}

/// The agent of the only node that sends, whose proxy follows each pod at once; `lost` is the pod that resets a connection.
struct Agent {
    lost: Arc<Mutex<Option<String>>>,
    _task: JoinSet<()>,
}

impl Agent {
    async fn start(play: &Play) -> Self {
        let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        api(play, "v1", "Node", false)
            .patch_status("node", &PatchParams::default(), &Patch::Merge(&ready))
            .await
            .unwrap();
        for name in ["node-2", "node-3"] {
            // Nobody is Ready there who sends.
            let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
            create(&api(play, "v1", "Node", false), node).await;
        }
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}});
        create(&api(play, "v1", "Service", true), service).await;
        let report = json!({"apiVersion": "afloat.dev/v1alpha1", "kind": "NodeTraffic", "metadata": {"name": "node"}});
        let reports = api(play, "afloat.dev/v1alpha1", "NodeTraffic", false);
        create(&reports, report).await;
        let lost = Arc::new(Mutex::new(None));
        let mut task = JoinSet::new();
        task.spawn(report_on(play.pods(), reports, lost.clone()));
        Self { lost, _task: task }
    }
}

async fn report_on(pods: Api<DynamicObject>, reports: Api<DynamicObject>, lost: Arc<Mutex<Option<String>>>) {
    let mut last = Value::Null;
    loop {
        let list = pods.list(&ListParams::default()).await.unwrap();
        let worst = lost.lock().unwrap().clone();
        let mut said = json!({});
        for pod in list.items {
            let (uid, name) = (pod.metadata.uid.unwrap(), pod.metadata.name.unwrap());
            // The EndpointSlice that follows from the pod is newer.
            let version: u64 = pod.metadata.resource_version.unwrap().parse().unwrap();
            let conditions = pod.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let ready = conditions
                .iter()
                .any(|it| it["type"] == "Ready" && it["status"] == "True");
            said[uid] = json!({"pod": format!("default/{name}"), "applied": version + 1, "ready": ready, "routed": ready,
                "open": 0, "reset": u64::from(worst.as_ref() == Some(&name))});
        }
        let status = json!({"synced": true, "pods": said, "services": {"default/web": 100}});
        if status != last {
            let patch = Patch::Merge(json!({"status": status}));
            reports.patch("node", &PatchParams::default(), &patch).await.unwrap();
            last = status;
        }
        sleep(Duration::from_millis(10)).await;
    }
}

async fn until<T>(what: &str, mut found: impl AsyncFnMut() -> Result<T, Value>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        match found().await {
            Ok(found) => return found,
            Err(seen) => assert!(Instant::now() < deadline, "{what} did not come: {seen:#}"),
        }
        sleep(Duration::from_millis(10)).await;
    }
}

/// A condition of a pod or a workload.
fn says(object: &Value, condition: &str, status: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    let said = |it: &Value| it["type"] == condition && it["status"] == status;
    conditions.is_some_and(|all| all.iter().any(said))
}

/// All are there, Ready, and at the wanted revision.
fn complete(set: &Value, pods: usize) -> bool {
    let of = |field: &str| set["status"][field].as_u64() == Some(pods as u64);
    set["status"]["observedGeneration"] == set["metadata"]["generation"]
        && (of("updatedReadyReplicas") || of("updatedNumberScheduled") && of("numberReady"))
}

fn is_new(pod: &Value) -> bool {
    pod["spec"]["containers"][0]["image"] == "app:2"
}

async fn begin(play: &Play, kind: &str, spec: Value) {
    let mut spec = spec;
    spec["selector"] = json!({"matchLabels": {"app": "web"}});
    spec["template"] = json!({"metadata": {"labels": {"app": "web"}}, "spec": {
        "readinessGates": [{"conditionType": "InPlaceUpdateReady"}], "containers": [{"name": "app", "image": "app:1"}]}});
    let metadata = json!({"name": "web", "annotations": {"afloat.dev/max-loss": "0"}});
    let set = json!({"apiVersion": "apps.kruise.io/v1beta1", "kind": kind, "metadata": metadata, "spec": spec});
    create(&play.workloads("v1beta1", kind), set).await;
    play.until_set(kind, "web", "all pods", |set| complete(set, PODS)).await;
}

/// The first pod to be updated loses a connection: it is the last one, which is told everywhere; with a larger limit the rollout goes on.
async fn stop(kind: &str, spec: Value) {
    let play = Play::start(QUICK).await;
    let agent = Agent::start(&play).await;
    begin(&play, kind, spec).await;
    let sets = play.workloads("v1beta1", kind);
    let patch = async |patch: Value| {
        let patch = Patch::Merge(&patch);
        sets.patch("web", &PatchParams::default(), &patch).await.unwrap();
    };

    let held = play.hold_kubelets().await;
    let containers = json!([{"name": "app", "image": "app:2"}]);
    patch(json!({"spec": {"template": {"spec": {"containers": containers}}}})).await;
    let first = until("a pod that leaves", async || {
        let pods = play.list().await;
        let found = pods.iter().find(|(_, pod)| says(pod, "InPlaceUpdateReady", "False"));
        found.map(|(name, _)| name.clone()).ok_or_else(|| json!(pods))
    })
    .await;
    *agent.lost.lock().unwrap() = Some(first.clone());
    let exceeded = |set: &Value| says(set, "LossExceeded", "True");
    play.until_set(kind, "web", "its loss", exceeded).await;
    let reports = api(&play, "afloat.dev/v1alpha1", "RolloutReport", true);
    until("its report", async || {
        let reports = reports.list(&ListParams::default()).await.unwrap().items;
        let stopped =
            |it: &DynamicObject| it.data["status"]["phase"] == "LossExceeded" && it.data["status"]["lost"] == 1;
        let found = reports.iter().any(stopped);
        if found { Ok(()) } else { Err(json!(reports)) }
    })
    .await;
    drop(held);
    until("its return", async || {
        let pods = play.list().await;
        let back = is_new(&pods[&first]) && says(&pods[&first], "Ready", "True");
        if back { Ok(()) } else { Err(json!(pods)) }
    })
    .await;
    // A whole round after that, in which another pod could have been touched.
    patch(json!({"spec": {"revisionHistoryLimit": 9}})).await;
    let seen = |set: &Value| set["status"]["observedGeneration"] == set["metadata"]["generation"];
    play.until_set(kind, "web", "the round", seen).await;
    assert_eq!(play.metrics.writes("drain"), 1, "{kind}");
    assert_eq!(
        play.list().await.values().filter(|pod| is_new(pod)).count(),
        1,
        "{kind}"
    );

    patch(json!({"metadata": {"annotations": {"afloat.dev/max-loss": "1"}}})).await;
    let goes_on = |set: &Value| complete(set, PODS) && !exceeded(set);
    play.until_set(kind, "web", "the rest", goes_on).await;
    assert!(play.list().await.values().all(is_new), "{kind}");
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_a_cloneset() {
    let rolling = json!({"podUpdatePolicy": "InPlaceIfPossible", "maxUnavailable": 1});
    stop(
        "CloneSet",
        json!({"replicas": PODS, "updateStrategy": {"rollingUpdate": rolling}}),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_a_statefulset() {
    let rolling = json!({"podUpdatePolicy": "InPlaceIfPossible", "maxUnavailable": 1});
    stop(
        "StatefulSet",
        json!({"replicas": PODS, "updateStrategy": {"rollingUpdate": rolling}}),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_a_daemonset() {
    let rolling = json!({"rollingUpdateType": "InPlaceIfPossible", "maxUnavailable": 1});
    stop("DaemonSet", json!({"updateStrategy": {"rollingUpdate": rolling}})).await;
}
