use std::sync::Arc;

use afloat_store::{Expect, Store};
use bytes::Bytes;
use serde_json::{Value, json};

use super::*;

/// The names below `/a/`, and how often all were read.
#[derive(Default)]
struct Names(Vec<String>, usize);

impl Follows for Names {
    fn put(&mut self, key: &str, _object: &Value) {
        self.removed(key, &Value::Null);
        self.0.push(key.to_owned());
    }

    fn removed(&mut self, key: &str, _last: &Value) {
        self.0.retain(|known| known != key);
    }

    fn clear(&mut self) {
        self.0.clear();
        self.1 += 1;
    }
}

async fn put(store: &Store, key: &str, object: Value) {
    let bytes = Bytes::from(object.to_string());
    let expect = store
        .get(key)
        .map_or(Expect::Absent, |entry| Expect::Revision(entry.revision));
    store.put(key, expect, Box::new(move |_| bytes)).await.unwrap();
}

async fn delete(store: &Store, key: &str) {
    let last = store.get(key).unwrap().value;
    store.delete(key, None, Box::new(move |_| last)).await.unwrap();
}

#[tokio::test]
async fn a_state_is_as_far_as_the_store_whenever_it_is_looked_at() {
    let store = Store::memory();
    put(&store, "/a/1", json!({})).await;
    let names = Followed::new(store.clone(), "/a/".into(), Names::default()).unwrap();
    let seen = || names.with(|state| (state.0.join(" "), state.1));
    assert_eq!(seen(), ("/a/1".into(), 1));
    put(&store, "/a/2", json!({})).await;
    put(&store, "/b/1", json!({})).await;
    delete(&store, "/a/1").await;
    assert_eq!(seen(), ("/a/2".into(), 1));
    // What it has not seen is forgotten: it reads all of it again.
    put(&store, "/a/3", json!({})).await;
    delete(&store, "/a/2").await;
    store.compact(store.revision());
    assert_eq!(seen(), ("/a/3".into(), 2));
    put(&store, "/a/4", json!({})).await;
    assert_eq!(seen(), ("/a/3 /a/4".into(), 2));
    store.close().await;
    assert_eq!(seen(), ("/a/3 /a/4".into(), 2), "of a closed store, what there was");
}

#[tokio::test]
async fn what_cannot_be_read_is_named_at_the_start() {
    let store = Store::memory();
    store
        .put("/a/1", Expect::Absent, Box::new(|_| Bytes::from_static(b"{")))
        .await
        .unwrap();
    let Err(Error::Corrupt { key, .. }) = Followed::new(store, "/a/".into(), Names::default()) else {
        panic!("read")
    };
    assert_eq!(key, "/a/1");
}

fn service(name: &str, ip: &str, node_port: u16) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "d", "uid": name},
        "spec": {"type": "NodePort", "clusterIP": ip, "ports": [{"port": 80, "nodePort": node_port}]},
    })
}

/// Reserves an address and a port for a Service; why not, if it cannot have them.
fn reserve(all: &Arc<Followed<Addresses>>, name: &str, ip: &str, port: u16) -> Result<Reservation, String> {
    let take = |taking: &mut Taking<'_>| {
        taking.ip(Some(ip.parse().unwrap()))?;
        taking.port("p", port, "TCP").map(drop)
    };
    let owner = owner(&service(name, ip, port));
    all.reserve(owner, take).map_err(|error| error.message)
}

#[tokio::test]
async fn an_address_is_taken_while_it_is_stored_or_about_to_be() {
    let store = Store::memory();
    let state = Addresses::new(("10.0.0.0".parse().unwrap(), 24), 30000..=30010);
    let all = Arc::new(Followed::new(store.clone(), "/s/".into(), state).unwrap());
    let taken = |result: Result<Reservation, String>| result.is_err_and(|why| why.contains("already allocated"));
    let reserved = reserve(&all, "a", "10.0.0.9", 30001).unwrap();
    assert!(taken(reserve(&all, "b", "10.0.0.9", 30002)));
    assert!(taken(reserve(&all, "b", "10.0.0.8", 30001)));
    // A refusal has left nothing behind, and what is given back can be had.
    drop(reserve(&all, "c", "10.0.0.8", 30002).unwrap());
    drop(reserved);
    let reserved = reserve(&all, "b", "10.0.0.9", 30001).unwrap();
    put(&store, "/s/b", service("b", "10.0.0.9", 30001)).await;
    drop(reserved);
    assert!(taken(reserve(&all, "a", "10.0.0.9", 30002)));
    // Its own it may have again, and what it no longer stores is free.
    drop(reserve(&all, "b", "10.0.0.9", 30001).unwrap());
    put(&store, "/s/b", service("b", "10.0.0.9", 30003)).await;
    drop(reserve(&all, "a", "10.0.0.8", 30001).unwrap());
    let reserved = reserve(&all, "a", "10.0.0.8", 30001).unwrap();
    delete(&store, "/s/b").await;
    drop(reserve(&all, "c", "10.0.0.9", 30003).unwrap());
    // Also when all is read anew, writes under way keep what they are about to store.
    delete_history(&store).await;
    assert!(taken(reserve(&all, "c", "10.0.0.8", 30001)));
    drop(reserved);
    drop(reserve(&all, "c", "10.0.0.8", 30001).unwrap());
}

async fn delete_history(store: &Store) {
    put(store, "/s/x", service("x", "10.0.0.77", 30007)).await;
    store.compact(store.revision());
}
