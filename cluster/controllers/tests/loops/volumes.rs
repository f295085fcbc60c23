//! Claims and volumes against the API server.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};

use crate::world::{Disks, World};

fn claim(name: &str, more: &Value) -> Value {
    let mut claim = json!({"metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    for (key, value) in more.as_object().unwrap() {
        claim["spec"][key] = value.clone();
    }
    claim
}

fn pod(name: &str, claim: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "app:v1"}],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}]}})
}

/// An object of the cluster as a whole.
async fn put<K>(world: &World, object: Value)
where
    K: kube::Resource<DynamicType = ()> + Clone + serde::Serialize + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let api: Api<K> = Api::all(world.client.clone());
    let object = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap();
}

async fn phase(world: &World, name: &str, phase: &str) -> Value {
    world
        .until(&format!("claim {name} is {phase}"), || async {
            let found = world.get::<PersistentVolumeClaim>(name).await;
            found.is_some_and(|claim| claim["status"]["phase"] == phase)
        })
        .await;
    world.get::<PersistentVolumeClaim>(name).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_is_made_with_the_first_pod_and_goes_with_the_claim() {
    let disks = Disks::default();
    let options = afloat_controllers::Options {
        local_volumes: Some(Arc::new(disks.clone())),
        ..afloat_controllers::Options::default()
    };
    let world = World::start_with(3, options).await;
    world.create::<PersistentVolumeClaim>(claim("data", &json!({}))).await;
    world.create::<Pod>(pod("p", "data")).await;
    let bound = phase(&world, "data", "Bound").await;
    assert_eq!(bound["spec"]["storageClassName"], "standard");
    world
        .until("the pod is placed", || async {
            world.get::<Pod>("p").await.unwrap()["spec"]["nodeName"].is_string()
        })
        .await;
    let node = world.get::<Pod>("p").await.unwrap()["spec"]["nodeName"]
        .as_str()
        .unwrap()
        .to_owned();
    let volumes: Api<PersistentVolume> = Api::all(world.client.clone());
    let name = bound["spec"]["volumeName"].as_str().unwrap();
    let volume = serde_json::to_value(volumes.get(name).await.unwrap()).unwrap();
    assert_eq!(volume["spec"]["local"]["path"], format!("/disks/{node}/{name}"));

    // In use it stays.
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(world.client.clone(), "default");
    claims.delete("data", &DeleteParams::default()).await.unwrap();
    world
        .create::<PersistentVolumeClaim>(claim("other", &json!({"storageClassName": ""})))
        .await;
    phase(&world, "other", "Pending").await;
    let leaving = world.get::<PersistentVolumeClaim>("data").await.unwrap();
    assert!(leaving["metadata"]["deletionTimestamp"].is_string());
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), "default");
    pods.delete("p", &DeleteParams::default()).await.unwrap();
    world
        .until("claim and volume are gone", || async {
            world.get::<PersistentVolumeClaim>("data").await.is_none() && volumes.get_opt(name).await.unwrap().is_none()
        })
        .await;
    assert_eq!(*disks.0.lock().unwrap(), [format!("{node}/{name}")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_pods_never_get_one_static_volume() {
    let world = World::start(2).await;
    let class = json!({"metadata": {"name": "static"}, "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer"});
    put::<StorageClass>(&world, class).await;
    for (name, node) in [("v0", "node-0"), ("v1", "node-1")] {
        let affinity = json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [
            {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}]}});
        let volume = json!({"metadata": {"name": name}, "spec": {"capacity": {"storage": "1Gi"}, "local": {"path": "/x"},
            "accessModes": ["ReadWriteOnce"], "storageClassName": "static", "nodeAffinity": affinity}});
        put::<PersistentVolume>(&world, volume).await;
    }
    for name in ["a", "b", "c"] {
        world
            .create::<PersistentVolumeClaim>(claim(name, &json!({"storageClassName": "static"})))
            .await;
        world.create::<Pod>(pod(name, name)).await;
    }
    world
        .until("two pods are placed and one is not", || async {
            let pods = world.list::<Pod>().await;
            let placed = |pod: &&Pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
            let told = |pod: &Pod| {
                let conditions = pod.status.as_ref().and_then(|status| status.conditions.clone());
                let messages = conditions
                    .into_iter()
                    .flatten()
                    .filter_map(|condition| condition.message);
                messages
                    .into_iter()
                    .any(|m| m.contains("didn't find available persistent volumes to bind"))
            };
            pods.iter().filter(placed).count() == 2 && pods.iter().any(told)
        })
        .await;
    let claims = world.list::<PersistentVolumeClaim>().await;
    let mut volumes: Vec<_> = claims.into_iter().filter_map(|claim| claim.spec?.volume_name).collect();
    volumes.sort();
    assert_eq!(volumes, ["v0", "v1"]);
}
