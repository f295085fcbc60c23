//! What changed since the scheduler looked last.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use afloat_watching::Cache;
use tokio::sync::{Notify, watch};

use crate::context::Context;
use crate::objects::{Key, Kind};

/// What changed since the loop looked last: at most one entry per object.
#[derive(Default)]
pub(super) struct Dirty {
    pub(super) pods: Mutex<HashMap<Key, HashSet<String>>>,
    pub(super) nodes: Mutex<HashSet<Key>>,
    pub(super) wake: Notify,
    /// A claim, volume or class has changed.
    pub(super) storage: AtomicBool,
    /// Counts changes of claims.
    pub(super) claims: watch::Sender<u64>,
}

impl Dirty {
    fn storage_changed(&self) {
        self.storage.store(true, Ordering::Release);
        self.claims.send_modify(|count| *count = count.wrapping_add(1));
        self.wake.notify_one();
    }
}

/// Collects changes from now on, beginning with all that exists.
pub(super) fn watch_changes(context: &Context) -> Arc<Dirty> {
    let dirty = Arc::new(Dirty::default());
    let weak = Arc::downgrade(&dirty);
    context.caches.pods.subscribe(move |change| {
        let Some(dirty) = weak.upgrade() else { return false };
        let mut pods = dirty.pods.lock().unwrap_or_else(PoisonError::into_inner);
        for pod in change.each() {
            pods.entry(Key::of(&pod.metadata))
                .or_default()
                .insert(pod.uid().to_owned());
        }
        drop(pods);
        dirty.wake.notify_one();
        true
    });
    let weak = Arc::downgrade(&dirty);
    context.caches.nodes.subscribe(move |change| {
        let Some(dirty) = weak.upgrade() else { return false };
        // A heartbeat changes nothing that matters here; without this every status write would wake all pods that wait.
        if let (Some(old), Some(new)) = (&change.old, &change.new)
            && old.spec.taints == new.spec.taints
            && old.spec.unschedulable == new.spec.unschedulable
            && old.metadata.labels == new.metadata.labels
            && old.status.allocatable == new.status.allocatable
            && old.status.capacity == new.status.capacity
            && old.metadata.deletion_timestamp == new.metadata.deletion_timestamp
        {
            return true;
        }
        for node in change.each() {
            dirty
                .nodes
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(Key::of(&node.metadata));
        }
        dirty.wake.notify_one();
        true
    });
    watch_storage(&context.caches.claims, &dirty);
    watch_storage(&context.caches.volumes, &dirty);
    watch_storage(&context.caches.classes, &dirty);
    dirty
}

fn watch_storage<K: Kind>(cache: &Cache<K>, dirty: &Arc<Dirty>) {
    let weak = Arc::downgrade(dirty);
    cache.subscribe(move |_| {
        let Some(dirty) = weak.upgrade() else { return false };
        dirty.storage_changed();
        true
    });
}
