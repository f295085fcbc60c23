//! One watch per kind, and a cache of the trimmed objects that it delivers. A cache also knows how far it has seen, so
//! that a controller can wait until its own writes are in it.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use afloat_rollout::texts::Pool;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::Metadata;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{Config, Event, watcher};
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::queue::Urgency;

/// Namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    /// Namespace.
    pub(crate) namespace: Arc<str>,
    /// Name.
    pub(crate) name: Arc<str>,
}

impl Key {
    /// From metadata.
    pub(crate) fn of(meta: &ObjectMeta) -> Self {
        Self {
            namespace: meta.namespace.as_deref().unwrap_or_default().into(),
            name: meta.name.as_deref().unwrap_or_default().into(),
        }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// How far a cache has seen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// Highest resource version in it.
    pub(crate) revision: u64,
    /// When its last complete listing began.
    pub(crate) listed: Option<Instant>,
}

/// An object that a cache keeps.
pub(crate) trait Kept: Sized + Send + Sync + 'static {
    /// The same as it comes from the API server.
    type Wire: Wire;
    /// Keeps what is read of it.
    fn keep(wire: Self::Wire) -> Self;
    /// Where it is.
    fn key(&self) -> Key;
    /// Whether it has that UID, and nobody has deleted it.
    fn alive(&self, uid: &str) -> bool;
    /// Takes the texts that others have, too.
    fn share(&mut self, _texts: &mut Pool) {}
}

/// What kube's watcher asks of an object.
pub(crate) trait Wire:
    k8s_openapi::Resource + Metadata<Ty = ObjectMeta> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
}

impl<K> Wire for K where
    K: k8s_openapi::Resource + Metadata<Ty = ObjectMeta> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
}

/// Objects that are kept as they come.
macro_rules! as_it_comes {
    ($($kind:ty),*) => {$(
        impl Kept for $kind {
            type Wire = Self;
            fn keep(wire: Self) -> Self {
                wire
            }
            fn key(&self) -> Key {
                Key::of(&self.metadata)
            }
            fn alive(&self, uid: &str) -> bool {
                self.metadata.uid.as_deref() == Some(uid) && self.metadata.deletion_timestamp.is_none()
            }
        }
    )*};
}

as_it_comes!(
    afloat_api::CloneSet,
    k8s_openapi::api::apps::v1::ControllerRevision,
    afloat_rollout::cloneset::Claim,
    afloat_rollout::pod::images::Node,
    afloat_rollout::workload::traffic::Service,
    afloat_api::NodeTraffic
);

impl Kept for afloat_api::RolloutReport {
    type Wire = Self;
    fn keep(mut wire: Self) -> Self {
        if wire.status.phase.ended() {
            // Where it was lost is history; how much, and what there was before, is not.
            wire.status.steps = afloat_api::Steps::default();
            wire.status.counters.retain(|counter| counter.lost.total() > 0);
            wire.status.counters.truncate(1);
            wire.status.services.clear();
            wire.status.latency = None;
        }
        wire
    }
    fn key(&self) -> Key {
        Key::of(&self.metadata)
    }
    fn alive(&self, uid: &str) -> bool {
        self.metadata.uid.as_deref() == Some(uid) && self.metadata.deletion_timestamp.is_none()
    }
}

impl Kept for afloat_rollout::pod::Pod {
    type Wire = afloat_rollout::pod::Wire;
    fn keep(wire: Self::Wire) -> Self {
        wire.into()
    }
    fn key(&self) -> Key {
        Key {
            namespace: self.metadata.namespace.shared(),
            name: self.metadata.name.shared(),
        }
    }
    fn alive(&self, uid: &str) -> bool {
        self.metadata.uid == uid && !self.metadata.terminating
    }
    fn share(&mut self, texts: &mut Pool) {
        Self::share(self, texts);
    }
}

/// Objects of one kind, in groups (by owner, for example). Objects without a group are not kept.
pub(crate) struct Cache<K> {
    group_of: fn(&K) -> Option<String>,
    state: Mutex<State<K>>,
    synced: watch::Sender<bool>,
    relist: Notify,
}

struct State<K> {
    objects: HashMap<Key, (Arc<str>, Arc<K>)>,
    groups: HashMap<Arc<str>, BTreeMap<Key, Arc<K>>>,
    /// Texts that many keys and objects share.
    texts: Pool,
    revision: u64,
    listed: Option<Instant>,
    /// A listing in the making, and when it began.
    listing: Option<(Instant, Vec<Arc<K>>)>,
}

impl<K> Cache<K> {
    /// Asks the watch to list everything anew.
    pub(crate) fn relist(&self) {
        self.relist.notify_one();
    }
}

impl<K: Kept> Cache<K> {
    /// An empty cache. `group_of` says in which group an object is kept.
    pub(crate) fn new(group_of: fn(&K) -> Option<String>) -> Self {
        let state = State {
            objects: HashMap::new(),
            groups: HashMap::new(),
            texts: Pool::default(),
            revision: 0,
            listed: None,
            listing: None,
        };
        Self {
            group_of,
            state: Mutex::new(state),
            synced: watch::Sender::new(false),
            relist: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Turns true after the first complete listing.
    pub(crate) fn synced(&self) -> watch::Receiver<bool> {
        self.synced.subscribe()
    }

    /// How far it has seen.
    pub(crate) fn seen(&self) -> Seen {
        let state = self.lock();
        Seen {
            revision: state.revision,
            listed: state.listed,
        }
    }

    /// One object.
    pub(crate) fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.lock().objects.get(key).map(|(_, object)| object.clone())
    }

    /// A group, in order of names.
    pub(crate) fn group(&self, group: &str) -> Vec<Arc<K>> {
        self.lock()
            .groups
            .get(group)
            .map(|group| group.values().cloned().collect())
            .unwrap_or_default()
    }

    /// Follows the API server until `shutdown`. `changed` is called after each change, with the object as it is now or,
    /// if it is gone, as it was last; calmly for what was only listed.
    pub(crate) async fn run(
        self: Arc<Self>,
        api: Api<K::Wire>,
        changed: impl Fn(&K, Urgency) + Send + 'static,
        shutdown: CancellationToken,
    ) {
        loop {
            let stream = watcher(api.clone(), Config::default()).default_backoff();
            let mut stream = std::pin::pin!(stream.into_stream());
            loop {
                let event = tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = self.relist.notified() => break,
                    event = stream.next() => event,
                };
                match event {
                    Some(Ok(event)) => self.take(event, &changed),
                    Some(Err(error)) => {
                        let kind = <K::Wire as k8s_openapi::Resource>::KIND;
                        tracing::warn!(kind, %error, "watch failed, trying again");
                    }
                    None => break,
                }
            }
        }
    }

    fn take(&self, event: Event<K::Wire>, changed: &impl Fn(&K, Urgency)) {
        match event {
            Event::Apply(object) => {
                let object = self.trim(object);
                self.lock().put(self.group_of, &object);
                changed(&object, Urgency::Now);
            }
            Event::Delete(object) => {
                let object = self.trim(object);
                self.lock().remove(&object.key());
                changed(&object, Urgency::Now);
            }
            Event::Init => self.lock().listing = Some((Instant::now(), Vec::new())),
            Event::InitApply(object) => {
                let object = self.trim(object);
                if (self.group_of)(&object).is_some()
                    && let Some((_, list)) = &mut self.lock().listing
                {
                    list.push(object);
                }
            }
            Event::InitDone => {
                let touched = self.lock().replace(self.group_of);
                for object in touched {
                    changed(&object, Urgency::Calm);
                }
                self.synced.send_replace(true);
            }
        }
    }

    /// Drops what nobody reads and notes the version.
    fn trim(&self, mut object: K::Wire) -> Arc<K> {
        let meta = object.metadata_mut();
        meta.managed_fields = None;
        meta.generate_name = None;
        meta.self_link = None;
        if let Some(annotations) = &mut meta.annotations {
            annotations.remove(afloat_rollout::pod::LAST_APPLIED);
        }
        let revision = revision_of(meta);
        let mut object = K::keep(object);
        let mut state = self.lock();
        state.revision = state.revision.max(revision);
        if (self.group_of)(&object).is_some() {
            object.share(&mut state.texts);
        }
        drop(state);
        Arc::new(object)
    }
}

impl<K: Kept> State<K> {
    fn put(&mut self, group_of: fn(&K) -> Option<String>, object: &Arc<K>) {
        let mut key = object.key();
        self.remove(&key);
        if let Some(group) = group_of(object) {
            key.namespace = self.texts.share(&key.namespace);
            let group: Arc<str> = match self.groups.get_key_value(group.as_str()) {
                Some((known, _)) => known.clone(),
                None => group.into(),
            };
            let members = self.groups.entry(group.clone()).or_default();
            members.insert(key.clone(), object.clone());
            self.objects.insert(key, (group, object.clone()));
        }
    }

    fn remove(&mut self, key: &Key) -> Option<Arc<K>> {
        let (group, object) = self.objects.remove(key)?;
        if let Some(members) = self.groups.get_mut(&group) {
            members.remove(key);
            if members.is_empty() {
                self.groups.remove(&group);
            }
        }
        Some(object)
    }

    /// Makes the listing the content; returns everything old and new.
    fn replace(&mut self, group_of: fn(&K) -> Option<String>) -> Vec<Arc<K>> {
        let Some((began, list)) = self.listing.take() else {
            return Vec::new();
        };
        let mut touched: Vec<_> = self.objects.drain().map(|(_, (_, object))| object).collect();
        self.groups.clear();
        for object in &list {
            self.put(group_of, object);
        }
        self.listed = Some(began);
        touched.extend(list);
        touched
    }
}

/// Resource versions are numbers in every API server that this operator knows; text that is none counts as 0.
pub(crate) fn revision_of(meta: &ObjectMeta) -> u64 {
    meta.resource_version
        .as_deref()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}
