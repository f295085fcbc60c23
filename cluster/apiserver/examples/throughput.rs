//! How many writes a second one API server takes from clients in its own process, with watchers listening.
//!
//! `cargo run --release -p afloat-apiserver --example throughput -- DIR`; without DIR the store is in memory.

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use afloat_apiserver::{ApiServer, Options};
use afloat_store::Store;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use serde_json::json;

const PODS: usize = 2000;
const WRITERS: usize = 64;
const WATCHERS: usize = 8;

fn pod(n: usize) -> Result<Pod, serde_json::Error> {
    serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("p{n}"), "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "web:1"}, {"name": "log", "image": "log:1"}]},
    }))
}

#[allow(clippy::print_stdout)] // it is what it is for
fn report(what: &str, count: usize, took: Duration) {
    let each = took.as_secs_f64() / count as f64;
    println!("{what:<30} {:>9.0} a second", 1.0 / each);
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let store = match std::env::args().nth(1) {
        Some(dir) => Store::open(&Path::new(&dir).join("throughput.redb"))?,
        None => Store::memory(),
    };
    let server = ApiServer::new(store, Options::default()).await?;
    let pods = Api::<Pod>::namespaced(server.client("writer"), "default");
    let mut watchers = Vec::new();
    for n in 0..WATCHERS {
        let pods = Api::<Pod>::namespaced(server.client(&format!("watcher-{n}")), "default");
        watchers.push(tokio::spawn(async move {
            let mut events = pods.watch(&WatchParams::default(), "0").await.ok()?.boxed();
            let mut modified = 0;
            while modified < PODS {
                modified += usize::from(matches!(events.next().await?, Ok(WatchEvent::Modified(_))));
            }
            Some(())
        }));
    }
    let started = Instant::now();
    let create = |n| {
        let pods = pods.clone();
        async move {
            pods.create(&PostParams::default(), &pod(n).map_err(kube::Error::SerdeError)?)
                .await
        }
    };
    let made: Vec<_> = futures::stream::iter(0..PODS)
        .map(create)
        .buffer_unordered(WRITERS)
        .collect()
        .await;
    report(
        "pods created",
        made.iter().filter(|r| r.is_ok()).count(),
        started.elapsed(),
    );
    let started = Instant::now();
    let patch = |n| {
        let pods = pods.clone();
        let patch = json!({"spec": {"containers": [{"name": "c", "image": "web:2"}]}});
        async move {
            pods.patch(&format!("p{n}"), &PatchParams::default(), &Patch::Strategic(&patch))
                .await
        }
    };
    let made: Vec<_> = futures::stream::iter(0..PODS)
        .map(patch)
        .buffer_unordered(WRITERS)
        .collect()
        .await;
    report(
        "images patched",
        made.iter().filter(|r| r.is_ok()).count(),
        started.elapsed(),
    );
    for watcher in watchers {
        watcher.await?;
    }
    report("  … and seen by all watchers", PODS, started.elapsed());
    let started = Instant::now();
    for n in 0..PODS {
        pods.get(&format!("p{n}")).await?;
    }
    report("pods read, one by one", PODS, started.elapsed());
    let started = Instant::now();
    let list = pods.list(&ListParams::default()).await?;
    report("pods listed", list.items.len(), started.elapsed());
    Ok(())
}
