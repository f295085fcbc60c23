//! Whatever a client sends, it gets a Kubernetes answer: never a panic, never an internal error.

use kube::Client;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use super::{raw, server};

/// Valid bodies and where they go.
fn originals() -> Vec<(&'static str, Value)> {
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i:1",
        "ports": [{"containerPort": 80}], "env": [{"name": "A", "value": "b"}], "resources": {"limits": {"cpu": "1"}}}]}});
    let crd = json!({"group": "example.com", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
        "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object", "properties": {"n": {"type": "integer"}}}}}}}]});
    vec![
        (
            "/api/v1/namespaces/default/pods",
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "labels": {"a": "b"}, "annotations": {"k": "v"}, "finalizers": ["a/b"]}, "spec": template["spec"]}),
        ),
        (
            "/api/v1/namespaces/default/services",
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": {"type": "NodePort", "clusterIP": "", "clusterIPs": [], "selector": {"a": "b"}, "ports": [{"port": 80, "nodePort": 0, "protocol": "TCP"}]}}),
        ),
        (
            "/apis/apps/v1/namespaces/default/deployments",
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}, "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "strategy": {"rollingUpdate": {"maxSurge": "1%"}}, "template": template}}),
        ),
        (
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
            json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "widgets.example.com"}, "spec": crd}),
        ),
        (
            "/api/v1/namespaces",
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x", "labels": {}}, "spec": {"finalizers": ["kubernetes"]}}),
        ),
        (
            "/apis/policy/v1/namespaces/default/poddisruptionbudgets",
            json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "x"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}}}),
        ),
        (
            "/apis/events.k8s.io/v1/namespaces/default/events",
            json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "x"}, "regarding": {"name": "p"}, "note": "n", "eventTime": "2026-01-01T00:00:00.000000Z", "reason": "R", "action": "A", "type": "Normal", "reportingController": "c", "reportingInstance": "c"}),
        ),
    ]
}

fn junk() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        Just(json!([])),
        Just(json!({})),
        Just(json!("text")),
        Just(json!("")),
        Just(json!(-1)),
        Just(json!(1.5)),
        Just(json!(u64::MAX)),
        Just(json!(true)),
        Just(json!([null])),
        Just(json!([[1]])),
        Just(json!({"a": {"b": []}})),
        Just(json!([{"name": 1}])),
    ]
}

/// All places in a document, as JSON pointers.
fn places(value: &Value, at: &str, out: &mut Vec<String>) {
    out.push(at.to_owned());
    match value {
        Value::Object(map) => map
            .iter()
            .for_each(|(k, v)| places(v, &format!("{at}/{}", k.replace('/', "~1")), out)),
        Value::Array(list) => list
            .iter()
            .enumerate()
            .for_each(|(n, v)| places(v, &format!("{at}/{n}"), out)),
        _ => {}
    }
}

async fn send(client: &Client, method: &str, uri: &str, kind: &str, body: &str) {
    let (code, text) = raw(client, method, uri, &[("content-type", kind)], body).await;
    assert!(code < 500, "{method} {uri}\n{body}\n{code} {text}");
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert!(answer["kind"].is_string(), "{text}");
}

/// Sends a damaged document in every way there is, each to where there is nothing and to where the original is.
async fn torment(client: &Client, collection: &str, original: &Value, place: &str, junk: &Value) {
    let mut damaged = original.clone();
    *damaged.pointer_mut(place).unwrap() = junk.clone();
    let (object, body) = (format!("{collection}/x"), damaged.to_string());
    let merge = "application/merge-patch+json";
    send(client, "POST", collection, "application/json", &body).await;
    raw(client, "DELETE", &object, &[], "").await;
    raw(
        client,
        "POST",
        collection,
        &[("content-type", "application/json")],
        &original.to_string(),
    )
    .await;
    for target in [
        object.clone(),
        format!("{object}/status"),
        format!("{object}/scale"),
        format!("{object}/eviction"),
        format!("{object}/binding"),
        format!("{object}/finalize"),
    ] {
        send(client, "PUT", &target, "application/json", &body).await;
        send(client, "POST", &target, "application/json", &body).await;
        send(client, "PATCH", &target, merge, &body).await;
        send(
            client,
            "PATCH",
            &target,
            "application/strategic-merge-patch+json",
            &body,
        )
        .await;
        let operations = json!([{"op": "replace", "path": place, "value": junk}]);
        send(
            client,
            "PATCH",
            &target,
            "application/json-patch+json",
            &operations.to_string(),
        )
        .await;
    }
    send(client, "DELETE", &object, "application/json", &body).await;
    for form in ["Table", "PartialObjectMetadata"] {
        let accept = format!("application/json;as={form};v=v1;g=meta.k8s.io");
        assert!(raw(client, "GET", collection, &[("accept", &accept)], "").await.0 < 500);
    }
    send(client, "PATCH", &object, merge, r#"{"metadata":{"finalizers":null}}"#).await;
    send(
        client,
        "DELETE",
        &object,
        "application/json",
        r#"{"gracePeriodSeconds":0}"#,
    )
    .await;
}

#[test]
fn damaged_documents_are_refused_or_taken() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (_server, client) = runtime.block_on(server());
    let originals = originals();
    let mut runner = TestRunner::new(Config {
        cases: 192,
        failure_persistence: None,
        ..Config::default()
    });
    let strategy = (any::<prop::sample::Index>(), any::<prop::sample::Index>(), junk());
    let result = runner.run(&strategy, |(which, place, junk)| {
        let (collection, original) = which.get(&originals);
        let mut all: Vec<String> = Vec::new();
        places(original, "", &mut all);
        runtime.block_on(torment(&client, collection, original, place.get::<String>(&all), &junk));
        Ok(())
    });
    result.unwrap();
}

#[test]
fn any_path_and_query_is_answered() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (_server, client) = runtime.block_on(server());
    let word = prop::sample::select(vec![
        "api",
        "apis",
        "v1",
        "apps",
        "namespaces",
        "default",
        "pods",
        "x",
        "status",
        "log",
        "exec",
        "events",
        "openapi",
        "v3",
        "%2F",
        "%zz",
        "..",
        "events.k8s.io",
    ]);
    let path = prop::collection::vec(word, 0..7);
    let pair = prop::sample::select(vec![
        "limit=-1",
        "limit=1",
        "continue=abc",
        "labelSelector=%28",
        "fieldSelector=a",
        "resourceVersion=x",
        "resourceVersion=99",
        "watch=1&timeoutSeconds=1&resourceVersion=99999",
        "resourceVersionMatch=Exact",
        "sendInitialEvents=true",
        "dryRun=Some",
        "gracePeriodSeconds=x",
        "container=%00",
        "includeObject=x",
    ]);
    let query = prop::collection::vec(pair, 0..3);
    let method = prop::sample::select(vec!["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]);
    let mut runner = TestRunner::new(Config {
        cases: 1000,
        failure_persistence: None,
        ..Config::default()
    });
    let result = runner.run(&(method, path, query), |(method, path, query)| {
        let uri = format!("/{}?{}", path.join("/"), query.join("&"));
        let (code, text) = runtime.block_on(raw(&client, method, &uri, &[], "{}"));
        prop_assert!(code < 500 || code == 504, "{method} {uri}: {code} {text}");
        Ok(())
    });
    result.unwrap();
}

#[tokio::test]
async fn deep_documents_are_refused() {
    let (_server, client) = server().await;
    let uri = "/api/v1/namespaces/default/configmaps";
    for opening in ["[", "{\"a\": ", "- ", "{a: "] {
        for kind in ["application/json", "application/yaml"] {
            let body = opening.repeat(20_000);
            let (code, text) = raw(&client, "POST", uri, &[("content-type", kind)], &body).await;
            assert!((400..500).contains(&code), "{code} {text}");
        }
    }
    // As deep as readers of JSON go, yet deeper than what they find in a list.
    let deep = format!("{}{}", "{\"a\":".repeat(120), "1".to_owned() + &"}".repeat(120));
    let body = format!("{{\"metadata\": {{\"name\": \"x\"}}, \"revision\": 1, \"data\": {deep}}}");
    let uri = "/apis/apps/v1/namespaces/default/controllerrevisions";
    let (code, text) = raw(&client, "POST", uri, &[("content-type", "application/json")], &body).await;
    assert!(code == 422 && text.contains("nested deeper"), "{code} {text}");
}
