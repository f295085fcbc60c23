//! Resources that change while a pod runs.

use super::*;

fn resources(cpu: &str, memory: &str) -> Value {
    json!({"requests": {"cpu": cpu, "memory": memory}})
}

async fn resize(world: &World, resources: Value) {
    let patch = json!({"spec": {"containers": [{"name": "app", "resources": resources}]}});
    let patch = Patch::Strategic(patch);
    let api = world.api("Pod");
    api.patch_subresource("resize", "web", &PatchParams::default(), &patch)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn resources_follow_the_spec_and_restart_only_where_the_policy_says_so() {
    let world = World::start(options()).await;
    let policy = json!([{"resourceName": "cpu", "restartPolicy": "NotRequired"},
        {"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
    let app = json!({"name": "app", "image": "app:1", "resources": resources("100m", "64Mi"), "resizePolicy": policy});
    world.create("web", json!([app]), &[]).await;
    let before = world.pod("web", "Ready", ready).await;
    assert_eq!(container(&before, "app")["resources"], resources("100m", "64Mi"));
    assert_eq!(
        container(&before, "app")["allocatedResources"],
        resources("100m", "64Mi")["requests"]
    );
    resize(&world, resources("200m", "64Mi")).await;
    let shows = |cpu: &str, memory: &str| {
        let wanted = resources(cpu, memory);
        move |pod: &Value| ready(pod) && container(pod, "app")["resources"] == wanted
    };
    let pod = world.pod("web", "more cpu", shows("200m", "64Mi")).await;
    assert_eq!(
        container(&pod, "app")["containerID"],
        container(&before, "app")["containerID"]
    );
    resize(&world, resources("200m", "128Mi")).await;
    let pod = world.pod("web", "more memory", shows("200m", "128Mi")).await;
    assert_eq!(container(&pod, "app")["restartCount"], 1);
}

/// As kubelets of 1.32 say it, and as later ones do.
#[tokio::test(flavor = "multi_thread")]
async fn a_resize_beyond_the_node_is_refused_until_it_is_taken_back() {
    for observed_generation in [false, true] {
        let world = World::start(Options {
            observed_generation,
            room: (2, 4),
            ..options()
        })
        .await;
        let refused = move |pod: &Value| match observed_generation {
            false => pod["status"]["resize"] == "Infeasible",
            true => condition(pod, "PodResizePending")["reason"] == "Infeasible",
        };
        let app = json!({"name": "app", "image": "app:1", "resources": resources("1", "1Gi")});
        world.create("web", json!([app]), &[]).await;
        world.pod("web", "Ready", ready).await;
        resize(&world, resources("3", "1Gi")).await;
        world.pod("web", "the refusal", refused).await;
        // What is started meanwhile has what was granted.
        world.set_image("web", "app:2").await;
        let restarted = |pod: &Value| container(pod, "app")["restartCount"] == 1;
        let pod = world.pod("web", "the new image", restarted).await;
        assert!(refused(&pod), "{pod:#}");
        assert_eq!(container(&pod, "app")["resources"], resources("1", "1Gi"));
        resize(&world, resources("2", "4Gi")).await;
        let given = |pod: &Value| !refused(pod) && container(pod, "app")["resources"] == resources("2", "4Gi");
        world.pod("web", "what fits", given).await;
    }
}
