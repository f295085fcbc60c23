//! That the faults are real: seen from a part, and from somebody who has another way to the API server.

use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{ListParams, PostParams, WatchEvent, WatchParams};
use serde_json::json;

use super::*;

/// A server that lives as long as its folder.
async fn server() -> (ApiServer, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let store = afloat_store::Store::open(&dir.path().join("store.redb")).unwrap();
    (
        ApiServer::new(store, afloat_apiserver::Options::default())
            .await
            .unwrap(),
        dir,
    )
}

fn maps(client: kube::Client) -> Api<ConfigMap> {
    Api::namespaced(client, "default")
}

async fn create(api: &Api<ConfigMap>, name: &str) -> kube::Result<ConfigMap> {
    let map = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
    api.create(&PostParams::default(), &map).await
}

async fn names(api: &Api<ConfigMap>) -> Vec<String> {
    let list = api.list(&ListParams::default()).await.unwrap();
    list.items.into_iter().filter_map(|map| map.metadata.name).collect()
}

#[tokio::test]
async fn a_server_that_refuses_cuts_watches_and_takes_nothing() {
    let (server, _dir) = server().await;
    let faults = Faults::new();
    let (part, direct) = (
        maps(faults.client(&server, User::master("part"))),
        maps(server.client("direct")),
    );
    let mut watch = part.watch(&WatchParams::default(), "0").await.unwrap().boxed();
    create(&part, "a").await.unwrap();
    assert!(matches!(watch.try_next().await, Ok(Some(WatchEvent::Added(_)))));
    faults.set_reach(Reach::Refused);
    assert!(watch.try_next().await.is_err(), "an open watch is cut");
    assert!(create(&part, "b").await.is_err());
    assert_eq!(
        names(&direct).await,
        ["a"],
        "nothing came through, and others still see the server"
    );
    faults.set_reach(Reach::Up);
    create(&part, "c").await.unwrap();
}

#[tokio::test]
async fn from_a_silent_server_all_comes_later() {
    let (server, _dir) = server().await;
    let faults = Faults::new();
    let (part, direct) = (
        maps(faults.client(&server, User::master("part"))),
        maps(server.client("direct")),
    );
    let mut watch = part.watch(&WatchParams::default(), "0").await.unwrap().boxed();
    faults.set_reach(Reach::Silent);
    create(&direct, "a").await.unwrap();
    {
        let mut late = std::pin::pin!(futures::future::join(watch.try_next(), create(&part, "b")));
        // Both have been tried, and neither has come through while the other client went there and back.
        assert!(futures::poll!(&mut late).is_pending());
        assert_eq!(names(&direct).await, ["a"]);
        assert!(futures::poll!(&mut late).is_pending());
        faults.set_reach(Reach::Up);
        let (event, created) = late.await;
        assert!(matches!(event, Ok(Some(WatchEvent::Added(_)))));
        created.unwrap();
    }
    assert_eq!(names(&direct).await, ["a", "b"]);
}

/// A part that writes a thing of a new name in each life, and then another one.
fn writer(server: &ApiServer, faults: &Faults, stop: &CancellationToken, blow: Option<Blow>) -> Arc<Part> {
    let lives = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let start: StartPart = Box::new(move |client| {
        let life = lives.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Box::pin(async move {
            for step in ["first", "second"] {
                // What is answered is never heard of by who dies of it.
                if create(&maps(client.clone()), &format!("{life}-{step}")).await.is_err() {
                    break;
                }
            }
            std::future::pending::<()>().await;
        })
    });
    let run = faults.supervise("writer", server, User::master("writer"), start, stop.clone());
    let part = faults.part("writer").unwrap();
    part.set_blow(blow);
    tokio::spawn(run);
    part
}

async fn third_kill(part: &Part) {
    while part.kills() < 3 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_dies_at_every_write_makes_one_in_each_life() {
    for blow in [Blow::After(1), Blow::Before(2)] {
        let (server, _dir) = server().await;
        let (faults, stop) = (Faults::new(), CancellationToken::new());
        let part = writer(&server, &faults, &stop, Some(blow));
        third_kill(&part).await;
        stop.cancel();
        let seen = names(&maps(server.client("direct"))).await;
        assert!(seen.contains(&"2-first".to_owned()), "{blow:?}: {seen:?}");
        assert!(!seen.iter().any(|name| name.ends_with("second")), "{blow:?}: {seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_killed_is_gone_until_revived() {
    let (server, _dir) = server().await;
    let (faults, stop) = (Faults::new(), CancellationToken::new());
    let part = writer(&server, &faults, &stop, None);
    let direct = maps(server.client("direct"));
    let second = async |life: u64| {
        while !names(&direct).await.contains(&format!("{life}-second")) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    second(0).await;
    part.kill();
    while part.kills() < 1 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(names(&direct).await, ["0-first", "0-second"]);
    part.revive();
    second(1).await;
    stop.cancel();
}
