//! Resources that change while the pod lives (KEP-1287).

use std::time::Instant;

use afloat_node::fake::Behaviour;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition};
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::world::{SETTLE, World, at_most, entry, ready};

fn spec(image: &str, policy: Option<&str>, cpu: &str, memory: &str) -> Value {
    let policies: Vec<Value> = policy
        .iter()
        .map(|restart| json!({"resourceName": "memory", "restartPolicy": restart}))
        .collect();
    json!({"containers": [
        {"name": "web", "image": image, "resizePolicy": policies,
         "resources": {"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": "2", "memory": "1Gi"}}},
        {"name": "log", "image": "log:v1"},
    ]})
}

async fn resize(world: &World, name: &str, resources: Value) {
    let patch = json!({"spec": {"containers": [{"name": "web", "resources": resources}]}});
    let params = PatchParams::default();
    let patch = Patch::Strategic(&patch);
    world
        .pods
        .patch_subresource("resize", name, &params, &patch)
        .await
        .unwrap();
}

fn web(pod: &Pod) -> &ContainerStatus {
    entry(pod, "web")
}

/// A figure of what the container runs with.
fn actual(pod: &Pod, path: &str) -> Value {
    let resources = serde_json::to_value(&web(pod).resources).unwrap();
    resources.pointer(path).cloned().unwrap_or_default()
}

fn find<'a>(pod: &'a Pod, type_: &str) -> Option<&'a PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|c| c.type_ == type_)
}

fn is(pod: &Pod, type_: &str, reason: &str) -> bool {
    find(pod, type_).is_some_and(|c| c.status == "True" && c.reason.as_deref() == Some(reason))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resources_change_without_a_restart() {
    let mut world = World::new().await;
    world.create("p", spec("web:v1", None, "1", "64Mi")).await;
    let before = world.until("p", "ready", ready).await;
    assert_eq!(actual(&before, "/requests/cpu"), "1");
    assert_eq!(entry(&before, "log").resources, Some(Default::default()));
    let begin = Instant::now();
    resize(
        &world,
        "p",
        json!({"requests": {"cpu": "500m"}, "limits": {"memory": "2Gi"}}),
    )
    .await;
    let resized = world
        .until("p", "resized", |pod| actual(pod, "/limits/memory") == "2Gi")
        .await;
    assert_eq!(actual(&resized, "/requests/cpu"), "500m");
    assert_eq!(web(&resized).allocated_resources.as_ref().unwrap()["cpu"].0, "500m");
    let same = |pod: &Pod| {
        let web = web(pod);
        (web.container_id.clone(), web.restart_count, web.started, web.ready)
    };
    assert_eq!(same(&resized), same(&before));
    assert_eq!(resized.status.as_ref().unwrap().observed_generation, Some(2));
    assert!(find(&resized, "PodResizeInProgress").is_none());
    // One of the writes is the wish.
    let told = world.written_between(&before, &resized).await - 1;
    let most = at_most(begin.elapsed(), SETTLE);
    assert!((1..=most).contains(&told), "{told} writes, {most} at most");
    let update = format!("update {} 512 200000", 2u64 << 30);
    assert_eq!(world.story("web"), ["create", "start", update.as_str()]);
    assert_eq!(world.story("log"), ["create", "start"]);

    // A new agent knows what was granted and does nothing.
    world.stop_agent().await;
    resize(&world, "p", json!({"requests": {"cpu": "600m"}})).await;
    world.start_agent();
    let resized = world
        .until("p", "resized", |pod| actual(pod, "/requests/cpu") == "600m")
        .await;
    assert_eq!(same(&resized), same(&before));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_that_wants_a_restart_is_restarted_once() {
    let world = World::new().await;
    world
        .create("p", spec("web:v1", Some("RestartContainer"), "1", "64Mi"))
        .await;
    let before = world.until("p", "ready", ready).await;
    // CPU alone needs none.
    resize(&world, "p", json!({"requests": {"cpu": "500m"}})).await;
    world
        .until("p", "resized", |pod| actual(pod, "/requests/cpu") == "500m")
        .await;
    resize(&world, "p", json!({"requests": {"memory": "128Mi"}})).await;
    let after = world
        .until("p", "restarted", |pod| ready(pod) && web(pod).restart_count > 0)
        .await;
    assert_eq!(actual(&after, "/requests/memory"), "128Mi");
    assert_eq!(web(&after).restart_count, 1);
    assert_ne!(web(&after).container_id, web(&before).container_id);
    assert_eq!(entry(&after, "log").container_id, entry(&before, "log").container_id);
    let killing = world.events("Killing").await;
    assert_eq!(killing, ["Container web resize requires restart"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_is_deferred_and_what_never_will_is_infeasible() {
    let world = World::new().await;
    let small = |cpu: &str| json!({"containers": [{"name": "web", "image": "web:v1", "resources": {"requests": {"cpu": cpu}}}]});
    world.create("big", small("3")).await;
    world.create("p", small("500m")).await;
    world.until("big", "ready", ready).await;
    let before = world.until("p", "ready", ready).await;
    resize(&world, "p", json!({"requests": {"cpu": "5"}})).await;
    let pod = world
        .until("p", "infeasible", |pod| is(pod, "PodResizePending", "Infeasible"))
        .await;
    let message = |pod: &Pod| find(pod, "PodResizePending").unwrap().message.clone().unwrap();
    assert_eq!(
        message(&pod),
        "Node didn't have enough capacity: cpu, requested: 5000, capacity: 4000"
    );
    assert_eq!(actual(&pod, "/requests/cpu"), "500m");
    assert!(ready(&pod));
    resize(&world, "p", json!({"requests": {"cpu": "2"}})).await;
    let pod = world
        .until("p", "deferred", |pod| is(pod, "PodResizePending", "Deferred"))
        .await;
    assert_eq!(
        message(&pod),
        "Node didn't have enough resource: cpu, requested: 2000, used: 3000, capacity: 4000"
    );
    assert_eq!(web(&pod).allocated_resources.as_ref().unwrap()["cpu"].0, "500m");
    world.pods.delete("big", &DeleteParams::default()).await.unwrap();
    let pod = world
        .until("p", "resized", |pod| actual(pod, "/requests/cpu") == "2")
        .await;
    assert!(find(&pod, "PodResizePending").is_none());
    assert_eq!(web(&pod).container_id, web(&before).container_id);
    // A wish that is taken back leaves no trace.
    resize(&world, "p", json!({"requests": {"cpu": "9"}})).await;
    world
        .until("p", "infeasible", |pod| is(pod, "PodResizePending", "Infeasible"))
        .await;
    resize(&world, "p", json!({"requests": {"cpu": "2"}})).await;
    world
        .until("p", "as before", |pod| find(pod, "PodResizePending").is_none())
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_below_what_is_used_waits() {
    let world = World::new().await;
    let behaviour = Behaviour {
        memory_used_bytes: 512 << 20,
        ..Behaviour::default()
    };
    world.runtime.add_image("fat:v1", "sha256:4444", behaviour);
    world.create("p", spec("fat:v1", None, "1", "64Mi")).await;
    let before = world.until("p", "ready", ready).await;
    resize(&world, "p", json!({"limits": {"memory": "256Mi"}})).await;
    let pod = world
        .until("p", "waiting", |pod| is(pod, "PodResizeInProgress", "Error"))
        .await;
    let message = find(&pod, "PodResizeInProgress").unwrap().message.clone().unwrap();
    assert!(message.contains("below the current usage"), "{message}");
    assert_eq!(actual(&pod, "/limits/memory"), "1Gi");
    assert!(ready(&pod));
    resize(&world, "p", json!({"limits": {"memory": "768Mi"}})).await;
    let pod = world
        .until("p", "resized", |pod| actual(pod, "/limits/memory") == "768Mi")
        .await;
    assert!(find(&pod, "PodResizeInProgress").is_none());
    assert_eq!(web(&pod).container_id, web(&before).container_id);
}
