use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

use super::{config_map, object, pod, raw, refusal, server};

#[tokio::test]
async fn the_namespaces_of_every_cluster_are_there() {
    let (_server, client) = server().await;
    let list = Api::<Namespace>::all(client)
        .list(&ListParams::default())
        .await
        .unwrap();
    let names: Vec<_> = list.items.iter().filter_map(|n| n.metadata.name.clone()).collect();
    assert_eq!(names, ["default", "kube-node-lease", "kube-public", "kube-system"]);
}

#[tokio::test]
async fn an_object_is_created_once_and_read_back() {
    let (_server, client) = server().await;
    let maps = Api::<ConfigMap>::namespaced(client.clone(), "default");
    let made = maps.create(&PostParams::default(), &config_map("a")).await.unwrap();
    assert!(made.metadata.uid.is_some() && made.metadata.creation_timestamp.is_some());
    assert_eq!(maps.get("a").await.unwrap(), made);
    let (code, reason, message) = refusal(maps.create(&PostParams::default(), &config_map("a")).await);
    assert_eq!(
        (code, reason.as_str(), message.as_str()),
        (409, "AlreadyExists", "configmaps \"a\" already exists")
    );
    let (code, reason, message) = refusal(maps.get("b").await);
    assert_eq!(
        (code, reason.as_str(), message.as_str()),
        (404, "NotFound", "configmaps \"b\" not found")
    );
    let nowhere = Api::<ConfigMap>::namespaced(client, "nowhere");
    let (code, _, message) = refusal(nowhere.create(&PostParams::default(), &config_map("a")).await);
    assert_eq!((code, message.as_str()), (404, "namespaces \"nowhere\" not found"));
}

#[tokio::test]
async fn a_write_decided_on_an_old_version_is_refused() {
    let (server, client) = server().await;
    let maps = Api::<ConfigMap>::namespaced(client, "default");
    let first = maps.create(&PostParams::default(), &config_map("a")).await.unwrap();
    let mut second = first.clone();
    second.data = Some([("a".to_owned(), "c".to_owned())].into());
    let second = maps.replace("a", &PostParams::default(), &second).await.unwrap();
    let (code, reason, message) = refusal(maps.replace("a", &PostParams::default(), &first).await);
    assert_eq!((code, reason.as_str()), (409, "Conflict"));
    assert!(
        message.starts_with("Operation cannot be fulfilled on configmaps \"a\": the object has been modified"),
        "{message}"
    );
    let stale = json!({"metadata": {"resourceVersion": first.metadata.resource_version}, "data": {"x": "y"}});
    let (code, ..) = refusal(maps.patch("a", &PatchParams::default(), &Patch::Merge(&stale)).await);
    assert_eq!(code, 409);
    // Nothing changes, nothing is written.
    let same = maps.replace("a", &PostParams::default(), &second).await.unwrap();
    assert_eq!(same.metadata.resource_version, second.metadata.resource_version);
    let patch = json!({"data": {"a": "c"}});
    let same = maps
        .patch("a", &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .unwrap();
    assert_eq!(same.metadata.resource_version, second.metadata.resource_version);
    let counts: Vec<_> = server
        .writes()
        .into_iter()
        .filter(|w| w.user == "tester")
        .map(|w| (w.verb, w.resource, w.count))
        .collect();
    assert_eq!(
        counts,
        [
            ("create", "configmaps".to_owned(), 1),
            ("update", "configmaps".to_owned(), 1)
        ]
    );
}

#[tokio::test]
async fn concurrent_patches_all_count() {
    let (_server, client) = server().await;
    let maps = Api::<ConfigMap>::namespaced(client, "default");
    maps.create(&PostParams::default(), &config_map("a")).await.unwrap();
    let tasks = (0..20).map(|n| {
        let maps = maps.clone();
        let patch = json!({"data": {format!("k{n}"): "v"}});
        tokio::spawn(async move { maps.patch("a", &PatchParams::default(), &Patch::Merge(&patch)).await })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap().unwrap();
    }
    assert_eq!(maps.get("a").await.unwrap().data.unwrap().len(), 21);
}

#[tokio::test]
async fn patches_of_all_three_kinds() {
    let (_server, client) = server().await;
    let pods = Api::<Pod>::namespaced(client.clone(), "default");
    pods.create(&PostParams::default(), &pod("p")).await.unwrap();
    let params = PatchParams::default();
    let strategic = json!({"spec": {"containers": [{"name": "c", "image": "web:2"}]}});
    let image = |pod: &Pod| {
        pod.spec
            .as_ref()
            .unwrap()
            .containers
            .first()
            .unwrap()
            .image
            .clone()
            .unwrap()
    };
    assert_eq!(
        image(&pods.patch("p", &params, &Patch::Strategic(&strategic)).await.unwrap()),
        "web:2"
    );
    let operations = json!([{"op": "replace", "path": "/spec/containers/0/image", "value": "web:3"}]);
    let operations: kube::api::Patch<()> = Patch::Json(serde_json::from_value(operations).unwrap());
    assert_eq!(image(&pods.patch("p", &params, &operations).await.unwrap()), "web:3");
    let failing = json!([{"op": "test", "path": "/spec/containers/0/image", "value": "web:1"}]);
    let failing: kube::api::Patch<()> = Patch::Json(serde_json::from_value(failing).unwrap());
    assert_eq!(refusal(pods.patch("p", &params, &failing).await).0, 422);
    let forbidden = json!({"spec": {"hostNetwork": true}});
    let (code, reason, message) = refusal(pods.patch("p", &params, &Patch::Merge(&forbidden)).await);
    assert_eq!((code, reason.as_str()), (422, "Invalid"));
    assert!(
        message.starts_with("Pod \"p\" is invalid: spec: Forbidden: pod updates may not change fields other than"),
        "{message}"
    );
    let apply = Patch::Apply(json!({"apiVersion": "v1", "kind": "Pod"}));
    assert_eq!(refusal(pods.patch("p", &PatchParams::apply("t"), &apply).await).0, 415);
}

#[tokio::test]
async fn the_status_is_written_apart() {
    let (_server, client) = server().await;
    let pods = Api::<Pod>::namespaced(client.clone(), "default");
    pods.create(&PostParams::default(), &pod("p")).await.unwrap();
    let both = json!({"metadata": {"labels": {"x": "y"}}, "status": {"phase": "Running"}});
    let main = pods
        .patch("p", &PatchParams::default(), &Patch::Merge(&both))
        .await
        .unwrap();
    assert_eq!(main.status.unwrap().phase.unwrap(), "Pending");
    let both = json!({"spec": {"containers": [{"name": "c", "image": "web:9"}]}, "status": {"phase": "Running"}});
    let status = pods
        .patch_status("p", &PatchParams::default(), &Patch::Strategic(&both))
        .await
        .unwrap();
    assert_eq!(status.status.unwrap().phase.unwrap(), "Running");
    assert_eq!(
        status.spec.unwrap().containers.first().unwrap().image.as_deref(),
        Some("web:1")
    );
}

#[tokio::test]
async fn binding_gives_a_pod_its_node_once() {
    let (_server, client) = server().await;
    let pods = Api::<Pod>::namespaced(client.clone(), "default");
    pods.create(&PostParams::default(), &pod("p")).await.unwrap();
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}});
    let uri = "/api/v1/namespaces/default/pods/p/binding";
    let json = [("content-type", "application/json")];
    assert_eq!(raw(&client, "POST", uri, &json, &binding.to_string()).await.0, 201);
    let bound = pods.get("p").await.unwrap();
    assert_eq!(bound.spec.unwrap().node_name.as_deref(), Some("n1"));
    let conditions = bound.status.unwrap().conditions.unwrap();
    assert!(
        conditions
            .iter()
            .any(|c| c.type_ == "PodScheduled" && c.status == "True")
    );
    let (code, body) = raw(&client, "POST", uri, &json, &binding.to_string()).await;
    assert_eq!(code, 409, "{body}");
}

#[tokio::test]
async fn lists_are_paged_and_filtered() {
    let (_server, client) = server().await;
    let maps = Api::<ConfigMap>::namespaced(client.clone(), "default");
    for n in 0..25 {
        let mut map = config_map(&format!("m{n:02}"));
        map.metadata.labels = Some([("parity".to_owned(), if n % 2 == 0 { "even" } else { "odd" }.to_owned())].into());
        maps.create(&PostParams::default(), &map).await.unwrap();
    }
    let names = |list: &kube::api::ObjectList<ConfigMap>| {
        list.items
            .iter()
            .filter_map(|m| m.metadata.name.clone())
            .collect::<Vec<_>>()
    };
    let first = maps.list(&ListParams::default().limit(10)).await.unwrap();
    assert_eq!((first.items.len(), first.metadata.remaining_item_count), (10, Some(15)));
    let token = first.metadata.continue_.clone().unwrap();
    let second = maps
        .list(&ListParams::default().limit(10).continue_token(&token))
        .await
        .unwrap();
    assert_eq!(names(&second).first().map(String::as_str), Some("m10"));
    assert_eq!(second.metadata.resource_version, first.metadata.resource_version);
    let token = second.metadata.continue_.clone().unwrap();
    let third = maps
        .list(&ListParams::default().limit(10).continue_token(&token))
        .await
        .unwrap();
    assert_eq!(
        (third.items.len(), third.metadata.continue_.unwrap_or_default()),
        (5, String::new())
    );
    let odd = maps.list(&ListParams::default().labels("parity=odd")).await.unwrap();
    assert_eq!(odd.items.len(), 12);
    let odd = maps
        .list(&ListParams::default().labels("parity=odd").limit(5))
        .await
        .unwrap();
    assert_eq!(names(&odd), ["m01", "m03", "m05", "m07", "m09"]);
    let one = maps
        .list(&ListParams::default().fields("metadata.name=m07"))
        .await
        .unwrap();
    assert_eq!(names(&one), ["m07"]);
    let (code, body) = raw(&client, "GET", "/api/v1/configmaps?resourceVersion=999999", &[], "").await;
    assert!(code == 504 && body.contains("Too large resource version"), "{body}");
    assert_eq!(refusal(maps.list(&ListParams::default().labels("a b=c")).await).0, 400);
}

#[tokio::test]
async fn names_are_generated() {
    let (_server, client) = server().await;
    let maps = Api::<ConfigMap>::namespaced(client, "default");
    let mut map = config_map("");
    map.metadata.name = None;
    map.metadata.generate_name = Some("web-".into());
    let made = maps.create(&PostParams::default(), &map).await.unwrap();
    let name = made.metadata.name.unwrap();
    assert!(name.starts_with("web-") && name.len() == 9, "{name}");
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let (_server, client) = server().await;
    let maps = Api::<ConfigMap>::namespaced(client, "default");
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    maps.create(&dry, &config_map("a")).await.unwrap();
    assert_eq!(refusal(maps.get("a").await).0, 404);
    maps.create(&PostParams::default(), &config_map("a")).await.unwrap();
    let (code, reason, _) = refusal(maps.create(&dry, &config_map("a")).await);
    assert_eq!((code, reason.as_str()), (409, "AlreadyExists"), "as without dry run");
}

#[tokio::test]
async fn bodies_are_limited_and_may_be_yaml() {
    let (_server, client) = server().await;
    let uri = "/api/v1/namespaces/default/configmaps";
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: yam}\ndata: {a: b}\n";
    assert_eq!(
        raw(&client, "POST", uri, &[("content-type", "application/yaml")], yaml)
            .await
            .0,
        201
    );
    let (code, body) = raw(
        &client,
        "GET",
        &format!("{uri}/yam"),
        &[("accept", "application/yaml")],
        "",
    )
    .await;
    assert!(code == 200 && body.contains("kind: ConfigMap"), "{body}");
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(4 << 20));
    assert_eq!(
        raw(&client, "POST", uri, &[("content-type", "application/json")], &large)
            .await
            .0,
        413
    );
    for body in [
        "",
        "[]",
        "null",
        "3",
        "{\"metadata\":3}",
        "{\"metadata\":{\"name\":\"x\",\"labels\":3}}",
        "{",
        "{\"kind\":\"Pod\"}",
    ] {
        let (code, text) = raw(&client, "POST", uri, &[("content-type", "application/json")], body).await;
        assert!(code == 400 || code == 422, "{body}: {code} {text}");
    }
}

#[tokio::test]
async fn tables_and_metadata_only() {
    let (_server, client) = server().await;
    let pods = Api::<Pod>::namespaced(client.clone(), "default");
    pods.create(&PostParams::default(), &pod("p")).await.unwrap();
    let accept = [(
        "accept",
        "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
    )];
    let (_, body) = raw(&client, "GET", "/api/v1/namespaces/default/pods", &accept, "").await;
    let table: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(table["kind"], "Table");
    assert_eq!(table["columnDefinitions"][0]["name"], "Name");
    assert_eq!(table["rows"][0]["cells"][0], "p");
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let metadata = pods.list_metadata(&ListParams::default()).await.unwrap();
    assert_eq!(metadata.items.first().unwrap().metadata.name.as_deref(), Some("p"));
}

#[tokio::test]
async fn scale_is_a_face_of_the_object() {
    let (_server, client) = server().await;
    let deployments = Api::<k8s_openapi::api::apps::v1::Deployment>::namespaced(client, "default");
    let deployment = object(json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "d"}},
            "template": {"metadata": {"labels": {"app": "d"}}, "spec": {"containers": [{"name": "c", "image": "a:1"}]}}},
    }));
    deployments.create(&PostParams::default(), &deployment).await.unwrap();
    let scale = deployments.get_scale("d").await.unwrap();
    assert_eq!(
        (scale.spec.unwrap().replicas, scale.status.unwrap().selector.as_deref()),
        (Some(2), Some("app=d"))
    );
    let patch = json!({"spec": {"replicas": 5}});
    deployments
        .patch_scale("d", &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .unwrap();
    let now = deployments.get("d").await.unwrap();
    assert_eq!(
        (now.spec.unwrap().replicas, now.metadata.generation),
        (Some(5), Some(2))
    );
}
