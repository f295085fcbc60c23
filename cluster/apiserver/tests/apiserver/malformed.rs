//! Objects that are none of their kind: refused however they come, and mended where an earlier version stored them.

use afloat_apiserver::{ApiServer, Options};
use afloat_machinery::fields;
use afloat_machinery::kinds::Registry;
use afloat_store::{Expect, Store};
use bytes::Bytes;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;
use kube::api::{Api, ListParams};
use serde_json::{Value, json};

use super::{raw, server};

const NODE: &str = "/api/v1/nodes/n";
const POD: &str = "/api/v1/namespaces/default/pods/p";
const SETS: &str = "/apis/apps/v1/namespaces/default/replicasets";

async fn send(client: &Client, method: &str, uri: &str, kind: &str, body: &Value) -> (u16, String) {
    let content_type = format!("application/{kind}");
    raw(
        client,
        method,
        uri,
        &[("content-type", &content_type)],
        &body.to_string(),
    )
    .await
}

fn node() -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}, "spec": {}, "status": {}})
}

/// The node with one thing that it cannot hold.
fn bad(at: &str, value: Value) -> Value {
    let mut node = node();
    *node.pointer_mut(at.rsplit_once('/').unwrap().0).unwrap() =
        json!({at.rsplit_once('/').unwrap().1: value, "name": "n"});
    node
}

/// A server with a node, a pod and a set.
async fn world() -> (ApiServer, Client) {
    let (server, client) = server().await;
    assert_eq!(send(&client, "POST", "/api/v1/nodes", "json", &node()).await.0, 201);
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    assert_eq!(
        send(&client, "POST", "/api/v1/namespaces/default/pods", "json", &pod)
            .await
            .0,
        201
    );
    let set = json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {
        "metadata": {"labels": {"a": "b"}}, "spec": pod["spec"]}}});
    assert_eq!(send(&client, "POST", SETS, "json", &set).await.0, 201);
    (server, client)
}

#[tokio::test]
async fn no_write_stores_what_its_kind_cannot_hold() {
    let (_server, client) = world().await;
    let before = raw(&client, "GET", NODE, &[], "").await.1;
    let places = [
        ("/spec/taints", json!("x")),
        ("/status/conditions", json!([{"type": 5}])),
        ("/metadata/ownerReferences", json!("x")),
        ("/metadata/labels", json!({"a": 5})),
        ("/metadata/managedFields", json!("x")),
        ("/metadata/finalizers", json!([5])),
        ("/metadata/creationTimestamp", json!("x")),
    ];
    for (at, value) in places {
        let (object, add) = (
            bad(at, value.clone()),
            json!([{"op": "add", "path": at, "value": value}]),
        );
        for uri in ["/api/v1/nodes", "/api/v1/nodes?dryRun=All"] {
            let (code, text) = send(&client, "POST", uri, "json", &object).await;
            assert!(
                code == 400 && text.contains("cannot be handled as a Node: "),
                "{at}: {code} {text}"
            );
        }
        for uri in [NODE.to_owned(), format!("{NODE}/status")] {
            assert_eq!(send(&client, "PUT", &uri, "json", &object).await.0, 400, "{at}");
            for (kind, patch) in [
                ("merge-patch+json", &object),
                ("strategic-merge-patch+json", &object),
                ("json-patch+json", &add),
            ] {
                let (code, text) = send(&client, "PATCH", &uri, kind, patch).await;
                // The strategic patch of a list may fail before it comes to types.
                assert!(matches!(code, 400 | 422), "{at} {kind}: {code} {text}");
            }
        }
    }
    assert_eq!(raw(&client, "GET", NODE, &[], "").await.1, before);
}

#[tokio::test]
async fn other_bodies_are_read_by_their_types_as_well() {
    let (_server, client) = world().await;
    let before = raw(&client, "GET", NODE, &[], "").await.1;
    let others = [
        ("DELETE", NODE.to_owned(), json!({"gracePeriodSeconds": "x"})),
        ("DELETE", POD.to_owned(), json!({"preconditions": "x"})),
        ("POST", format!("{POD}/eviction"), json!({"deleteOptions": "x"})),
        ("POST", format!("{POD}/binding"), json!({"target": "x"})),
        ("PUT", format!("{SETS}/d/scale"), json!({"spec": {"replicas": "x"}})),
        ("PUT", format!("{POD}/resize"), json!({"spec": {"containers": "x"}})),
        (
            "PUT",
            format!("{POD}/ephemeralcontainers"),
            json!({"spec": {"ephemeralContainers": "x"}}),
        ),
        (
            "PUT",
            "/api/v1/namespaces/default/finalize".to_owned(),
            json!({"spec": {"finalizers": "x"}}),
        ),
        (
            "POST",
            "/apis/authentication.k8s.io/v1/tokenreviews".to_owned(),
            json!({"spec": {"token": 5}}),
        ),
        ("POST", "/api/v1/nodes".to_owned(), json!("x")),
        ("POST", "/api/v1/nodes".to_owned(), json!({"kind": 5})),
    ];
    for (method, uri, body) in others {
        let (code, text) = send(&client, method, &uri, "json", &body).await;
        assert_eq!(code, 400, "{method} {uri}: {text}");
    }
    assert_eq!(raw(&client, "GET", NODE, &[], "").await.1, before);
}

/// For each kind, and each of its parts that is an object, one whose part is a text, and one with owners that are one.
async fn plant(store: &Store) -> usize {
    let mut planted = 0;
    for resource in Registry::builtin()
        .all()
        .filter(|r| r.is_stored() && r.group != "events.k8s.io")
    {
        let group = if resource.group.is_empty() {
            "core"
        } else {
            &resource.group
        };
        let space = if resource.namespaced { "default/" } else { "" };
        let wrong = [
            json!({"metadata": {"ownerReferences": "x"}}),
            json!({"metadata": {"labels": {"a": 5}}, "spec": "x", "status": "x"}),
            json!({"spec": {"taints": "x", "ports": "x", "template": 5, "containers": [5]}, "status": {"conditions": "x"}}),
            json!({"endpoints": "x", "data": "x", "rules": "x", "webhooks": 5, "subsets": {}}),
        ];
        for (n, mut object) in wrong.into_iter().enumerate() {
            let name = format!("bad-{n}");
            object["apiVersion"] = resource.api_version().into();
            object["kind"] = resource.kind.as_str().into();
            object["metadata"]["name"] = name.as_str().into();
            if resource.namespaced {
                object["metadata"]["namespace"] = "default".into();
            }
            let key = format!("/{group}/{}/{space}{name}", resource.plural);
            let stamp = Box::new(move |revision: u64| {
                object["metadata"]["resourceVersion"] = revision.to_string().into();
                Bytes::from(object.to_string())
            });
            store.put(&key, Expect::Absent, stamp).await.unwrap();
            planted += 1;
        }
    }
    planted
}

#[tokio::test]
async fn a_store_that_holds_what_no_client_can_read_is_mended() {
    let store = Store::memory();
    assert!(plant(&store).await > 100);
    let server = ApiServer::new(store.clone(), Options::default()).await.unwrap();
    let client = server.client("tester");
    for resource in Registry::builtin().all().filter(|resource| resource.is_stored()) {
        let root = if resource.group.is_empty() {
            "/api".to_owned()
        } else {
            format!("/apis/{}", resource.group)
        };
        let (code, text) = raw(
            &client,
            "GET",
            &format!("{root}/{}/{}", resource.version, resource.plural),
            &[],
            "",
        )
        .await;
        assert_eq!(code, 200, "{text}");
        let mut list: Value = serde_json::from_str(&text).unwrap();
        for item in list["items"].as_array_mut().unwrap() {
            assert_eq!(fields::decode_as(resource, item), Ok(()), "{} {item}", resource.kind);
        }
    }
    // As clients with types of their own read them.
    let all = ListParams::default();
    assert!(Api::<Node>::all(client.clone()).list(&all).await.unwrap().items.len() >= 4);
    assert!(Api::<Pod>::all(client.clone()).list(&all).await.unwrap().items.len() >= 4);
    assert!(
        Api::<Service>::all(client.clone())
            .list(&all)
            .await
            .unwrap()
            .items
            .len()
            >= 4
    );
    Api::<EndpointSlice>::all(client.clone()).list(&all).await.unwrap();
    // What was right about them is still there, and they can be written.
    let patch = json!({"spec": {"unschedulable": true}});
    let (code, text) = send(&client, "PATCH", "/api/v1/nodes/bad-2", "merge-patch+json", &patch).await;
    assert_eq!(code, 200, "{text}");
    let revision = || store.get("/core/nodes/bad-1").unwrap().revision;
    let mended = revision();
    drop(ApiServer::new(store.clone(), Options::default()).await.unwrap());
    assert_eq!(revision(), mended, "once is enough");
}
