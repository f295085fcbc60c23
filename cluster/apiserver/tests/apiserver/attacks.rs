//! What one client has the server do does not keep others waiting: a small request beside each kind of hard work, in the same run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kube::Client;
use serde_json::{Value, json};

use super::{raw, server};

const JSON: (&str, &str) = ("content-type", "application/json");

/// Asks for something small until it is told to stop; gives the longest that an answer took, and how many there were.
async fn small_requests(client: Client, stop: Arc<AtomicBool>) -> (Duration, usize) {
    let (mut longest, mut count) = (Duration::ZERO, 0);
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        let (code, _) = raw(&client, "GET", "/api/v1/namespaces/default", &[], "").await;
        assert_eq!(code, 200);
        longest = longest.max(began.elapsed());
        count += 1;
        tokio::task::yield_now().await;
    }
    (longest, count)
}

/// Sends all at once; nobody else waits for as long as that takes.
async fn attack(client: &Client, what: &str, requests: Vec<(&str, String, &str, String)>) {
    let stop = Arc::new(AtomicBool::new(false));
    let small = tokio::spawn(small_requests(client.clone(), Arc::clone(&stop)));
    let began = Instant::now();
    let mut all = tokio::task::JoinSet::new();
    for (method, uri, kind, body) in requests {
        let (client, method, kind) = (client.clone(), method.to_owned(), kind.to_owned());
        all.spawn(async move { raw(&client, &method, &uri, &[("content-type", &kind)], &body).await });
    }
    while let Some(answer) = all.join_next().await {
        let (code, text) = answer.unwrap();
        assert!(code < 500, "{what}: {code} {}", text.get(..200).unwrap_or(&text));
    }
    let took = began.elapsed();
    stop.store(true, Ordering::Relaxed);
    let (longest, count) = small.await.unwrap();
    // What is over at once keeps nobody waiting. The rest is a matter of proportion: the machine may be slow.
    let fair = longest < Duration::from_millis(500) || longest < took / 3;
    assert!(
        fair && count > 0,
        "{what}: {longest:?} for one of {count} small requests while it took {took:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hard_work_keeps_nobody_waiting() {
    let (_server, client) = server().await;
    let maps = "/api/v1/namespaces/default/configmaps";
    let finalizers = |word: &str| -> Vec<String> { (0..12_000).map(|i| format!("{word}.io/some-{i}")).collect() };
    for name in ["a", "b", "c", "d"] {
        let map =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "finalizers": finalizers("a")}});
        let (code, told) = raw(&client, "POST", maps, &[JSON], &map.to_string()).await;
        assert_eq!(code, 201, "{}", told.get(..200).unwrap_or_default());
    }
    let patch = json!({"metadata": {"finalizers": finalizers("b")}}).to_string();
    let strategic = "application/strategic-merge-patch+json";
    let patches = ["a", "b", "c", "d"].map(|name| ("PATCH", format!("{maps}/{name}"), strategic, patch.clone()));
    attack(&client, "four patches of long lists", patches.into()).await;

    let schema = json!({"type": "object", "properties": {"items": {"type": "array", "items": {"type": "integer"}}},
        "x-kubernetes-validations": [{"rule": "self.items.all(a, self.items.all(b, self.items.all(c, a + b + c >= 0)))"}]});
    let crd = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "widgets.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": schema}}}}]}});
    let crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let (code, told) = raw(&client, "POST", crds, &[JSON], &crd.to_string()).await;
    assert_eq!(code, 201, "{told}");
    let widget = |n: usize| {
        let items: Vec<usize> = (0..1_000).collect();
        json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": format!("w{n}")}, "spec": {"items": items}})
    };
    let widgets = "/apis/example.com/v1/namespaces/default/widgets";
    let (code, told) = raw(&client, "POST", widgets, &[JSON], &widget(0).to_string()).await;
    assert_eq!(code, 422);
    assert!(
        told.contains("operation cancelled: actual cost limit exceeded"),
        "{told}"
    );
    let created = (0..6).map(|n| ("POST", widgets.to_owned(), "application/json", widget(n).to_string()));
    attack(&client, "rules that cost too much", created.collect()).await;

    let large: Value =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "l"}, "data": vec![json!([0]); 100_000]});
    let bodies = (0..16).map(|_| ("POST", maps.to_owned(), "application/json", large.to_string()));
    attack(&client, "large bodies that are refused", bodies.collect()).await;

    let moves: Vec<Value> = (0..5_000)
        .map(|_| json!({"op": "move", "from": "/metadata/finalizers/0", "path": "/metadata/finalizers/1"}))
        .collect();
    let patch = Value::Array(moves).to_string();
    let patches = ["a", "b", "c", "d"].map(|name| {
        (
            "PATCH",
            format!("{maps}/{name}"),
            "application/json-patch+json",
            patch.clone(),
        )
    });
    attack(&client, "operations at the front of long lists", patches.into()).await;

    let looks = (0..40).map(|_| {
        (
            "GET",
            format!("{maps}?limit=1&labelSelector=no%3Dsuch"),
            "application/json",
            String::new(),
        )
    });
    attack(&client, "lists of which nothing is wanted", looks.collect()).await;
}
