//! ReplicationControllers: ReplicaSets by an older name.

use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::world::World;

fn controller(replicas: i32) -> Value {
    json!({"metadata": {"name": "old"}, "spec": {"replicas": replicas, "template": {
        "metadata": {"labels": {"app": "old"}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": "app:v1"}]}}}})
}

async fn ready(world: &World, replicas: i64) {
    world
        .until("the controller has its pods", || async {
            let found = world.get::<ReplicationController>("old").await.unwrap();
            let status = &found["status"];
            status["observedGeneration"] == found["metadata"]["generation"]
                && status["replicas"].as_i64() == Some(replicas)
                && status["readyReplicas"].as_i64().unwrap_or(0) == replicas
        })
        .await;
}

fn owned(pods: &[Pod]) -> usize {
    let controls = |pod: &&Pod| {
        pod.owner_references()
            .iter()
            .any(|owner| owner.kind == "ReplicationController")
    };
    pods.iter().filter(controls).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replication_controller_adopts_scales_and_leaves_its_pods_behind() {
    let world = World::start(1).await;
    let orphan = json!({"metadata": {"name": "orphan", "labels": {"app": "old"}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": "app:v1"}]}});
    world.create::<Pod>(orphan).await;
    world.create::<ReplicationController>(controller(2)).await;
    ready(&world, 2).await;
    let pods = world.list::<Pod>().await;
    assert_eq!((pods.len(), owned(&pods)), (2, 2), "the orphan was adopted");

    let api = world.api::<ReplicationController>();
    let scale = Patch::Merge(json!({"spec": {"replicas": 3}}));
    let scaled = api.patch_scale("old", &PatchParams::default(), &scale).await.unwrap();
    assert_eq!(scaled.status.unwrap().selector.as_deref(), Some("app=old"));
    ready(&world, 3).await;

    // Without a word its pods stay, and the next one takes them.
    api.delete("old", &DeleteParams::default()).await.unwrap();
    world
        .until("the controller is gone and its pods are nobody's", || async {
            let pods = world.list::<Pod>().await;
            world.get::<ReplicationController>("old").await.is_none() && pods.len() == 3 && owned(&pods) == 0
        })
        .await;
    world.create::<ReplicationController>(controller(1)).await;
    ready(&world, 1).await;
    api.delete("old", &DeleteParams::background()).await.unwrap();
    world
        .until("nothing is left", || async { world.list::<Pod>().await.is_empty() })
        .await;
    world.stop().await;
}
