//! An API server in this process, and a play of what a scheduler and kubelets do.

mod rights;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use afloat_apiserver::{ApiServer, Options};
use afloat_manager::lease::LeaderElection;
use afloat_manager::metrics::Metrics;
use afloat_store::Store;
use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Longest wait for anything, on a machine that has much else to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The world of one test.
pub(crate) struct Play {
    pub(crate) client: Client,
    pub(crate) metrics: Metrics,
    stop: CancellationToken,
    denied: rights::Denied,
    /// Held by whoever does not want the kubelets to act now.
    turn: Arc<Mutex<()>>,
    /// Of the conversion webhook.
    webhook: afloat_manager::webhook::Options,
}

impl Drop for Play {
    fn drop(&mut self) {
        self.stop.cancel();
        let denied = self.denied.lock().unwrap();
        assert!(
            denied.is_empty() || std::thread::panicking(),
            "rbac.yaml does not allow {denied:?}"
        );
    }
}

fn webhook() -> afloat_manager::webhook::Options {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    afloat_manager::webhook::Options {
        door: afloat_api::Door::Url(format!("https://{}/convert", socket.local_addr().unwrap())),
        listen: afloat_manager::webhook::Listen::Socket(Arc::new(socket)),
        namespace: "kruise-system".into(),
    }
}

/// An operator that runs; until it is stopped, or its world ends.
pub(crate) struct Operator {
    stop: CancellationToken,
    running: JoinHandle<Result<(), afloat_manager::Error>>,
}

impl Operator {
    /// Stops it, and waits until it does nothing more.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.running.await.unwrap().unwrap();
    }
}

/// How the kubelets behave.
#[derive(Clone, Copy)]
pub(crate) struct Kubelet {
    /// Time between a change of a container and its being ready.
    pub(crate) start: Duration,
}

impl Play {
    /// Starts everything.
    pub(crate) async fn start(kubelet: Kubelet) -> Self {
        let play = Self::without_operator(kubelet).await;
        play.operator();
        play
    }

    /// Starts everything but an operator.
    pub(crate) async fn without_operator(kubelet: Kubelet) -> Self {
        let server = ApiServer::new(Store::memory(), Options::default()).await.unwrap();
        let client = server.client("test");
        let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
        let webhook = webhook();
        let serving = afloat_api::Serving {
            webhook: Some(webhook.door.clone()),
            ..afloat_api::Serving::default()
        };
        for crd in afloat_api::crds(&serving) {
            crds.create(&PostParams::default(), &crd).await.unwrap();
        }
        let play = Self {
            client: client.clone(),
            metrics: Metrics::default(),
            stop: CancellationToken::new(),
            denied: rights::Denied::default(),
            turn: Arc::default(),
            webhook,
        };
        let nodes: Api<DynamicObject> = Api::all_with(
            client.clone(),
            &ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Node")),
        );
        // As the manifest with the rights does.
        let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(client.clone());
        let namespace = serde_json::from_value(json!({"metadata": {"name": "kruise-system"}})).unwrap();
        namespaces.create(&PostParams::default(), &namespace).await.unwrap();
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node"}});
        nodes
            .create(&PostParams::default(), &serde_json::from_value(node).unwrap())
            .await
            .unwrap();
        let images = json!([{"names": ["docker.io/library/same@sha256:same", "docker.io/library/same:1",
            "docker.io/library/same:2"]}]);
        let status = Patch::Merge(json!({"status": {"images": images}}));
        nodes
            .patch_status("node", &PatchParams::default(), &status)
            .await
            .unwrap();
        tokio::spawn(kubelets(client.clone(), kubelet, play.turn.clone(), play.stop.clone()));
        play
    }

    /// Starts an operator.
    pub(crate) fn operator(&self) -> Operator {
        let stop = self.stop.child_token();
        let options = afloat_manager::Options {
            metrics: self.metrics.clone(),
            webhook: Some(self.webhook.clone()),
            ..Default::default()
        };
        let running = tokio::spawn(afloat_manager::run(self.limited(), options, stop.clone()));
        Operator { stop, running }
    }

    /// Starts an operator that waits for the lease; returns what stops it, and what it ends with.
    pub(crate) fn candidate(
        &self,
        identity: &str,
    ) -> (CancellationToken, JoinHandle<Result<(), afloat_manager::Error>>) {
        let stop = self.stop.child_token();
        let mut election = LeaderElection::new(identity);
        // Longer than a machine with much else to do keeps it from renewing; nothing here waits for a lease to run out.
        election.duration = Duration::from_secs(60);
        election.renew_deadline = Duration::from_secs(40);
        election.retry = Duration::from_millis(100);
        let options = afloat_manager::Options {
            metrics: self.metrics.clone(),
            leader_election: Some(election),
            webhook: Some(self.webhook.clone()),
            ..Default::default()
        };
        (
            stop.clone(),
            tokio::spawn(afloat_manager::run(self.limited(), options, stop)),
        )
    }

    /// Keeps the kubelets from acting until the guard is dropped.
    pub(crate) async fn hold_kubelets(&self) -> OwnedMutexGuard<()> {
        self.turn.clone().lock_owned().await
    }

    fn limited(&self) -> Client {
        rights::limited(self.client.clone(), self.denied.clone())
    }

    /// CloneSets in either version.
    pub(crate) fn sets(&self, version: &str) -> Api<DynamicObject> {
        self.workloads(version, "CloneSet")
    }

    /// Workloads of a kind of ours.
    pub(crate) fn workloads(&self, version: &str, kind: &str) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("apps.kruise.io", version, kind);
        Api::namespaced_with(self.client.clone(), "default", &ApiResource::from_gvk(&kind))
    }

    pub(crate) fn pods(&self) -> Api<DynamicObject> {
        pods(&self.client)
    }

    pub(crate) async fn create(&self, object: Value) -> kube::Result<DynamicObject> {
        let version = object["apiVersion"]
            .as_str()
            .unwrap()
            .rsplit('/')
            .next()
            .unwrap()
            .to_owned();
        self.sets(&version)
            .create(&PostParams::default(), &serde_json::from_value(object).unwrap())
            .await
    }

    pub(crate) async fn patch(&self, name: &str, patch: Value) {
        self.sets("v1beta1")
            .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .unwrap();
    }

    /// The operators' figures, as they are scraped.
    pub(crate) fn figures(&self) -> String {
        let mut registry = prometheus_client::registry::Registry::default();
        self.metrics.register(&mut registry);
        let mut figures = String::new();
        prometheus_client::encoding::text::encode(&mut figures, &registry).unwrap();
        figures
    }

    /// Waits until the CloneSet's object passes; panics with the object after [`PATIENCE`].
    pub(crate) async fn until(&self, name: &str, what: &str, pass: impl Fn(&Value) -> bool) -> Value {
        self.until_set("CloneSet", name, what, pass).await
    }

    /// The same for a workload of any kind.
    pub(crate) async fn until_set(&self, kind: &str, name: &str, what: &str, pass: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let wait = async {
            loop {
                last = serde_json::to_value(self.workloads("v1beta1", kind).get(name).await.unwrap()).unwrap();
                if pass(&last) {
                    return;
                }
                sleep(Duration::from_millis(10)).await;
            }
        };
        if timeout(PATIENCE, wait).await.is_err() {
            let pods = serde_json::to_string_pretty(&self.list().await).unwrap();
            panic!("{what} did not come: {last:#}\n{pods}");
        }
        last
    }

    /// Waits until the pods pass, all of them, also those that are about to go.
    pub(crate) async fn until_pods(
        &self,
        what: &str,
        pass: impl Fn(&BTreeMap<String, Value>) -> bool,
    ) -> BTreeMap<String, Value> {
        let end = Instant::now() + PATIENCE;
        loop {
            let pods = self.list().await;
            if pass(&pods) {
                return pods;
            }
            assert!(Instant::now() < end, "{what} did not come: {pods:#?}");
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until a pod passes.
    pub(crate) async fn until_pod(&self, what: &str, pass: impl Fn(&Value) -> bool) -> Value {
        let pods = self.until_pods(what, |pods| pods.values().any(&pass)).await;
        pods.into_values().find(pass).unwrap()
    }

    /// All pods, by name.
    pub(crate) async fn list(&self) -> BTreeMap<String, Value> {
        let list = self.pods().list(&ListParams::default()).await.unwrap();
        list.into_iter()
            .map(|pod| (pod.metadata.name.clone().unwrap(), serde_json::to_value(pod).unwrap()))
            .collect()
    }
}

/// A CloneSet to start from.
pub(crate) fn cloneset(name: &str, replicas: i32, image: &str, rolling: Value) -> Value {
    json!({
        "apiVersion": "apps.kruise.io/v1beta1", "kind": "CloneSet", "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "app", "image": image}, {"name": "log", "image": "log:1"}]},
            },
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling},
        },
    })
}

/// The status speaks of the present spec, and everything wanted is there.
pub(crate) fn settled(set: &Value) -> bool {
    let status = &set["status"];
    status["observedGeneration"] == set["metadata"]["generation"]
        && status["updatedAvailableReplicas"] == set["spec"]["replicas"]
        && status["replicas"] == set["spec"]["replicas"]
        && status["conditions"][0]["reason"] == "CloneSetAvailable"
}

fn pods(client: &Client) -> Api<DynamicObject> {
    Api::namespaced_with(
        client.clone(),
        "default",
        &ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Pod")),
    )
}

/// A container as the play runs it.
struct Running {
    /// The spec's image that it was started from.
    image: String,
    starts: u32,
    ready_at: Instant,
    /// What was reported about it before this play began.
    reported: Option<Value>,
}

impl Running {
    fn new(pod: &Value, name: &str, image: &str, ready_at: Instant) -> Self {
        let statuses = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
        let mut found = statuses.filter(|status| status["name"] == name && status["containerID"].is_string());
        match found.next() {
            Some(status) => Self {
                image: if runs_spec(pod, status, image) { image } else { "" }.to_owned(),
                starts: u32::try_from(status["restartCount"].as_u64().unwrap()).unwrap(),
                ready_at: Instant::now(),
                reported: Some(status.clone()),
            },
            None => Self {
                image: image.to_owned(),
                starts: 0,
                ready_at,
                reported: None,
            },
        }
    }
}

/// Whether a container that somebody else started was started from the present spec: its hash says so, where it is
/// known, or its image.
fn runs_spec(pod: &Value, status: &Value, image: &str) -> bool {
    let report = pod["metadata"]["annotations"]["apps.kruise.io/runtime-containers-meta"].as_str();
    let report: Value = report.map_or(Value::Null, |text| serde_json::from_str(text).unwrap());
    let mut entries = report["containers"].as_array().into_iter().flatten();
    match entries.find(|entry| entry["containerID"] == status["containerID"]) {
        Some(entry) => entry["hashes"]["plainHash"] == json!(container_hash(status["name"].as_str().unwrap(), image)),
        None => status["image"] == format!("docker.io/library/{image}"),
    }
}

/// The kubelet's hash of a container.
pub(crate) fn container_hash(name: &str, image: &str) -> u32 {
    go_hash(&format!(r#"{{"image":"{image}","name":"{name}"}}"#))
}

/// FNV-1a over Go's print of a text's bytes.
pub(crate) fn go_hash(text: &str) -> u32 {
    let bytes: Vec<_> = text.bytes().map(|byte| byte.to_string()).collect();
    let text = format!("([]uint8)[{}]", bytes.join(" "));
    text.bytes().fold(0x811c_9dc5, |hash: u32, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

async fn kubelets(client: Client, kubelet: Kubelet, turn: Arc<Mutex<()>>, stop: CancellationToken) {
    let api = pods(&client);
    let mut running: BTreeMap<(String, String), Running> = BTreeMap::new();
    while !stop.is_cancelled() {
        sleep(Duration::from_millis(5)).await;
        let _turn = turn.lock().await;
        let Ok(list) = api.list(&ListParams::default()).await else {
            continue;
        };
        let mut alive = BTreeSet::new();
        for pod in list {
            let pod = serde_json::to_value(pod).unwrap();
            let uid = pod["metadata"]["uid"].as_str().unwrap().to_owned();
            alive.insert(uid.clone());
            let name = pod["metadata"]["name"].as_str().unwrap();
            if pod["metadata"]["deletionTimestamp"].is_string() {
                let parameters = kube::api::DeleteParams {
                    grace_period_seconds: Some(0),
                    ..Default::default()
                };
                let _ = api.delete(name, &parameters).await;
                continue;
            }
            if !pod["spec"]["nodeName"].is_string() {
                let affinity = pod.pointer("/spec/affinity/nodeAffinity").cloned().unwrap_or_default();
                let affinity = serde_json::from_value(affinity).unwrap_or_default();
                let node = afloat_words::daemon::pinned_to(&affinity).unwrap_or("node");
                let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
                    "target": {"apiVersion": "v1", "kind": "Node", "name": node}});
                let _ = api
                    .create_subresource::<Value, Value>("binding", name, &PostParams::default(), &binding)
                    .await;
                continue;
            }
            let status = status(&pod, &uid, kubelet, &mut running);
            if status["conditions"] != ready_of(&pod)
                || status["containerStatuses"] != pod["status"]["containerStatuses"]
            {
                let patch = json!({"metadata": {"uid": uid}, "status": status});
                let _ = api
                    .patch_status(name, &PatchParams::default(), &Patch::Strategic(&patch))
                    .await;
            }
        }
        running.retain(|(uid, _), _| alive.contains(uid));
    }
}

/// The pod's Ready condition as a list of one.
fn ready_of(pod: &Value) -> Value {
    let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let mut ready: Vec<Value> = conditions.into_iter().filter(|c| c["type"] == "Ready").collect();
    for condition in &mut ready {
        let map = condition.as_object_mut().unwrap();
        map.retain(|key, _| ["type", "status", "lastTransitionTime"].contains(&key.as_str()));
    }
    Value::Array(ready)
}

fn status(pod: &Value, uid: &str, kubelet: Kubelet, running: &mut BTreeMap<(String, String), Running>) -> Value {
    let now = Instant::now();
    let mut all_ready = true;
    let mut statuses = Vec::new();
    for container in pod["spec"]["containers"].as_array().unwrap() {
        let (name, image) = (
            container["name"].as_str().unwrap(),
            container["image"].as_str().unwrap(),
        );
        let entry = running
            .entry((uid.to_owned(), name.to_owned()))
            .or_insert_with(|| Running::new(pod, name, image, now + kubelet.start));
        if entry.image != image {
            *entry = Running {
                image: image.to_owned(),
                starts: entry.starts + 1,
                ready_at: now + kubelet.start,
                reported: None,
            };
        }
        if let Some(mut reported) = entry.reported.clone() {
            if reported["resources"].is_object() {
                reported["resources"] = container["resources"].clone();
            }
            all_ready &= reported["ready"] == true;
            statuses.push(reported);
            continue;
        }
        let ready = now >= entry.ready_at;
        all_ready &= ready;
        // "same:" images all have one digest.
        // A runtime may stick to the first name of an image.
        let reported = if image.starts_with("same:") { "same:1" } else { image };
        let digest = if image.starts_with("same:") { "same" } else { image };
        statuses.push(json!({
            "name": name, "image": format!("docker.io/library/{reported}"), "imageID": format!("sha256:{digest}"),
            "containerID": format!("play://{uid}/{name}/{}", entry.starts), "restartCount": entry.starts, "ready": ready,
            "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
        }));
    }
    let condition = |kind: &str| {
        let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.into_iter().find(|condition| condition["type"] == kind)
    };
    let gates = pod["spec"]["readinessGates"].as_array().cloned().unwrap_or_default();
    let open = gates.iter().all(|gate| {
        condition(gate["conditionType"].as_str().unwrap()).is_some_and(|condition| condition["status"] == "True")
    });
    let word = if open && all_ready { "True" } else { "False" };
    let old = condition("Ready")
        .filter(|old| old["status"] == word)
        .map(|old| old["lastTransitionTime"].clone());
    let since = old.unwrap_or_else(|| json!(Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()));
    json!({
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": word, "lastTransitionTime": since}],
        "containerStatuses": statuses,
    })
}
