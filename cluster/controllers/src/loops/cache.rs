//! One cache per kind, shared by all loops: trimmed objects with secondary indexes, fed by one watch.
//!
//! Unlike kube-runtime's reflector store it finds objects by owner or node, tells subscribers what an object was before, and
//! knows how far it has come, so that a loop can wait until it sees its own writes.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use futures::StreamExt;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::objects::{Index, Key, Kind};

/// What happened to an object: `new` is none when it is gone, `old` is none when it was unknown.
pub(crate) struct Change<'a, K> {
    pub(crate) old: Option<&'a K>,
    pub(crate) new: Option<&'a K>,
}

impl<K> Change<'_, K> {
    /// The object before and after, whichever exist.
    pub(crate) fn each(&self) -> impl Iterator<Item = &K> {
        self.old.into_iter().chain(self.new)
    }
}

/// Called for every change; returns false when it is to be called no more.
type Subscriber<K> = Box<dyn Fn(&Change<'_, K>) -> bool + Send + Sync>;

/// How far the watch has come.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progress {
    /// Highest resourceVersion seen. The API server sends the events of one kind in this order.
    revision: u64,
    /// Lists begun so far, and the number of the last that was completed (1 is the first).
    lists_begun: u64,
    lists_done: u64,
}

struct State<K> {
    objects: HashMap<Key, Arc<K>>,
    by_index: HashMap<Index, HashSet<Key>>,
}

/// Trimmed objects of one kind.
pub(crate) struct Cache<K> {
    state: RwLock<State<K>>,
    subscribers: Mutex<Vec<Subscriber<K>>>,
    progress: watch::Sender<Progress>,
}

/// Something a loop has written and must see before it decides again.
#[derive(Clone, Debug)]
pub(crate) enum Written {
    /// A create or update that was acknowledged with this resourceVersion.
    Revision(u64),
    /// A deletion: seen when the object is gone, replaced or marked.
    Deletion { key: Key, uid: String },
}

impl<K: Kind> Cache<K> {
    pub(crate) fn new() -> Arc<Self> {
        let state = State {
            objects: HashMap::new(),
            by_index: HashMap::new(),
        };
        Arc::new(Self {
            state: RwLock::new(state),
            subscribers: Mutex::new(Vec::new()),
            progress: watch::Sender::new(Progress::default()),
        })
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.state
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .objects
            .get(key)
            .cloned()
    }

    /// Everything, in no order.
    pub(crate) fn all(&self) -> Vec<Arc<K>> {
        self.state
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .objects
            .values()
            .cloned()
            .collect()
    }

    /// The objects under an index key, ordered by name so that plans do not depend on hashing.
    pub(crate) fn by_index(&self, index: &Index) -> Vec<Arc<K>> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let Some(keys) = state.by_index.get(index) else {
            return Vec::new();
        };
        let mut keys: Vec<&Key> = keys.iter().collect();
        keys.sort();
        keys.into_iter()
            .filter_map(|key| state.objects.get(key).cloned())
            .collect()
    }

    /// Calls `subscriber` for everything known now (as new), and for every change from now on, until it returns false.
    pub(crate) fn subscribe(&self, subscriber: impl Fn(&Change<'_, K>) -> bool + Send + Sync + 'static) {
        // Locked throughout: a change in between waits, and is then told twice rather than never.
        let mut subscribers = self.subscribers.lock().unwrap_or_else(PoisonError::into_inner);
        for object in self.all() {
            subscriber(&Change {
                old: None,
                new: Some(&object),
            });
        }
        subscribers.push(Box::new(subscriber));
    }

    /// Waits until the first list is complete.
    pub(crate) async fn ready(&self) {
        let mut progress = self.progress.subscribe();
        // An error means that the sender is gone, and the sender lives as long as `self`.
        let _ = progress.wait_for(|now| now.lists_done > 0).await;
    }

    /// The number of lists begun: a list that begins later than a write shows its effect.
    pub(crate) fn lists_begun(&self) -> u64 {
        self.progress.borrow().lists_begun
    }

    /// Waits until the cache shows `written`, which happened when `lists_begun` lists had begun.
    pub(crate) async fn saw(&self, written: &Written, lists_begun: u64) {
        let mut progress = self.progress.subscribe();
        let _ = progress
            .wait_for(|now| {
                now.lists_done > lists_begun
                    || match written {
                        Written::Revision(revision) => now.revision >= *revision,
                        Written::Deletion { key, uid } => self.get(key).is_none_or(|object| {
                            object.meta().uid.as_ref() != Some(uid) || object.meta().deletion_timestamp.is_some()
                        }),
                    }
            })
            .await;
    }

    /// Feeds the cache from a watch until shutdown. kube-runtime lists again, with back-off, whenever the watch breaks.
    pub(crate) async fn feed(self: Arc<Self>, client: Client, config: watcher::Config, shutdown: CancellationToken) {
        let mut events = std::pin::pin!(watcher(Api::<K>::all(client), config).default_backoff());
        let mut listed = HashMap::new();
        loop {
            let event = tokio::select! {
                () = shutdown.cancelled() => return,
                event = events.next() => event,
            };
            match event {
                None => return,
                Some(Err(error)) => tracing::debug!(kind = %K::kind(&()), %error, "watch interrupted"),
                Some(Ok(event)) => self.apply(event, &mut listed),
            }
        }
    }

    fn apply(&self, event: watcher::Event<K>, listed: &mut HashMap<Key, K>) {
        match event {
            watcher::Event::Init => {
                listed.clear();
                self.progress.send_modify(|progress| progress.lists_begun += 1);
            }
            watcher::Event::InitApply(mut object) => {
                object.trim();
                listed.insert(Key::of(object.meta()), object);
            }
            watcher::Event::InitDone => {
                let listed = std::mem::take(listed);
                let gone: Vec<Key> = {
                    let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
                    state
                        .objects
                        .keys()
                        .filter(|key| !listed.contains_key(*key))
                        .cloned()
                        .collect()
                };
                for key in gone {
                    self.set(key, None);
                }
                let revision = listed
                    .values()
                    .map(|object| revision_of(object.meta()))
                    .max()
                    .unwrap_or(0);
                for (key, object) in listed {
                    self.set(key, Some(object));
                }
                self.progress.send_modify(|progress| {
                    progress.revision = progress.revision.max(revision);
                    progress.lists_done = progress.lists_begun;
                });
            }
            watcher::Event::Apply(mut object) => {
                object.trim();
                let revision = revision_of(object.meta());
                self.set(Key::of(object.meta()), Some(object));
                self.progress
                    .send_modify(|progress| progress.revision = progress.revision.max(revision));
            }
            watcher::Event::Delete(object) => {
                let revision = revision_of(object.meta());
                self.set(Key::of(object.meta()), None);
                self.progress
                    .send_modify(|progress| progress.revision = progress.revision.max(revision));
            }
        }
    }

    /// Puts or removes one object, keeps the indexes, tells the subscribers.
    pub(crate) fn set(&self, key: Key, object: Option<K>) {
        let new = object.map(Arc::new);
        let old = {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            let old = match &new {
                Some(object) => state.objects.insert(key.clone(), object.clone()),
                None => state.objects.remove(&key),
            };
            let before = old.as_ref().map(|object| object.indexes()).unwrap_or_default();
            let after = new.as_ref().map(|object| object.indexes()).unwrap_or_default();
            for index in before.iter().filter(|index| !after.contains(index)) {
                if let Some(keys) = state.by_index.get_mut(index) {
                    keys.remove(&key);
                    if keys.is_empty() {
                        state.by_index.remove(index);
                    }
                }
            }
            for index in after.into_iter().filter(|index| !before.contains(index)) {
                state.by_index.entry(index).or_default().insert(key.clone());
            }
            old
        };
        let same = match (&old, &new) {
            (Some(old), Some(new)) => {
                old.meta().resource_version.is_some() && old.meta().resource_version == new.meta().resource_version
            }
            (None, None) => true,
            _ => false,
        };
        if !same {
            let change = Change {
                old: old.as_deref(),
                new: new.as_deref(),
            };
            let mut subscribers = self.subscribers.lock().unwrap_or_else(PoisonError::into_inner);
            subscribers.retain(|subscriber| subscriber(&change));
        }
    }
}

/// The resourceVersion as a number, 0 if it is none. It is one here, and from Kubernetes 1.35 on by contract (KEP-5504).
pub(crate) fn revision_of(meta: &kube::api::ObjectMeta) -> u64 {
    meta.resource_version
        .as_deref()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::ReplicaSet;
    use std::time::Duration;

    fn replica_set(name: &str, revision: u64, owner: Option<&str>) -> ReplicaSet {
        let owners: Vec<_> = owner
            .map(
                |uid| serde_json::json!({"apiVersion": "v1", "kind": "X", "name": "x", "uid": uid, "controller": true}),
            )
            .into_iter()
            .collect();
        serde_json::from_value(
            serde_json::json!({"metadata": {"name": name, "namespace": "n", "uid": name,
            "resourceVersion": revision.to_string(), "ownerReferences": owners}}),
        )
        .unwrap()
    }

    #[test]
    fn indexes_follow_changes() {
        let cache = Cache::new();
        let mut listed = HashMap::new();
        cache.apply(watcher::Event::Apply(replica_set("a", 1, None)), &mut listed);
        assert_eq!(cache.by_index(&Index::Orphan("n".into())).len(), 1);
        cache.apply(watcher::Event::Apply(replica_set("a", 2, Some("u"))), &mut listed);
        assert_eq!(cache.by_index(&Index::Orphan("n".into())).len(), 0);
        assert_eq!(cache.by_index(&Index::Owner("u".into())).len(), 1);
        cache.apply(watcher::Event::Init, &mut listed);
        cache.apply(watcher::Event::InitDone, &mut listed);
        assert!(cache.all().is_empty());
        assert!(cache.state.read().unwrap().by_index.is_empty());
    }

    #[tokio::test]
    async fn own_writes_are_awaited() {
        let cache = Cache::<ReplicaSet>::new();
        let mut listed = HashMap::new();
        let waits = |written: Written| {
            let cache = cache.clone();
            async move {
                tokio::time::timeout(Duration::from_millis(5), cache.saw(&written, 0))
                    .await
                    .is_err()
            }
        };
        cache.set(Key::new("n", "a"), Some(replica_set("a", 1, None)));
        let deletion = Written::Deletion {
            key: Key::new("n", "a"),
            uid: "a".into(),
        };
        assert!(waits(Written::Revision(2)).await);
        assert!(waits(deletion.clone()).await);
        cache.apply(watcher::Event::Apply(replica_set("b", 2, None)), &mut listed);
        assert!(!waits(Written::Revision(2)).await);
        cache.apply(watcher::Event::Delete(replica_set("a", 3, None)), &mut listed);
        assert!(!waits(deletion).await);
        assert!(waits(Written::Revision(9)).await);
        // A list that began later shows everything, whatever its revision.
        cache.apply(watcher::Event::Init, &mut listed);
        cache.apply(watcher::Event::InitDone, &mut listed);
        assert!(!waits(Written::Revision(9)).await);
    }
}
