//! What the collector and its monitors share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use afloat_watching::{Queue, Urgency};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use tokio::sync::Notify;

use crate::loops::discovery::Discovered;

use super::graph::Graph;

/// What the collector and its monitors share.
pub(super) struct Shared {
    pub(super) graph: Mutex<Graph>,
    /// Uids of objects to look at.
    pub(super) queue: Queue<String>,
    /// Kinds by apiVersion (of any served version of the group) and kind.
    pub(super) kinds: Mutex<Vec<Arc<Discovered>>>,
    /// A custom kind came or went.
    pub(super) kinds_changed: Notify,
}

impl Shared {
    pub(super) fn graph(&self) -> MutexGuard<'_, Graph> {
        self.graph.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn look_at(&self, uids: Vec<String>) {
        for uid in uids {
            self.queue.add(uid, Urgency::Now);
        }
    }

    /// The kind of an owner reference, by group and kind: the version written there need not be the one we watch.
    pub(super) fn kind(&self, owner: &OwnerReference) -> Option<Arc<Discovered>> {
        let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
        let kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        kinds
            .iter()
            .find(|kind| kind.resource.group == group && kind.resource.kind == owner.kind)
            .cloned()
    }
}
