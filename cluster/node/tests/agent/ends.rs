//! How the end of a pod is told: before the object goes, with what its containers left to be read; and pods that never begin.

use afloat_node::fake::Behaviour;
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Node, Pod};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, WatchEvent, WatchParams};
use serde_json::json;

use crate::world::{World, condition, entry, phase, ready};

impl World {
    /// The object in the event that says that the pod is gone, which it is made to be.
    async fn last_seen(&self, name: &str) -> Pod {
        let before = self.pods.get(name).await.unwrap().metadata.resource_version.unwrap();
        self.pods.delete(name, &DeleteParams::default()).await.unwrap();
        let params = WatchParams::default().fields(&format!("metadata.name={name}"));
        let mut events = self.pods.watch(&params, &before).await.unwrap().boxed();
        while let Some(event) = events.try_next().await.unwrap() {
            if let WatchEvent::Deleted(pod) = event {
                return pod;
            }
        }
        panic!("the watch ended before {name} did");
    }
}

fn terminated<'a>(pod: &'a Pod, name: &str) -> &'a ContainerStateTerminated {
    let state = entry(pod, name).state.as_ref().unwrap();
    state.terminated.as_ref().unwrap_or_else(|| panic!("{name}: {state:?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_event_of_a_deleted_pod_says_how_it_ended() {
    let world = World::new().await;
    let deaf = Behaviour {
        stop_takes: None,
        ..Behaviour::default()
    };
    world.runtime.add_image("deaf:v1", "sha256:4444", deaf);
    let one =
        |image: &str| json!({"containers": [{"name": "web", "image": image}], "terminationGracePeriodSeconds": 1});
    for (name, image) in [("good", "web:v1"), ("bad", "deaf:v1"), ("never", "missing:v1")] {
        world.create(name, one(image)).await;
    }
    world.until("good", "ready", ready).await;
    world.until("bad", "ready", ready).await;
    world
        .until("never", "waiting", |pod| !crate::world::waiting(pod, "web").is_empty())
        .await;
    for (name, expected, code, reason) in [
        ("good", "Succeeded", 0, "Completed"),
        ("bad", "Failed", 137, "Error"),
        ("never", "Failed", 137, "ContainerStatusUnknown"),
    ] {
        let pod = world.last_seen(name).await;
        assert_eq!(phase(&pod), expected, "{name}");
        let end = terminated(&pod, "web");
        assert_eq!((end.exit_code, end.reason.as_deref()), (code, Some(reason)), "{name}");
        assert_eq!(end.finished_at.is_some(), name != "never", "{name}");
        assert_eq!(condition(&pod, "Ready"), "False", "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_container_left_to_be_read_is_told_with_its_end() {
    let world = World::new().await;
    let policy = "FallbackToLogsOnError";
    let spec = json!({"restartPolicy": "Never", "containers": [
        {"name": "says", "image": "web:v1"},
        {"name": "logs", "image": "log:v1", "terminationMessagePolicy": policy},
        {"name": "fine", "image": "web:v2", "terminationMessagePolicy": policy}]});
    world.create("p", spec).await;
    let pod = world.until("p", "ready", ready).await;
    let uid = pod.metadata.uid.unwrap();
    let own = world.dir.path().join("pods").join(&uid).join("containers");
    std::fs::write(own.join("says/0"), "x".repeat(5000) + "the end").unwrap();
    let log = |name: &str| {
        let path = world
            .dir
            .path()
            .join("logs")
            .join(format!("default_p_{uid}"))
            .join(name);
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("0.log"), "2026-01-01T00:00:00Z stderr F out of tea\n").unwrap();
    };
    log("logs");
    log("fine");
    for (name, code) in [("says", 0), ("logs", 1), ("fine", 0)] {
        assert!(world.runtime.end(&uid, name, code));
    }
    let pod = world.until("p", "over", |pod| phase(pod) == "Failed").await;
    let message = |name: &str| terminated(&pod, name).message.clone().unwrap_or_default();
    let said = message("says");
    assert!(said.len() == 4096 && said.ends_with("the end"), "{said}");
    assert_eq!(
        (message("logs"), message("fine")),
        ("out of tea\n".to_owned(), String::new())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_does_not_fit_is_rejected_and_takes_nothing() {
    let world = World::new().await;
    let wants = |cpu: &str| json!([{"name": "web", "image": "web:v1", "resources": {"requests": {"cpu": cpu}}}]);
    world.create("large", json!({"containers": wants("3")})).await;
    world.until("large", "ready", ready).await;
    world.create("larger", json!({"containers": wants("1500m")})).await;
    let pod = world.until("larger", "rejected", |pod| phase(pod) == "Failed").await;
    let status = pod.status.unwrap();
    let message = "Node didn't have enough resource: cpu, requested: 1500, used: 3000, capacity: 4000";
    assert_eq!(status.reason.as_deref(), Some("OutOfcpu"));
    assert_eq!(status.message, Some(format!("Pod was rejected: {message}")));
    assert_eq!((status.container_statuses, status.pod_ip), (None, None));
    assert_eq!(world.events("OutOfcpu").await, [message]);

    let port = json!([{"name": "web", "image": "web:v1", "ports": [{"containerPort": 18_765, "hostPort": 18_765}]}]);
    world
        .create("port", json!({"containers": port, "hostNetwork": true}))
        .await;
    world.until("port", "ready", ready).await;
    world.create("other-port", json!({"containers": port})).await;
    let rejected =
        |reason: &'static str| move |pod: &Pod| pod.status.as_ref().and_then(|s| s.reason.as_deref()) == Some(reason);
    world.until("other-port", "rejected", rejected("NodePorts")).await;

    // The labels that the node has now count.
    let ssd = json!({"containers": wants("1"), "nodeSelector": {"disk": "ssd"}});
    world.create("elsewhere", ssd.clone()).await;
    world.until("elsewhere", "rejected", rejected("NodeAffinity")).await;
    let nodes: Api<Node> = Api::all(world.server.client("test"));
    let labels = json!({"metadata": {"labels": {"disk": "ssd"}}});
    nodes
        .patch("node-1", &PatchParams::default(), &Patch::Merge(labels))
        .await
        .unwrap();
    world.create("here", ssd).await;
    world.until("here", "ready", ready).await;

    // Who leaves makes room, and who was rejected took none.
    world.pods.delete("large", &DeleteParams::default()).await.unwrap();
    world.until_gone("large").await;
    world.create("next", json!({"containers": wants("3")})).await;
    world.until("next", "ready", ready).await;
}
