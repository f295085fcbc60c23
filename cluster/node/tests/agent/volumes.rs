//! Files of volumes follow the objects that they show.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::world::{World, condition};

fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

impl World {
    fn volume(&self, pod: &Pod, path: &str) -> Option<String> {
        let uid = pod.metadata.uid.as_deref().unwrap();
        let volumes = self.dir.path().join("pods").join(uid).join("volumes");
        std::fs::read_to_string(volumes.join(path)).ok()
    }

    async fn until_shows(&self, pod: &Pod, path: &str, text: Option<&str>) {
        for _ in 0..6000 {
            if self.volume(pod, path).as_deref() == text {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(self.volume(pod, path).as_deref(), text, "{path}");
    }
}

#[tokio::test]
async fn files_follow_what_they_show_without_a_restart() {
    let world = World::new().await;
    let maps: Api<ConfigMap> = Api::namespaced(world.server.client("test"), "default");
    let secrets: Api<Secret> = Api::namespaced(world.server.client("test"), "default");
    let (params, patching) = (PostParams::default(), PatchParams::default());
    let map = object(json!({"metadata": {"name": "m"}, "data": {"a": "1"}}));
    maps.create(&params, &map).await.unwrap();
    let fixed = object(json!({"metadata": {"name": "fixed"}, "data": {"a": "1"}, "immutable": true}));
    maps.create(&params, &fixed).await.unwrap();
    let sources = json!([{"secret": {"name": "later", "optional": true}},
        {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}}]);
    world
        .create(
            "p",
            json!({"containers": [{"name": "web", "image": "web:v1"}], "volumes": [
                {"name": "map", "configMap": {"name": "m"}}, {"name": "fixed", "configMap": {"name": "fixed"}},
                {"name": "all", "projected": {"sources": sources}}]}),
        )
        .await;
    let pod = world.until("p", "ready", |pod| condition(pod, "Ready") == "True").await;
    world.until_shows(&pod, "map/a", Some("1")).await;
    world.until_shows(&pod, "all/labels", Some("")).await;

    maps.patch("m", &patching, &Patch::Merge(json!({"data": {"a": "2", "b": "3"}})))
        .await
        .unwrap();
    let secret = object(json!({"metadata": {"name": "later"}, "stringData": {"s": "4"}}));
    secrets.create(&params, &secret).await.unwrap();
    world
        .pods
        .patch(
            "p",
            &patching,
            &Patch::Merge(json!({"metadata": {"labels": {"tier": "front"}}})),
        )
        .await
        .unwrap();
    world.until_shows(&pod, "map/b", Some("3")).await;
    world.until_shows(&pod, "map/a", Some("2")).await;
    world.until_shows(&pod, "all/s", Some("4")).await;
    world.until_shows(&pod, "all/labels", Some("tier=\"front\"")).await;

    // Optional: its files go with it. Required: they stay, and the pod tells.
    secrets.delete("later", &DeleteParams::default()).await.unwrap();
    world.until_shows(&pod, "all/s", None).await;
    maps.delete("fixed", &DeleteParams::default()).await.unwrap();
    maps.delete("m", &DeleteParams::default()).await.unwrap();
    let told = world.events("FailedMount").await;
    assert_eq!(
        told[0],
        "MountVolume.SetUp failed for volume \"map\" : configmap \"m\" not found"
    );
    assert_eq!(told.len(), 1, "an immutable one is not asked for again: {told:?}");
    world.until_shows(&pod, "map/a", Some("2")).await;
    // And it recovers by itself.
    maps.create(&params, &object(json!({"metadata": {"name": "m"}, "data": {"a": "5"}})))
        .await
        .unwrap();
    world.until_shows(&pod, "map/a", Some("5")).await;
    let now = world.pods.get("p").await.unwrap();
    assert_eq!(now.status.unwrap().container_statuses.unwrap()[0].restart_count, 0);
}
