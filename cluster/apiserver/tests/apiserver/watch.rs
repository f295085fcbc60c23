use std::time::Duration;

use afloat_apiserver::{ApiServer, Options};
use afloat_store::Store;
use futures::{Stream, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use serde_json::json;
use tokio::time::timeout;

use super::{config_map, pod, raw, server};

type Events = std::pin::Pin<Box<dyn Stream<Item = Result<WatchEvent<ConfigMap>, kube::Error>> + Send>>;

async fn next(events: &mut Events) -> WatchEvent<ConfigMap> {
    timeout(Duration::from_secs(60), events.next())
        .await
        .expect("in time")
        .expect("not ended")
        .expect("no error")
}

/// Kind of an event and name of its object.
fn said(event: &WatchEvent<ConfigMap>) -> (&'static str, String) {
    match event {
        WatchEvent::Added(o) => ("ADDED", o.metadata.name.clone().unwrap()),
        WatchEvent::Modified(o) => ("MODIFIED", o.metadata.name.clone().unwrap()),
        WatchEvent::Deleted(o) => ("DELETED", o.metadata.name.clone().unwrap()),
        WatchEvent::Bookmark(b) => ("BOOKMARK", b.metadata.resource_version.clone()),
        WatchEvent::Error(e) => ("ERROR", e.reason.clone()),
    }
}

#[tokio::test]
async fn a_watch_tells_every_change_in_order() {
    let (_server, client) = server().await;
    let maps = Api::<ConfigMap>::namespaced(client, "default");
    maps.create(&PostParams::default(), &config_map("a")).await.unwrap();
    let mut events: Events = Box::pin(maps.watch(&WatchParams::default(), "0").await.unwrap());
    assert_eq!(said(&next(&mut events).await), ("ADDED", "a".into()));
    maps.create(&PostParams::default(), &config_map("b")).await.unwrap();
    let patch = json!({"data": {"x": "y"}});
    maps.patch("a", &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .unwrap();
    maps.delete("b", &DeleteParams::default()).await.unwrap();
    let mut told = Vec::new();
    for _ in 0..3 {
        told.push(said(&next(&mut events).await));
    }
    assert_eq!(
        told,
        [("ADDED", "b".into()), ("MODIFIED", "a".into()), ("DELETED", "b".into())]
    );
}

#[tokio::test]
async fn what_enters_or_leaves_a_selection_is_added_or_deleted() {
    let (_server, client) = server().await;
    let maps = Api::<ConfigMap>::namespaced(client, "default");
    let mut events: Events = Box::pin(maps.watch(&WatchParams::default().labels("in=yes"), "0").await.unwrap());
    maps.create(&PostParams::default(), &config_map("a")).await.unwrap();
    for label in ["yes", "yes", "no"] {
        let patch = json!({"metadata": {"labels": {"in": label}, "annotations": {"n": format!("{:?}", std::time::Instant::now())}}});
        maps.patch("a", &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .unwrap();
    }
    let version = maps.get("a").await.unwrap().metadata.resource_version;
    assert_eq!(said(&next(&mut events).await), ("ADDED", "a".into()));
    assert_eq!(said(&next(&mut events).await), ("MODIFIED", "a".into()));
    let WatchEvent::Deleted(last) = next(&mut events).await else {
        panic!("left the selection")
    };
    assert_eq!(last.metadata.labels.unwrap().get("in").map(String::as_str), Some("yes"));
    assert_eq!(last.metadata.resource_version, version);
}

#[tokio::test]
async fn a_watch_list_ends_its_beginning_with_a_bookmark() {
    let (_server, client) = server().await;
    let maps = Api::<ConfigMap>::namespaced(client, "default");
    maps.create(&PostParams::default(), &config_map("a")).await.unwrap();
    let params = WatchParams {
        send_initial_events: true,
        ..WatchParams::default()
    };
    let mut events: Events = Box::pin(maps.watch(&params, "").await.unwrap());
    assert_eq!(said(&next(&mut events).await).0, "ADDED");
    let WatchEvent::Bookmark(end) = next(&mut events).await else {
        panic!("a bookmark")
    };
    assert_eq!(
        end.metadata
            .annotations
            .get("k8s.io/initial-events-end")
            .map(String::as_str),
        Some("true")
    );
}

#[tokio::test]
async fn bookmarks_follow_a_quiet_watch() {
    let options = Options {
        bookmark_interval: Duration::from_millis(100),
        ..Options::default()
    };
    let server = ApiServer::new(Store::memory(), options).await.unwrap();
    let maps = Api::<ConfigMap>::namespaced(server.client("tester"), "default");
    let mut events: Events = Box::pin(maps.watch(&WatchParams::default(), "0").await.unwrap());
    let pods = Api::<Pod>::namespaced(server.client("tester"), "default");
    let made = pods.create(&PostParams::default(), &pod("p")).await.unwrap();
    let (kind, revision) = said(&next(&mut events).await);
    assert_eq!((kind, Some(revision)), ("BOOKMARK", made.metadata.resource_version));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_bookmark_is_ahead_of_an_event() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    let options = Options {
        bookmark_interval: Duration::from_millis(1),
        ..Options::default()
    };
    let server = ApiServer::new(store, options).await.unwrap();
    let maps = Api::<ConfigMap>::namespaced(server.client("tester"), "default");
    let mut events: Events = Box::pin(maps.watch(&WatchParams::default(), "0").await.unwrap());
    let writer = tokio::spawn(async move {
        for n in 0..150 {
            let map = config_map(&format!("m{n}"));
            maps.create(&PostParams::default(), &map).await.unwrap();
        }
    });
    let (mut newest, mut left, mut bookmarks) = (0, 150, 0);
    while left > 0 {
        match next(&mut events).await {
            WatchEvent::Added(map) => {
                left -= 1;
                let revision: u64 = map.metadata.resource_version.unwrap().parse().unwrap();
                assert!(revision > newest, "an event at {revision} after {newest} was said");
                newest = revision;
            }
            WatchEvent::Bookmark(bookmark) => {
                bookmarks += 1;
                let revision: u64 = bookmark.metadata.resource_version.parse().unwrap();
                assert!(revision >= newest, "a bookmark at {revision} after {newest}");
                newest = revision;
            }
            other => panic!("{other:?}"),
        }
    }
    writer.await.unwrap();
    assert!(bookmarks > 0);
}

#[tokio::test]
async fn forgotten_history_is_410() {
    let (store, options) = (Store::memory(), Options::default());
    let server = ApiServer::new(store.clone(), options).await.unwrap();
    let client = server.client("tester");
    let maps = Api::<ConfigMap>::namespaced(client.clone(), "default");
    let first = maps.create(&PostParams::default(), &config_map("a")).await.unwrap();
    for n in 0..5 {
        maps.create(&PostParams::default(), &config_map(&format!("b{n}")))
            .await
            .unwrap();
    }
    store.compact(store.revision());
    let from = first.metadata.resource_version.unwrap();
    let uri = format!("/api/v1/namespaces/default/configmaps?watch=1&timeoutSeconds=1&resourceVersion={from}");
    let mut body = String::new();
    for _ in 0..50 {
        body = raw(&client, "GET", &uri, &[], "").await.1;
        if body.contains("ERROR") {
            break;
        }
    }
    assert!(
        body.contains("\"ERROR\"") && body.contains("\"code\":410") && body.contains("Expired"),
        "{body}"
    );
}

#[tokio::test]
async fn a_watch_ends_at_its_timeout() {
    let (_server, client) = server().await;
    let maps = Api::<ConfigMap>::namespaced(client, "default");
    let events = maps.watch(&WatchParams::default().timeout(1), "0").await.unwrap();
    let all = timeout(Duration::from_secs(60), events.try_collect::<Vec<_>>())
        .await
        .unwrap()
        .unwrap();
    assert!(all.is_empty());
}

#[tokio::test]
async fn a_reflector_sees_all_namespaces() {
    use kube::runtime::{WatchStreamExt, watcher};
    let (_server, client) = server().await;
    let all = Api::<ConfigMap>::all(client.clone());
    let mut objects = Box::pin(
        watcher(all, watcher::Config::default().streaming_lists())
            .default_backoff()
            .applied_objects(),
    );
    for namespace in ["default", "kube-system"] {
        let maps = Api::<ConfigMap>::namespaced(client.clone(), namespace);
        maps.create(&PostParams::default(), &config_map("a")).await.unwrap();
        let seen = timeout(Duration::from_secs(60), objects.next())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        assert_eq!(seen.metadata.namespace.as_deref(), Some(namespace));
    }
}
