use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::Api;
use kube::api::{DeleteParams, EvictParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use serde_json::json;

use super::{config_map, object, pod, raw, refusal, server};

async fn bound(client: &kube::Client, name: &str) -> Api<Pod> {
    let pods = Api::<Pod>::namespaced(client.clone(), "default");
    let mut pod = pod(name);
    pod.spec.as_mut().unwrap().node_name = Some("n1".into());
    pods.create(&PostParams::default(), &pod).await.unwrap();
    pods
}

#[tokio::test]
async fn a_bound_pod_waits_for_its_kubelet() {
    let (_server, client) = server().await;
    let pods = bound(&client, "p").await;
    let first = pods
        .delete("p", &DeleteParams::default())
        .await
        .unwrap()
        .left()
        .unwrap();
    assert_eq!(first.metadata.deletion_grace_period_seconds, Some(30));
    let uid = first.metadata.uid.clone();
    let other = DeleteParams::default().grace_period(0).preconditions(Preconditions {
        uid: Some("other".into()),
        ..Preconditions::default()
    });
    assert_eq!(refusal(pods.delete("p", &other).await).0, 409);
    let same = DeleteParams::default().grace_period(0).preconditions(Preconditions {
        uid,
        ..Preconditions::default()
    });
    pods.delete("p", &same).await.unwrap();
    assert_eq!(refusal(pods.get("p").await).0, 404);
}

#[tokio::test]
async fn the_last_finalizer_lets_go() {
    let (_server, client) = server().await;
    let maps = Api::<ConfigMap>::namespaced(client, "default");
    let mut map = config_map("a");
    map.metadata.finalizers = Some(vec!["example.com/keep".into()]);
    maps.create(&PostParams::default(), &map).await.unwrap();
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    assert!(maps.get("a").await.unwrap().metadata.deletion_timestamp.is_some());
    let patch = json!({"metadata": {"finalizers": null}});
    maps.patch("a", &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .unwrap();
    assert_eq!(refusal(maps.get("a").await).0, 404);
}

#[tokio::test]
async fn dependents_are_the_garbage_collectors_business() {
    let (_server, client) = server().await;
    let maps = Api::<ConfigMap>::namespaced(client, "default");
    maps.create(&PostParams::default(), &config_map("a")).await.unwrap();
    maps.delete("a", &DeleteParams::foreground()).await.unwrap();
    let kept = maps.get("a").await.unwrap();
    assert_eq!(kept.metadata.finalizers, Some(vec!["foregroundDeletion".to_owned()]));
}

#[tokio::test]
async fn a_collection_is_deleted_by_label() {
    let (_server, client) = server().await;
    let maps = Api::<ConfigMap>::namespaced(client, "default");
    for (name, app) in [("a", "x"), ("b", "x"), ("c", "y")] {
        let mut map = config_map(name);
        map.metadata.labels = Some([("app".to_owned(), app.to_owned())].into());
        maps.create(&PostParams::default(), &map).await.unwrap();
    }
    maps.delete_collection(&DeleteParams::default(), &ListParams::default().labels("app=x"))
        .await
        .unwrap();
    assert_eq!(maps.list(&ListParams::default()).await.unwrap().items.len(), 1);
}

#[tokio::test]
async fn a_namespace_goes_when_it_is_finalized() {
    let (_server, client) = server().await;
    let namespaces = Api::<Namespace>::all(client.clone());
    let team: Namespace = object(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}}));
    namespaces.create(&PostParams::default(), &team).await.unwrap();
    namespaces.delete("team", &DeleteParams::default()).await.unwrap();
    let mut going = namespaces.get("team").await.unwrap();
    assert_eq!(going.status.clone().unwrap().phase.as_deref(), Some("Terminating"));
    let maps = Api::<ConfigMap>::namespaced(client.clone(), "team");
    let (code, reason, message) = refusal(maps.create(&PostParams::default(), &config_map("a")).await);
    assert_eq!((code, reason.as_str()), (403, "Forbidden"));
    assert!(message.contains("because it is being terminated"), "{message}");
    going.spec.as_mut().unwrap().finalizers = Some(Vec::new());
    let body = serde_json::to_string(&going).unwrap();
    let json = [("content-type", "application/json")];
    assert_eq!(
        raw(&client, "PUT", "/api/v1/namespaces/team/finalize", &json, &body)
            .await
            .0,
        200
    );
    assert_eq!(refusal(namespaces.get("team").await).0, 404);
    assert_eq!(
        refusal(namespaces.delete("default", &DeleteParams::default()).await).0,
        403
    );
}

#[tokio::test]
async fn ephemeral_containers_are_added_by_their_subresource_alone() {
    let (_server, client) = server().await;
    let pods = bound(&client, "p").await;
    let patch = async |container: serde_json::Value| {
        let debugger =
            json!({"spec": {"containers": [{"name": "c", "image": "other"}], "ephemeralContainers": [container]}});
        let params = PatchParams::default();
        pods.patch_ephemeral_containers("p", &params, &Patch::Strategic(&debugger))
            .await
    };
    let with_ports = json!({"name": "d", "image": "b", "ports": [{"containerPort": 80}]});
    let (code, _, message) = refusal(patch(with_ports).await);
    assert!(
        code == 422 && message.contains("ephemeralContainers[0].ports: Forbidden"),
        "{code} {message}"
    );
    let taken = json!({"name": "c", "image": "b"});
    let (code, _, message) = refusal(patch(taken).await);
    assert!(code == 422 && message.contains("Duplicate value"), "{code} {message}");
    let changed = patch(json!({"name": "d", "image": "b", "targetContainerName": "c"}))
        .await
        .unwrap();
    let spec = changed.spec.unwrap();
    assert_eq!(spec.ephemeral_containers.unwrap()[0].name, "d");
    assert_eq!(
        spec.containers[0].image.as_deref(),
        Some("web:1"),
        "nothing else changes"
    );
    let (code, _, message) = refusal(patch(json!({"name": "d", "image": "b2"})).await);
    assert!(
        code == 422 && message.contains("may not be changed"),
        "{code} {message}"
    );
    // Not through the pod itself, neither later nor at its creation.
    let direct = json!({"spec": {"ephemeralContainers": [{"name": "e", "image": "b"}]}});
    let answer = pods
        .patch("p", &PatchParams::default(), &Patch::Strategic(&direct))
        .await;
    assert_eq!(refusal(answer).0, 422);
    let pod = serde_json::from_value(json!({"metadata": {"name": "q"}, "spec": {
        "containers": [{"name": "c", "image": "web:1"}], "ephemeralContainers": [{"name": "e", "image": "b"}]}}))
    .unwrap();
    let (code, _, message) = refusal(pods.create(&Default::default(), &pod).await);
    assert!(
        code == 422 && message.contains("cannot be set on create"),
        "{code} {message}"
    );
}

#[tokio::test]
async fn an_eviction_asks_the_budget() {
    let (_server, client) = server().await;
    let pods = bound(&client, "p").await;
    let running = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    pods.patch_status("p", &PatchParams::default(), &Patch::Merge(&running))
        .await
        .unwrap();
    let budgets = Api::<k8s_openapi::api::policy::v1::PodDisruptionBudget>::namespaced(client.clone(), "default");
    let budget = object(json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "b"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}},
    }));
    budgets.create(&PostParams::default(), &budget).await.unwrap();
    let status = |allowed: i32| json!({"status": {"observedGeneration": 1, "disruptionsAllowed": allowed, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1}});
    budgets
        .patch_status("b", &PatchParams::default(), &Patch::Merge(&status(0)))
        .await
        .unwrap();
    let (code, reason, _) = refusal(pods.evict("p", &EvictParams::default()).await);
    assert_eq!((code, reason.as_str()), (429, "TooManyRequests"));
    budgets
        .patch_status("b", &PatchParams::default(), &Patch::Merge(&status(1)))
        .await
        .unwrap();
    pods.evict("p", &EvictParams::default()).await.unwrap();
    let evicted = pods.get("p").await.unwrap();
    assert!(evicted.metadata.deletion_timestamp.is_some());
    let conditions = evicted.status.unwrap().conditions.unwrap();
    let said = conditions.iter().find(|one| one.type_ == "DisruptionTarget").unwrap();
    assert_eq!(
        (said.status.as_str(), said.reason.as_deref()),
        ("True", Some("EvictionByEvictionAPI"))
    );
    let left = budgets.get("b").await.unwrap().status.unwrap();
    assert_eq!(left.disruptions_allowed, 0);
    assert!(left.disrupted_pods.unwrap().contains_key("p"));
}

#[tokio::test]
async fn the_last_finalizer_may_go_with_a_status_write() {
    let (_server, client) = server().await;
    let pods = Api::<Pod>::namespaced(client, "default");
    let mut held = pod("p");
    held.metadata.finalizers = Some(vec!["example.com/keep".into()]);
    pods.create(&PostParams::default(), &held).await.unwrap();
    pods.delete("p", &DeleteParams::default()).await.unwrap();
    let patch = json!({"metadata": {"finalizers": null}, "status": {"phase": "Failed"}});
    pods.patch_status("p", &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .unwrap();
    assert_eq!(refusal(pods.get("p").await).0, 404);
}

#[tokio::test]
async fn a_namespace_that_is_ending_cannot_skip_its_contents() {
    let (_server, client) = server().await;
    let namespaces = Api::<Namespace>::all(client);
    let team: Namespace = object(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}}));
    namespaces.create(&PostParams::default(), &team).await.unwrap();
    namespaces.delete("team", &DeleteParams::default()).await.unwrap();
    namespaces.replace("team", &PostParams::default(), &team).await.unwrap();
    let patch = json!({"spec": {"finalizers": []}});
    namespaces
        .patch("team", &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .unwrap();
    let still = namespaces.get("team").await.unwrap();
    assert_eq!(still.spec.unwrap().finalizers, Some(vec!["kubernetes".to_owned()]));
}
