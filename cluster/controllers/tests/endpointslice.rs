//! The EndpointSlice controller against the API server in one process.

#![allow(clippy::unwrap_used)] // in a test's own tools, too, the first surprise shall end it

#[path = "loops/identity.rs"]
mod identity;

use std::fmt::Debug;
use std::time::{Duration, Instant};

use afloat_apiserver::ApiServer;
use afloat_store::Store;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

fn api<K>(client: &Client) -> Api<K>
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
{
    Api::namespaced(client.clone(), "default")
}

async fn pod(client: &Client, index: usize, port: u16) {
    let container = json!({"name": "c", "image": "app:v1", "ports": [{"name": "web", "containerPort": port}]});
    let object = json!({"metadata": {"name": format!("web-{index}"), "labels": {"app": "web"}},
        "spec": {"nodeName": "node-0", "containers": [container]}});
    let object = serde_json::from_value(object).unwrap();
    api::<Pod>(client)
        .create(&PostParams::default(), &object)
        .await
        .unwrap();
}

async fn ready(client: &Client, index: usize, ready: bool) {
    let status = if ready { "True" } else { "False" };
    let address = format!("10.244.0.{}", index + 2);
    let status = json!({"status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
        "conditions": [{"type": "Ready", "status": status}]}});
    let name = format!("web-{index}");
    api::<Pod>(client)
        .patch_status(&name, &PatchParams::default(), &Patch::Merge(status))
        .await
        .unwrap();
}

/// Endpoints in order of their pods, as `web-0 ready`, and the port of their slice.
async fn endpoints(client: &Client) -> Vec<(String, i32)> {
    let of_web = ListParams::default().labels("kubernetes.io/service-name=web");
    let slices = api::<EndpointSlice>(client).list(&of_web).await.unwrap();
    let mut found = Vec::new();
    for slice in slices {
        let port = slice.ports.iter().flatten().find_map(|port| port.port).unwrap_or(0);
        for endpoint in slice.endpoints {
            let is = endpoint.conditions.unwrap();
            let words = [
                (is.ready, "ready"),
                (is.serving, "serving"),
                (is.terminating, "terminating"),
            ];
            let words: Vec<_> = words
                .iter()
                .filter(|(holds, _)| *holds == Some(true))
                .map(|(_, word)| *word)
                .collect();
            found.push((
                format!("{} {}", endpoint.target_ref.unwrap().name.unwrap(), words.join(" ")),
                port,
            ));
        }
    }
    found.sort();
    found
}

async fn until<T: PartialEq + Debug>(wanted: T, look: impl AsyncFn() -> T) {
    let begin = Instant::now();
    loop {
        let found = look().await;
        if found == wanted {
            return;
        }
        assert!(
            begin.elapsed() < Duration::from_secs(5),
            "{found:?} instead of {wanted:?}"
        );
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slices_follow_pods_with_few_writes() {
    let server = ApiServer::new(Store::memory(), identity::server_options())
        .await
        .unwrap();
    let client = server.client("test");
    let shutdown = CancellationToken::new();
    let clients = server.clone();
    let running = tokio::spawn(afloat_controllers::run(
        move |name| clients.client_as(identity::user(name)),
        afloat_controllers::Options::default(),
        shutdown.clone(),
    ));
    let service: Value = json!({"metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "web"}]}});
    let service = serde_json::from_value(service).unwrap();
    api::<Service>(&client)
        .create(&PostParams::default(), &service)
        .await
        .unwrap();
    let look = async || endpoints(&client).await;
    let at = |port: i32, lines: &[&str]| lines.iter().map(|line| ((*line).to_owned(), port)).collect::<Vec<_>>();

    for index in 0..3 {
        pod(&client, index, 8080).await;
        ready(&client, index, true).await;
    }
    until(
        at(
            8080,
            &["web-0 ready serving", "web-1 ready serving", "web-2 ready serving"],
        ),
        look,
    )
    .await;
    ready(&client, 1, false).await;
    until(
        at(8080, &["web-0 ready serving", "web-1 ", "web-2 ready serving"]),
        look,
    )
    .await;
    api::<Pod>(&client)
        .delete("web-0", &DeleteParams::default())
        .await
        .unwrap();
    until(
        at(8080, &["web-0 serving terminating", "web-1 ", "web-2 ready serving"]),
        look,
    )
    .await;
    api::<Pod>(&client)
        .delete("web-0", &DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    until(at(8080, &["web-1 ", "web-2 ready serving"]), look).await;
    pod(&client, 0, 9090).await;
    ready(&client, 0, true).await;
    let mut both = at(8080, &["web-1 ", "web-2 ready serving"]);
    both.insert(0, ("web-0 ready serving".into(), 9090));
    until(both, look).await;

    // Somebody else's edit is put right, and a slice that is deleted comes back.
    let slices = api::<EndpointSlice>(&client);
    let first = slices.list(&ListParams::default()).await.unwrap().items.remove(0);
    let name = first.metadata.name.unwrap();
    let before = look().await;
    let nothing = Patch::Merge(json!({"endpoints": []}));
    slices.patch(&name, &PatchParams::default(), &nothing).await.unwrap();
    until(before.clone(), look).await;
    slices.delete(&name, &DeleteParams::default()).await.unwrap();
    until(before, look).await;

    shutdown.cancel();
    running.await.unwrap().unwrap();
}
