//! The controllers of EndpointSlices and Endpoints against the API server in one process.

#![allow(clippy::unwrap_used)] // in a test's own tools, too, the first surprise shall end it

#[path = "loops/identity.rs"]
mod identity;

use std::fmt::Debug;
use std::time::{Duration, Instant};

use afloat_apiserver::ApiServer;
use afloat_store::Store;
use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
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

/// When a pod's readiness changed last.
const CHANGED: &str = "2026-01-02T03:04:05Z";

async fn ready(client: &Client, index: usize, ready: bool) {
    let status = if ready { "True" } else { "False" };
    let address = format!("10.244.0.{}", index + 2);
    let status = json!({"status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
        "conditions": [{"type": "Ready", "status": status, "lastTransitionTime": CHANGED}]}});
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
            begin.elapsed() < Duration::from_secs(60),
            "{found:?} instead of {wanted:?}"
        );
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// An API server with all loops, which end with the token.
async fn start(options: afloat_controllers::Options) -> (Client, CancellationToken, JoinHandle<()>) {
    let server = ApiServer::new(Store::memory(), identity::server_options())
        .await
        .unwrap();
    let (client, shutdown) = (server.client("test"), CancellationToken::new());
    let run = afloat_controllers::run(
        move |name| server.client_as(identity::user(name)),
        options,
        shutdown.clone(),
    );
    let running = tokio::spawn(async move { run.await.unwrap() });
    (client, shutdown, running)
}

async fn create<K>(client: &Client, object: Value)
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Serialize
        + Debug,
{
    let object = serde_json::from_value(object).unwrap();
    api::<K>(client).create(&PostParams::default(), &object).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slices_follow_pods_with_few_writes() {
    let (client, shutdown, running) = start(afloat_controllers::Options::default()).await;
    let service: Value = json!({"metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "web"}]}});
    create::<Service>(&client, service).await;
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
    running.await.unwrap();
}

/// The Endpoints of a Service as kubectl shows them: ready addresses, others, ports. None: there is no such object.
async fn shown(client: &Client, name: &str) -> Option<(Vec<String>, Vec<String>, Vec<i32>)> {
    let found = api::<Endpoints>(client).get_opt(name).await.unwrap()?;
    let mut shown = (Vec::new(), Vec::new(), Vec::new());
    for subset in found.subsets.into_iter().flatten() {
        shown.0.extend(subset.addresses.into_iter().flatten().map(|it| it.ip));
        shown
            .1
            .extend(subset.not_ready_addresses.into_iter().flatten().map(|it| it.ip));
        shown.2.extend(subset.ports.into_iter().flatten().map(|it| it.port));
    }
    Some(shown)
}

/// Endpoints as they are shown.
fn of(ready: &[&str], others: &[&str], ports: &[i32]) -> Option<(Vec<String>, Vec<String>, Vec<i32>)> {
    let texts = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    Some((texts(ready), texts(others), ports.to_vec()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_have_endpoints() {
    let (client, shutdown, running) = start(afloat_controllers::Options::default()).await;
    let ports = json!([{"port": 80, "targetPort": "web"}]);
    create::<Service>(
        &client,
        json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": ports}}),
    )
    .await;
    let look = async || shown(&client, "web").await;
    until(of(&[], &[], &[]), look).await;
    for index in 0..2 {
        pod(&client, index, 8080).await;
        ready(&client, index, index == 0).await;
    }
    let both = of(&["10.244.0.2"], &["10.244.0.3"], &[8080]);
    until(both.clone(), look).await;
    let found = api::<Endpoints>(&client).get("web").await.unwrap();
    let annotations = found.metadata.annotations.unwrap();
    assert_eq!(annotations["endpoints.kubernetes.io/last-change-trigger-time"], CHANGED);
    // What somebody else writes is put right, and the object comes back.
    let nothing = Patch::Merge(json!({"subsets": null}));
    api::<Endpoints>(&client)
        .patch("web", &PatchParams::default(), &nothing)
        .await
        .unwrap();
    until(both.clone(), look).await;
    api::<Endpoints>(&client)
        .delete("web", &DeleteParams::default())
        .await
        .unwrap();
    until(both, look).await;
    api::<Service>(&client)
        .delete("web", &DeleteParams::default())
        .await
        .unwrap();
    until(None, look).await;

    shutdown.cancel();
    running.await.unwrap();
}

/// Nobody chooses pods for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_made_by_hand_have_slices_that_follow_them() {
    let (client, shutdown, running) = start(afloat_controllers::Options::default()).await;
    let of_db = ListParams::default().labels("kubernetes.io/service-name=db");
    let slices = async || {
        let slices = api::<EndpointSlice>(&client).list(&of_db).await.unwrap();
        let addresses = slices
            .into_iter()
            .flat_map(|slice| slice.endpoints)
            .flat_map(|one| one.addresses);
        addresses.collect::<Vec<_>>()
    };
    create::<Service>(
        &client,
        json!({"metadata": {"name": "db"}, "spec": {"ports": [{"port": 5432}]}}),
    )
    .await;
    let subsets = |ip: &str| json!([{"addresses": [{"ip": ip}], "ports": [{"port": 5432}]}]);
    create::<Endpoints>(
        &client,
        json!({"metadata": {"name": "db"}, "subsets": subsets("192.0.2.1")}),
    )
    .await;
    until(vec!["192.0.2.1".to_owned()], slices).await;
    let other = Patch::Merge(json!({"subsets": subsets("192.0.2.2")}));
    api::<Endpoints>(&client)
        .patch("db", &PatchParams::default(), &other)
        .await
        .unwrap();
    until(vec!["192.0.2.2".to_owned()], slices).await;
    api::<Endpoints>(&client)
        .delete("db", &DeleteParams::default())
        .await
        .unwrap();
    until(Vec::new(), slices).await;

    shutdown.cancel();
    running.await.unwrap();
}

/// The slice is no mirror.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_servers_own_service_has_both_from_the_start() {
    let (client, shutdown, running) = start(afloat_controllers::Options {
        api_server: Some("10.0.0.7:6443".parse().unwrap()),
        ..afloat_controllers::Options::default()
    })
    .await;
    until(of(&["10.0.0.7"], &[], &[6443]), async || {
        shown(&client, "kubernetes").await
    })
    .await;
    let own = ListParams::default().labels("kubernetes.io/service-name=kubernetes");
    // Its slice is another object, which may come a moment later.
    until(vec![Some("kubernetes".to_owned())], async || {
        let own = api::<EndpointSlice>(&client).list(&own).await.unwrap().items;
        own.into_iter().map(|slice| slice.metadata.name).collect()
    })
    .await;

    shutdown.cancel();
    running.await.unwrap();
}
