//! Simulated nodes on the embedded API server: what a controller sees of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test's own words fail the test

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use afloat_apiserver::ApiServer;
use afloat_sim::{Fleet, Options, Statuses};
use afloat_store::Store;
use futures::StreamExt as _;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use kube::runtime::watcher;
use kube::{Client, Error};
use serde_json::{Value, json};

mod resources;

/// A wait that fails the test when it ends.
const LIMIT: Duration = Duration::from_secs(120);

struct World {
    server: ApiServer,
    client: Client,
    fleet: Fleet,
}

impl World {
    async fn start(options: Options) -> Self {
        let server = ApiServer::new(Store::memory(), afloat_apiserver::Options::default())
            .await
            .unwrap();
        let client = server.client("test");
        let fleet = Fleet::start(server.client("fleet"), options).await.unwrap();
        Self { server, client, fleet }
    }

    fn api(&self, kind: &str) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", kind));
        match kind {
            "Node" => Api::all_with(self.client.clone(), &resource),
            _ => Api::namespaced_with(self.client.clone(), "default", &resource),
        }
    }

    async fn create(&self, name: &str, containers: Value, gates: &[&str]) {
        let gates: Vec<Value> = gates.iter().map(|gate| json!({"conditionType": gate})).collect();
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "web"}},
            "spec": {"containers": containers, "readinessGates": gates}});
        let pod = serde_json::from_value(pod).unwrap();
        self.api("Pod").create(&PostParams::default(), &pod).await.unwrap();
    }

    async fn patch(&self, name: &str, patch: Value) {
        let patch = Patch::Strategic(patch);
        self.api("Pod")
            .patch(name, &PatchParams::default(), &patch)
            .await
            .unwrap();
    }

    async fn set_image(&self, name: &str, image: &str) {
        self.patch(name, json!({"spec": {"containers": [{"name": "app", "image": image}]}}))
            .await;
    }

    async fn set_condition(&self, name: &str, kind: &str, status: &str) {
        let patch = Patch::Strategic(json!({"status": {"conditions": [{"type": kind, "status": status}]}}));
        self.api("Pod")
            .patch_status(name, &PatchParams::default(), &patch)
            .await
            .unwrap();
    }

    /// Waits until the object passes.
    async fn until(&self, kind: &str, name: &str, what: &str, pass: impl Fn(&Value) -> bool) -> Value {
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let mut events = std::pin::pin!(watcher(self.api(kind), config));
        let mut last = Value::Null;
        let wait = async {
            while let Some(event) = events.next().await {
                if let Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) = event {
                    last = serde_json::to_value(object).unwrap();
                    if pass(&last) {
                        return;
                    }
                }
            }
        };
        if tokio::time::timeout(LIMIT, wait).await.is_err() {
            panic!("{what} did not come: {last:#}");
        }
        last
    }

    async fn pod(&self, name: &str, what: &str, pass: impl Fn(&Value) -> bool) -> Value {
        self.until("Pod", name, what, pass).await
    }

    fn fleet_writes(&self) -> u64 {
        self.writes(|_| true)
    }

    /// Those to pods. From the beginning: a write is counted after it can be seen, so a difference may be one too many.
    fn pod_writes(&self) -> u64 {
        self.writes(|resource| resource == "pods")
    }

    fn writes(&self, of: impl Fn(&str) -> bool) -> u64 {
        self.server
            .writes()
            .iter()
            .filter(|count| count.user == "fleet" && of(&count.resource))
            .map(|count| count.count)
            .sum()
    }
}

fn options() -> Options {
    Options {
        start: Duration::from_millis(20),
        ..Options::default()
    }
}

fn two() -> Value {
    json!([{"name": "app", "image": "app:1"}, {"name": "log", "image": "log:1"}])
}

fn condition(pod: &Value, kind: &str) -> Value {
    let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions
        .into_iter()
        .find(|condition| condition["type"] == kind)
        .unwrap_or_default()
}

fn is(pod: &Value, kind: &str, status: &str) -> bool {
    condition(pod, kind)["status"] == status
}

fn ready(pod: &Value) -> bool {
    is(pod, "Ready", "True")
}

fn container<'a>(pod: &'a Value, name: &str) -> &'a Value {
    let statuses = pod["status"]["containerStatuses"].as_array();
    statuses
        .and_then(|all| all.iter().find(|status| status["name"] == name))
        .unwrap_or(&Value::Null)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_gets_a_node_an_address_and_becomes_ready() {
    let world = World::start(options()).await;
    world.create("web", two(), &[]).await;
    let pod = world.pod("web", "Ready", ready).await;
    let status = &pod["status"];
    assert_eq!(pod["spec"]["nodeName"], "sim-1");
    assert_eq!(status["phase"], "Running");
    assert_eq!(status["podIP"], "10.64.0.1");
    assert_eq!(status["podIPs"], json!([{"ip": "10.64.0.1"}]));
    assert!(status["startTime"].is_string());
    for kind in ["PodScheduled", "Initialized", "ContainersReady", "Ready"] {
        assert!(is(&pod, kind, "True"), "{kind}");
        assert!(condition(&pod, kind)["reason"].is_null(), "{kind} has no reason left");
        assert!(condition(&pod, kind)["lastTransitionTime"].is_string(), "{kind}");
    }
    let app = container(&pod, "app");
    let digest = world.fleet.images().digest("app:1");
    assert_eq!(app["image"], "docker.io/library/app:1");
    assert_eq!(app["imageID"], format!("docker.io/library/app@{digest}"));
    assert_eq!(
        (&app["ready"], &app["started"], &app["restartCount"]),
        (&json!(true), &json!(true), &json!(0))
    );
    assert!(app["state"]["running"]["startedAt"].is_string());
    assert_ne!(app["containerID"], container(&pod, "log")["containerID"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_changed_container_is_started_anew() {
    let world = World::start(options()).await;
    world.create("web", two(), &[]).await;
    let before = world.pod("web", "Ready", ready).await;
    world.set_image("web", "app:2").await;
    let down = world.pod("web", "the stop", |pod| !ready(pod)).await;
    assert_eq!(container(&down, "app")["ready"], false);
    assert_eq!(container(&down, "app")["state"]["terminated"]["exitCode"], 0);
    assert_eq!(container(&down, "log"), container(&before, "log"));
    assert_eq!(condition(&down, "Ready")["reason"], "ContainersNotReady");
    let after = world.pod("web", "the new container", ready).await;
    let (old, new) = (container(&before, "app"), container(&after, "app"));
    assert_eq!(new["restartCount"], 1);
    assert_eq!(new["image"], "docker.io/library/app:2");
    assert_ne!(new["imageID"], old["imageID"]);
    assert_ne!(new["containerID"], old["containerID"]);
    assert_eq!(new["lastState"]["terminated"]["containerID"], old["containerID"]);
    assert_eq!(
        container(&after, "log"),
        container(&before, "log"),
        "the other one never notices"
    );
    assert_eq!(after["status"]["podIP"], before["status"]["podIP"]);
    // Bound, created, running; stopped, running.
    assert!(world.pod_writes() <= 3 + 2, "{}", world.pod_writes());
    // Itself, its status, its lease, two images; then one more image.
    assert!(world.fleet_writes() <= 5 + 5 + 1, "{}", world.fleet_writes());
}

#[tokio::test(flavor = "multi_thread")]
async fn ready_waits_for_every_gate_and_leaves_the_gates_alone() {
    let world = World::start(options()).await;
    world.create("web", two(), &["a.example/one", "a.example/two"]).await;
    let pod = world
        .pod("web", "its containers", |pod| is(pod, "ContainersReady", "True"))
        .await;
    assert!(is(&pod, "Ready", "False"));
    assert_eq!(condition(&pod, "Ready")["reason"], "ReadinessGatesNotReady");
    world.set_condition("web", "a.example/one", "True").await;
    world.set_condition("web", "a.example/two", "True").await;
    let pod = world.pod("web", "Ready", ready).await;
    let since = condition(&pod, "ContainersReady")["lastTransitionTime"].clone();
    world.set_condition("web", "a.example/two", "False").await;
    let pod = world.pod("web", "not Ready", |pod| is(pod, "Ready", "False")).await;
    assert!(is(&pod, "a.example/one", "True") && is(&pod, "a.example/two", "False"));
    assert_eq!(
        condition(&pod, "ContainersReady")["lastTransitionTime"],
        since,
        "it did not turn"
    );
}

/// A controller that closes a gate may turn Ready False with it: then the kubelet has nothing to add.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_already_true_is_not_written() {
    let world = World::start(options()).await;
    world.create("web", two(), &["a.example/gate"]).await;
    world.set_condition("web", "a.example/gate", "True").await;
    world.pod("web", "Ready", ready).await;
    world.create("other", two(), &[]).await;
    world.pod("other", "Ready", ready).await;
    let closed = json!([{"type": "a.example/gate", "status": "False"}, {"type": "Ready", "status": "False"}]);
    let patch = Patch::Strategic(json!({"status": {"conditions": closed}}));
    world
        .api("Pod")
        .patch_status("web", &PatchParams::default(), &patch)
        .await
        .unwrap();
    // What comes after in the same watch has been seen later.
    world.set_image("other", "app:2").await;
    world
        .pod("other", "the update", |pod| container(pod, "app")["restartCount"] == 1)
        .await;
    // Bound, created, running, Ready by its gate; of the other bound, created, running, stopped, running.
    assert!(world.pod_writes() <= 4 + 5, "{}", world.pod_writes());
    assert!(world.fleet_writes() <= 9 + 5 + 1, "{}", world.fleet_writes());
}

/// kruise #635: the runtime goes on to report the first tag of the digest; the node lists both.
#[tokio::test(flavor = "multi_thread")]
async fn two_tags_of_one_digest() {
    let world = World::start(options()).await;
    world.fleet.images().alias("app:one", "app:1");
    world.create("web", two(), &[]).await;
    let before = world.pod("web", "Ready", ready).await;
    world.set_image("web", "app:one").await;
    let restarted = |pod: &Value| ready(pod) && container(pod, "app")["restartCount"] == 1;
    let after = world.pod("web", "the restart", restarted).await;
    let (old, new) = (container(&before, "app"), container(&after, "app"));
    assert_eq!(new["image"], "docker.io/library/app:1");
    assert_eq!(new["imageID"], old["imageID"]);
    assert_ne!(new["containerID"], old["containerID"]);
    let digest = world.fleet.images().digest("app:one");
    let names = json!([
        format!("docker.io/library/app@{digest}"),
        "docker.io/library/app:1",
        "docker.io/library/app:one"
    ]);
    let lists = |node: &Value| {
        node["status"]["images"]
            .as_array()
            .is_some_and(|all| all.iter().any(|i| i["names"] == names))
    };
    world.until("Node", "sim-1", "its list of images", lists).await;
    world.set_image("web", &format!("app@{digest}")).await;
    let after = world
        .pod("web", "by digest", |pod| {
            ready(pod) && container(pod, "app")["restartCount"] == 2
        })
        .await;
    assert_eq!(container(&after, "app")["imageID"], old["imageID"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_cannot_be_pulled_fixed_and_replaced() {
    let world = World::start(options()).await;
    for bad in ["app:bad", "app:worse"] {
        world.fleet.images().missing(bad);
    }
    world.create("web", two(), &[]).await;
    world.pod("web", "Ready", ready).await;
    let stuck = |pod: &Value| container(pod, "app")["state"]["waiting"]["reason"] == "ImagePullBackOff";
    world.set_image("web", "app:bad").await;
    let pod = world.pod("web", "the back-off", stuck).await;
    assert_eq!(container(&pod, "app")["restartCount"], 0, "nothing was started");
    assert!(!ready(&pod));
    assert_eq!(pod["status"]["phase"], "Running");
    world.fleet.images().provide("app:bad");
    world
        .pod("web", "the image", |pod| {
            ready(pod) && container(pod, "app")["restartCount"] == 1
        })
        .await;
    world.set_image("web", "app:worse").await;
    world.pod("web", "the back-off", stuck).await;
    world.set_image("web", "app:1").await;
    let pod = world.pod("web", "the way back", ready).await;
    assert_eq!(container(&pod, "app")["image"], "docker.io/library/app:1");
    assert_eq!(container(&pod, "app")["restartCount"], 2);

    world
        .create("new", json!([{"name": "app", "image": "app:worse"}]), &[])
        .await;
    let pod = world.pod("new", "the back-off", stuck).await;
    assert_eq!(pod["status"]["phase"], "Pending");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_the_kubelet_sees_the_new_image_restarts_the_old_one() {
    let world = World::start(options()).await;
    world.create("web", two(), &[]).await;
    let before = world.pod("web", "Ready", ready).await;
    world.fleet.pause("sim-1").await.unwrap();
    world.set_image("web", "app:2").await;
    world.fleet.crash("default", "web", "app").await.unwrap();
    let crashed = |pod: &Value| ready(pod) && container(pod, "app")["restartCount"] == 1;
    let pod = world.pod("web", "the restart", crashed).await;
    let (old, new) = (container(&before, "app"), container(&pod, "app"));
    assert_eq!((&new["image"], &new["imageID"]), (&old["image"], &old["imageID"]));
    assert_ne!(new["containerID"], old["containerID"]);
    assert_eq!(new["lastState"]["terminated"]["exitCode"], 1);
    assert_eq!(pod["spec"]["containers"][0]["image"], "app:2");
    world.fleet.resume("sim-1").await.unwrap();
    let updated = |pod: &Value| ready(pod) && container(pod, "app")["restartCount"] == 2;
    let pod = world.pod("web", "the update", updated).await;
    assert_eq!(container(&pod, "app")["image"], "docker.io/library/app:2");
    assert!(world.fleet.crash("default", "web", "none").await.is_err());
    assert!(world.fleet.pause("sim-9").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_pod_ends_and_its_name_can_be_used_again() {
    let world = World::start(Options {
        stop: Duration::from_millis(20),
        ..options()
    })
    .await;
    world.create("web", two(), &[]).await;
    let first = world.pod("web", "Ready", ready).await;
    world.api("Pod").delete("web", &DeleteParams::default()).await.unwrap();
    let gone = async {
        loop {
            match world.api("Pod").get("web").await {
                Err(Error::Api(status)) if status.code == 404 => return,
                _ => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(LIMIT, gone).await.expect("the pod goes");
    world.create("web", two(), &[]).await;
    let second = world.pod("web", "Ready", ready).await;
    assert_ne!(first["metadata"]["uid"], second["metadata"]["uid"]);
    assert_eq!(container(&second, "app")["restartCount"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn environment_from_metadata_is_read_when_a_container_starts() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let world = World::start(Options {
        on_start: Some(Arc::new(move |start: &afloat_sim::Started<'_>| {
            let label = start.labels.get("app").cloned();
            log.lock()
                .unwrap()
                .push((start.container.to_owned(), start.restarts, label));
        })),
        ..options()
    })
    .await;
    world
        .create("web", json!([{"name": "app", "image": "app:1"}]), &[])
        .await;
    world.pod("web", "Ready", ready).await;
    let change =
        json!({"metadata": {"labels": {"app": "other"}}, "spec": {"containers": [{"name": "app", "image": "app:2"}]}});
    world.patch("web", change).await;
    world
        .pod("web", "the update", |pod| {
            ready(pod) && container(pod, "app")["restartCount"] == 1
        })
        .await;
    let expected = [(0, "web"), (1, "other")].map(|(n, label)| ("app".to_owned(), n, Some(label.to_owned())));
    assert_eq!(*seen.lock().unwrap(), expected);
}

/// A fleet that starts anew finds its pods running: nothing is restarted.
#[tokio::test(flavor = "multi_thread")]
async fn another_fleet_goes_on_with_what_runs() {
    let world = World::start(options()).await;
    world.create("web", two(), &[]).await;
    let before = world.pod("web", "Ready", ready).await;
    let World { server, client, fleet } = world;
    drop(fleet);
    let fleet = Fleet::start(server.client("fleet"), options()).await.unwrap();
    let world = World { server, client, fleet };
    world.set_image("web", "app:2").await;
    let after = world
        .pod("web", "the update", |pod| {
            ready(pod) && container(pod, "app")["restartCount"] == 1
        })
        .await;
    assert_eq!(container(&after, "log"), container(&before, "log"));
    assert_eq!(after["status"]["podIP"], before["status"]["podIP"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_pods_spread_over_nodes_and_cost_few_writes() {
    let world = World::start(Options { nodes: 4, ..options() }).await;
    let pods = 200;
    for number in 0..pods {
        world.create(&format!("web-{number}"), two(), &[]).await;
    }
    let mut on_node: BTreeMap<String, u32> = BTreeMap::new();
    for number in 0..pods {
        let pod = world.pod(&format!("web-{number}"), "Ready", ready).await;
        *on_node
            .entry(pod["spec"]["nodeName"].as_str().unwrap().to_owned())
            .or_default() += 1;
    }
    assert_eq!(on_node.len(), 4);
    assert!(on_node.values().all(|count| *count == pods / 4), "{on_node:?}");
    // Per pod: bound, created, running. Per node: itself, its status, its lease, two images.
    let writes = world.fleet_writes();
    assert!(writes <= u64::from(pods) * 3 + 4 * 6, "{writes} writes");
    world.fleet.stop().await;
    let nodes = Api::<k8s_openapi::api::core::v1::Node>::all(world.client.clone());
    assert!(nodes.list(&Default::default()).await.unwrap().items.is_empty());
}

/// What a pod's watch shows of it, one after the other: which of its conditions are True, and the state of its first container.
async fn steps(world: &World, name: &str, last: impl Fn(&Value) -> bool) -> Vec<String> {
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut events = std::pin::pin!(watcher(world.api("Pod"), config));
    let mut seen: Vec<String> = Vec::new();
    let collect = async {
        while let Some(event) = events.next().await {
            let Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object) | watcher::Event::Delete(object)) =
                event
            else {
                continue;
            };
            let pod = serde_json::to_value(object).unwrap();
            let true_ones =
                ["PodReadyToStartContainers", "ContainersReady", "Ready"].map(|kind| is(&pod, kind, "True"));
            let state = container(&pod, "app")["state"]
                .as_object()
                .and_then(|state| state.keys().next().cloned());
            let text = match state {
                Some(state) => format!("{state} {true_ones:?}")
                    .replace("true", "+")
                    .replace("false", "-"),
                None => continue,
            };
            if seen.last() != Some(&text) {
                seen.push(text);
            }
            if last(&pod) {
                return;
            }
        }
    };
    tokio::time::timeout(LIMIT, collect).await.expect("the last step comes");
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_for_each_step() {
    let world = World::start(Options {
        statuses: Statuses::EachStep,
        ..options()
    })
    .await;
    let probe = json!({"httpGet": {"path": "/", "port": 80}});
    let app = json!({"name": "app", "image": "app:1", "readinessProbe": probe,
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}]});
    // The watch begins before the pod is there.
    let watching = steps(&world, "web", ready);
    let (created, ()) = tokio::join!(watching, async {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"},
            "spec": {"containers": [app], "volumes": [{"name": "tmp", "emptyDir": {}}]}});
        let pod = serde_json::from_value(pod).unwrap();
        world.api("Pod").create(&PostParams::default(), &pod).await.unwrap();
    });
    assert_eq!(
        created,
        [
            "waiting [-, -, -]",
            "waiting [+, -, -]",
            "running [+, -, -]",
            "running [+, +, +]"
        ]
    );
    // Bound, created, sandbox, running, ready.
    assert!(world.pod_writes() <= 5, "{}", world.pod_writes());
    let pod = world.pod("web", "Ready", ready).await;
    assert_eq!(container(&pod, "app")["volumeMounts"][0]["mountPath"], "/tmp");

    let updated = |pod: &Value| ready(pod) && container(pod, "app")["restartCount"] == 1;
    let (changed, ()) = tokio::join!(steps(&world, "web", updated), world.set_image("web", "app:2"));
    assert_eq!(
        changed,
        [
            "running [+, +, +]",
            "terminated [+, -, -]",
            "running [+, -, -]",
            "running [+, +, +]"
        ]
    );
    assert!(world.pod_writes() <= 5 + 3, "{}", world.pod_writes());

    let ended = |pod: &Value| pod["status"]["phase"] == "Succeeded";
    let (gone, ()) = tokio::join!(steps(&world, "web", ended), async {
        let delete = DeleteParams::default();
        world.api("Pod").delete("web", &delete).await.unwrap();
    });
    assert_eq!(gone, ["running [+, +, +]", "terminated [-, -, -]"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_sleeps_holds_back_what_comes_after_it() {
    let world = World::start(options()).await;
    let hook = json!({"postStart": {"exec": {"command": ["sleep", "1"]}}});
    let first = json!({"name": "app", "image": "app:1", "lifecycle": hook});
    world
        .create("web", json!([first, {"name": "log", "image": "log:1"}]), &[])
        .await;
    let pod = world.pod("web", "Ready", ready).await;
    let started = |name: &str| -> jiff::Timestamp {
        let text = &container(&pod, name)["state"]["running"]["startedAt"];
        text.as_str().unwrap().parse().unwrap()
    };
    assert!(started("app") < started("log"), "{pod:#}");
}
