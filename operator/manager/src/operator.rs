//! What the workers share, and what one instance knows of each workload.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use afloat_api::Gates;
use afloat_rollout::pod::launch::Opened;
use afloat_rollout::workload::memo::Memo;
use afloat_watching::{Cache, Ledger, Queue, Writing, Written};
use afloat_words::key::Key;
use jiff::Timestamp;
use kube::Client;

use crate::act::Kind;
use crate::events::Recorder;
use crate::kept::{Claims, CloneSets, Nodes, Pods, Reports, Revisions, Services, Traffics};
use crate::metrics::Metrics;
use crate::progress::Progress;
use crate::roster;

/// Everything that the workers share.
pub(crate) struct Operator {
    pub(crate) client: Client,
    pub(crate) clonesets: Arc<Cache<CloneSets>>,
    pub(crate) pods: Arc<Cache<Pods>>,
    pub(crate) revisions: Arc<Cache<Revisions>>,
    pub(crate) claims: Arc<Cache<Claims>>,
    /// Helps to tell when an update is complete; what it does not know costs time, not safety.
    pub(crate) nodes: Arc<Cache<Nodes>>,
    /// Whose traffic is whose.
    pub(crate) services: Arc<Cache<Services>>,
    /// What the nodes' proxies do, where agents report it.
    pub(crate) traffic: Arc<Cache<Traffics>>,
    /// What became of rollouts, where the cluster has such objects.
    pub(crate) reports: Arc<Cache<Reports>>,
    /// Whether it has, and they are all here.
    pub(crate) keeps_reports: AtomicBool,
    pub(crate) queue: Arc<Queue>,
    /// What each workload's rounds have written and the caches do not show yet.
    pub(crate) ledger: Arc<Ledger>,
    /// Workloads that wait for what proxies do.
    pub(crate) observing: Arc<Mutex<BTreeSet<Key>>>,
    /// What is known of each workload beyond what the cluster shows.
    pub(crate) memories: Mutex<HashMap<Key, Memory>>,
    /// Whether the cluster can resize pods.
    pub(crate) resizes: bool,
    /// What OpenKruise's feature gates say.
    pub(crate) gates: Gates,
    pub(crate) recorder: Recorder,
    pub(crate) metrics: Metrics,
}

/// What one instance knows of a workload beyond what the cluster shows. The next leader begins without it: that costs
/// time or a write that changes nothing, never safety.
#[derive(Default)]
pub(crate) struct Memory {
    /// When the status was last written.
    pub(crate) status_written: Option<Instant>,
    /// How far pods with a launch priority were let start, by uid.
    pub(crate) opened: Opened,
    /// When a write that took a pod out of service was answered, by uid, and the pod's name.
    pub(crate) drains: BTreeMap<String, (Timestamp, Arc<str>)>,
    /// How long things take.
    pub(crate) progress: Progress,
    /// What the last round found out.
    pub(crate) memo: Memo,
    /// Its pods, as the last round saw them.
    pub(crate) pods: Option<roster::Kept>,
    /// Pods that were deleted lately: their revisions by UID, and when.
    pub(crate) departed: BTreeMap<String, (String, Instant)>,
}

impl Operator {
    /// Reads or changes what is known of a workload.
    pub(crate) fn with_memory<T>(&self, key: &Key, f: impl FnOnce(&mut Memory) -> T) -> T {
        let mut memories = self.memories.lock().unwrap_or_else(PoisonError::into_inner);
        f(memories.entry(key.clone()).or_default())
    }

    /// From now on, what proxies do asks for another round of this workload; or no longer.
    pub(crate) fn observe(&self, key: &Key, wanted: bool) {
        let mut all = self.observing.lock().unwrap_or_else(PoisonError::into_inner);
        if wanted {
            all.insert(key.clone());
        } else {
            all.remove(key);
        }
    }

    /// Notes a write that was answered, or that will not be.
    pub(crate) fn wrote(&self, writing: &Writing<'_>, kind: Kind, written: Written) {
        match kind {
            Kind::CloneSet => writing.wrote(&self.clonesets, written),
            Kind::Pod => writing.wrote(&self.pods, written),
            Kind::Revision => writing.wrote(&self.revisions, written),
            Kind::Claim => writing.wrote(&self.claims, written),
            Kind::Report => writing.wrote(&self.reports, written),
        }
    }

    /// Forgets a workload that is gone.
    pub(crate) fn forget(&self, key: &Key) {
        self.observe(key, false);
        self.ledger.forget(key);
        self.memories.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        self.metrics.gone(key);
    }
}
