//! The life of pods, as their status and the runtime tell it.

use std::time::{Duration, Instant};

use afloat_node::fake::Behaviour;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use crate::world::{SETTLE, SETTLE_ENDING, World, at_most, condition, entry, phase, ready, waiting};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_runs_and_costs_one_status_write() {
    let world = World::new().await;
    let begin = Instant::now();
    world
        .create(
            "p",
            json!({"containers": [{"name": "web", "image": "web:v1"}, {"name": "log", "image": "log:v1"}]}),
        )
        .await;
    let pod = world.until("p", "ready", ready).await;
    assert_eq!(phase(&pod), "Running");
    let web = entry(&pod, "web");
    assert_eq!(
        (web.image.as_str(), web.image_id.as_str()),
        ("docker.io/library/web:v1", "sha256:1111")
    );
    assert!(web.container_id.as_ref().unwrap().starts_with("afloat://"));
    assert_eq!((web.restart_count, web.ready, web.started), (0, true, Some(true)));
    let status = pod.status.as_ref().unwrap();
    assert!(status.pod_ip.as_ref().unwrap().starts_with("10.244."));
    assert_eq!(status.host_ip.as_deref(), Some("10.244.0.1"));
    assert_eq!(status.qos_class.as_deref(), Some("BestEffort"));
    starts_with_one_write(&world, "p", begin, &pod).await;
    // And nothing more is to be told.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let later = world.pods.get("p").await.unwrap();
    assert_eq!(later.metadata.resource_version, pod.metadata.resource_version);
    let node: Node = Api::all(world.server.client("test")).get("node-1").await.unwrap();
    let conditions = node.status.unwrap().conditions.unwrap();
    assert!(conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True"));
    assert_eq!(node.spec.unwrap().pod_cidr.as_deref(), Some("10.244.0.0/24"));
}

/// One status write leads a pod from its creation to its being ready.
async fn starts_with_one_write(world: &World, name: &str, begin: Instant, ready: &Pod) {
    let versions = world.versions(name, Some(ready)).await;
    let took = versions.last().unwrap().at - begin;
    let (writes, most) = (versions.len() - 1, at_most(took, SETTLE));
    assert!((1..=most).contains(&writes), "{name}: {writes} writes in {took:?}");
}

/// What a controller does that takes a pod out of its Services for a change, and in again.
async fn set_gate(world: &World, status: &str) {
    let gate = Patch::Strategic(json!({"status": {"conditions": [{"type": "InPlaceUpdateReady", "status": status}]}}));
    let params = PatchParams::default();
    world.pods.patch_status("p", &params, &gate).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_change_replaces_that_container_alone() {
    let world = World::new().await;
    let spec = json!({"readinessGates": [{"conditionType": "InPlaceUpdateReady"}], "containers": [
        {"name": "web", "image": "web:v1", "lifecycle": {"preStop": {"exec": {"command": ["bye"]}}},
         "readinessProbe": {"exec": {"command": ["ready"]}, "periodSeconds": 1}},
        {"name": "log", "image": "log:v1"}]});
    world.create("p", spec).await;
    world
        .until("p", "running", |pod| condition(pod, "ContainersReady") == "True")
        .await;
    set_gate(&world, "True").await;
    let before = world.until("p", "ready", ready).await;
    set_gate(&world, "False").await;
    let begin = Instant::now();
    let out = world.until("p", "out of service", |pod| !ready(pod)).await;
    let image = Patch::Strategic(json!({"spec": {"containers": [{"name": "web", "image": "web:v2"}]}}));
    world.pods.patch("p", &PatchParams::default(), &image).await.unwrap();
    let updated =
        |pod: &Pod| entry(pod, "web").image_id == "sha256:2222" && condition(pod, "ContainersReady") == "True";
    world.until("p", "updated", updated).await;
    set_gate(&world, "True").await;
    let after = world.until("p", "ready again", ready).await;
    let (old, new) = (entry(&before, "web"), entry(&after, "web"));
    assert_ne!(old.container_id, new.container_id);
    assert_eq!((new.restart_count, new.image.as_str()), (1, "docker.io/library/web:v2"));
    assert_eq!(
        new.last_state
            .as_ref()
            .unwrap()
            .terminated
            .as_ref()
            .unwrap()
            .reason
            .as_deref(),
        Some("Completed")
    );
    assert_eq!(
        entry(&before, "log"),
        entry(&after, "log"),
        "the other container is untouched"
    );
    assert_eq!(
        before.status.as_ref().unwrap().pod_ip,
        after.status.as_ref().unwrap().pod_ip
    );
    assert_eq!(condition(&after, "InPlaceUpdateReady"), "True");
    let replaced = [
        "create", "start", "exec bye", "SIGTERM", "exit 0", "create", "start", "remove",
    ];
    world.until_story("web", &replaced).await;
    assert_eq!(world.story("log"), ["create", "start"]);
    assert_eq!(
        world.events("Killing").await,
        ["Container web definition changed, will be restarted"]
    );
    // Two of the writes are the test's own: image and gate.
    let cost = world.written_between(&out, &after).await - 2;
    let most = 2 + at_most(begin.elapsed(), SETTLE);
    assert!(cost <= most, "{cost} writes, {most} at most");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_change_replaces_a_sidecar_alone() {
    let world = World::new().await;
    let spec = json!({
        "initContainers": [{"name": "mesh", "image": "web:v1", "restartPolicy": "Always"}],
        "containers": [{"name": "log", "image": "log:v1"}]});
    world.create("p", spec).await;
    let before = world.until("p", "ready", ready).await;
    let mesh = |pod: &Pod| pod.status.as_ref().unwrap().init_container_statuses.as_ref().unwrap()[0].clone();
    let image = Patch::Strategic(json!({"spec": {"initContainers": [{"name": "mesh", "image": "web:v2"}]}}));
    world.pods.patch("p", &PatchParams::default(), &image).await.unwrap();
    let updated = |pod: &Pod| mesh(pod).image_id == "sha256:2222" && ready(pod);
    let after = world.until("p", "updated", updated).await;
    assert_eq!((mesh(&after).restart_count, mesh(&after).started), (1, Some(true)));
    assert_eq!(entry(&before, "log"), entry(&after, "log"));
    let replaced = ["create", "start", "SIGTERM", "exit 0", "create", "start", "remove"];
    world.until_story("mesh", &replaced).await;
    assert_eq!(
        world.events("Killing").await,
        ["Init container mesh definition changed"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletion_runs_the_hook_then_asks_then_kills_and_leaves_nothing() {
    let world = World::new().await;
    world.runtime.add_image(
        "deaf:v1",
        "sha256:4444",
        Behaviour {
            stop_takes: None,
            ..Behaviour::default()
        },
    );
    let hook = json!({"preStop": {"exec": {"command": ["bye"]}}});
    let spec = json!({"containers": [{"name": "web", "image": "deaf:v1", "lifecycle": hook}], "terminationGracePeriodSeconds": 3});
    world.create("p", spec).await;
    let pod = world.until("p", "ready", ready).await;
    world.pods.delete("p", &DeleteParams::default()).await.unwrap();
    world.until_gone("p").await;
    let ended = [
        "create", "start", "exec bye", "SIGTERM", "SIGKILL", "exit 137", "remove",
    ];
    world.until_story("web", &ended).await;
    let sandbox = pod.metadata.uid.as_ref().unwrap();
    world.until_story(sandbox, &["sandbox", "remove sandbox"]).await;
    world.until_no_folders().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_image_is_waited_for() {
    let world = World::new().await;
    world
        .create("p", json!({"containers": [{"name": "web", "image": "nowhere:v1"}]}))
        .await;
    world
        .until_was("p", "in ErrImagePull", |pod| waiting(pod, "web") == "ErrImagePull")
        .await;
    world
        .until("p", "in ImagePullBackOff", |pod| {
            waiting(pod, "web") == "ImagePullBackOff"
        })
        .await;
    world.until_event("Failed", |m| m.contains("afloat image load")).await;
    world
        .runtime
        .add_image("nowhere:v1", "sha256:5555", Behaviour::default());
    world.until("p", "ready", ready).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_is_told_and_backs_off() {
    let world = World::new().await;
    let ends = vec![
        Some((Duration::from_millis(20), 3)),
        Some((Duration::from_millis(20), 3)),
        None,
    ];
    world.runtime.add_image(
        "crash:v1",
        "sha256:6666",
        Behaviour {
            ends,
            ..Behaviour::default()
        },
    );
    world
        .create("p", json!({"containers": [{"name": "web", "image": "crash:v1"}]}))
        .await;
    world
        .until_was("p", "in back-off", |pod| waiting(pod, "web") == "CrashLoopBackOff")
        .await;
    let pod = world.until("p", "ready", ready).await;
    assert_eq!(entry(&pod, "web").restart_count, 2);
    let last = entry(&pod, "web").last_state.clone().unwrap().terminated.unwrap();
    assert_eq!((last.exit_code, last.reason.as_deref()), (3, Some("Error")));
    assert!(world.events("BackOff").await[0].starts_with("Back-off restarting failed container web in pod p_default("));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restart_policies_decide_the_phase() {
    let world = World::new().await;
    for (image, id, code) in [("good:v1", "sha256:a", 0), ("bad:v1", "sha256:b", 7)] {
        let ends = vec![Some((Duration::from_millis(20), code))];
        world.runtime.add_image(
            image,
            id,
            Behaviour {
                ends,
                ..Behaviour::default()
            },
        );
    }
    let spec =
        |image: &str, policy: &str| json!({"restartPolicy": policy, "containers": [{"name": "job", "image": image}]});
    world.create("done", spec("good:v1", "OnFailure")).await;
    world.create("failed", spec("bad:v1", "Never")).await;
    let done = world.until("done", "over", |pod| phase(pod) == "Succeeded").await;
    assert_eq!(condition(&done, "Ready"), "False");
    let failed = world.until("failed", "over", |pod| phase(pod) == "Failed").await;
    let state = entry(&failed, "job").state.clone().unwrap().terminated.unwrap();
    assert_eq!((state.exit_code, state.reason.as_deref()), (7, Some("Error")));
    world.pods.delete("done", &DeleteParams::default()).await.unwrap();
    world.until_gone("done").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn init_containers_run_in_order_and_sidecars_stop_last() {
    let world = World::new().await;
    let ends = vec![Some((Duration::from_millis(50), 0))];
    world.runtime.add_image(
        "init:v1",
        "sha256:a",
        Behaviour {
            ends,
            ..Behaviour::default()
        },
    );
    let spec = json!({
        "initContainers": [
            {"name": "one", "image": "init:v1"},
            {"name": "mesh", "image": "log:v1", "restartPolicy": "Always"},
            {"name": "two", "image": "init:v1"}],
        "containers": [{"name": "web", "image": "web:v1"}]});
    world.create("p", spec).await;
    let pod = world.until("p", "ready", ready).await;
    assert_eq!(condition(&pod, "Initialized"), "True");
    world.pods.delete("p", &DeleteParams::default()).await.unwrap();
    world.until_gone("p").await;
    let story: Vec<_> = world
        .runtime
        .journal()
        .into_iter()
        .filter(|e| ["start", "SIGTERM", "exit 0"].contains(&e.what.as_str()))
        .map(|e| format!("{} {}", e.of, e.what))
        .collect();
    let expected = "one start,one exit 0,mesh start,two start,two exit 0,web start,web SIGTERM,web exit 0,mesh SIGTERM,mesh exit 0";
    assert_eq!(story.join(","), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_agent_finds_its_containers_and_ends_orphans() {
    let mut world = World::new().await;
    let probe = json!({"exec": {"command": ["ready"]}, "periodSeconds": 1});
    let spec = |image: &str| json!({"containers": [{"name": "web", "image": image, "readinessProbe": probe}]});
    world.create("stays", spec("web:v1")).await;
    world.create("goes", spec("web:v1")).await;
    let before = world.until("stays", "ready", ready).await;
    world.until("goes", "ready", ready).await;
    world.stop_agent().await;
    let gone = DeleteParams::default().grace_period(0);
    world.pods.delete("goes", &gone).await.unwrap();
    world.start_agent();
    world.until_containers(1).await;
    let after = world.pods.get("stays").await.unwrap();
    assert_eq!(
        before.metadata.resource_version, after.metadata.resource_version,
        "nothing was written about the one that stays"
    );
    // As after a reboot of the node: same address, one more restart.
    world.stop_agent().await;
    world.runtime.reboot();
    world.start_agent();
    let again = world
        .until("stays", "restarted", |pod| {
            entry(pod, "web").restart_count == 1 && ready(pod)
        })
        .await;
    assert_eq!(again.status.unwrap().pod_ip, before.status.unwrap().pod_ip);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn liveness_restarts_and_post_start_failure_is_told() {
    let world = World::new().await;
    let probe = json!({"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 1});
    let hook = json!({"postStart": {"exec": {"command": ["false"]}}});
    world
        .create(
            "sick",
            json!({"containers": [{"name": "web", "image": "web:v1", "livenessProbe": probe}]}),
        )
        .await;
    world
        .create(
            "hook",
            json!({"containers": [{"name": "web", "image": "web:v1", "lifecycle": hook}]}),
        )
        .await;
    world
        .until("sick", "restarted", |pod| {
            pod.status.as_ref().is_some_and(|s| s.container_statuses.is_some()) && entry(pod, "web").restart_count >= 1
        })
        .await;
    world
        .until_event("Unhealthy", |m| m.starts_with("Liveness probe failed"))
        .await;
    let failed = world.events("FailedPostStartHook").await;
    assert!(
        failed[0].starts_with("PostStartHook failed: command 'false' exited with 1"),
        "{failed:?}"
    );
    world.until_event("Killing", |m| m == "FailedPostStartHook").await;
}

/// Figures for a look, not a benchmark: what matters is that a hundred pods cost a hundred status writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_pods_cost_one_write_each() {
    let world = World::new().await;
    let mut begun = Vec::new();
    for number in 0..100 {
        begun.push(Instant::now());
        world
            .create(
                &format!("p{number}"),
                json!({"containers": [{"name": "web", "image": "web:v1"}]}),
            )
            .await;
    }
    for (number, begin) in begun.into_iter().enumerate() {
        let name = format!("p{number}");
        let pod = world.until(&name, "ready", ready).await;
        starts_with_one_write(&world, &name, begin, &pod).await;
    }
    let mut begun = Vec::new();
    for number in 0..100 {
        begun.push(Instant::now());
        world
            .pods
            .delete(&format!("p{number}"), &DeleteParams::default())
            .await
            .unwrap();
    }
    for (number, begin) in begun.into_iter().enumerate() {
        let name = format!("p{number}");
        // How it ended is told before a pod goes.
        let versions = world.versions(&name, None).await;
        let asked = versions
            .iter()
            .position(|v| v.pod.metadata.deletion_timestamp.is_some());
        let ending = &versions[asked.unwrap()..];
        let took = ending.last().unwrap().at - begin;
        let told = ending.iter().filter(|version| !version.last).count() - 1;
        let most = at_most(took, SETTLE_ENDING);
        assert!((1..=most).contains(&told), "{name}: {told} writes in {took:?}");
    }
}
