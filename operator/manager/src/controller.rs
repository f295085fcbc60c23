//! What one instance knows of one kind: its objects, the queue of those that are to be looked at, and what is known of each beyond
//! what the cluster shows. Kinds share nothing here, so that two workloads of one name are never taken for each other.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use afloat_rollout::pod::launch::Opened;
use afloat_rollout::workload::memo::Memo;
use afloat_watching::{Cache, Ledger, Queue, Writing, Written};
use afloat_words::key::Key;
use jiff::Timestamp;

use crate::follow::{Asked, ask};
use crate::kept::Sets;
use crate::kind::Kind;
use crate::operator::Operator;
use crate::round::act::What;
use crate::round::progress::Progress;
use crate::round::roster;

/// See the module.
pub(crate) struct Controller<K: Kind> {
    pub(crate) operator: Arc<Operator>,
    pub(crate) sets: Arc<Cache<Sets<K>>>,
    pub(crate) queue: Arc<Queue>,
    /// What each workload's rounds have written and the caches do not show yet.
    pub(crate) ledger: Arc<Ledger>,
    /// Workloads that wait for what proxies do.
    pub(crate) observing: Arc<Mutex<BTreeSet<Key>>>,
    /// What is known of each workload beyond what the cluster shows.
    memories: Mutex<HashMap<Key, Memory>>,
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

impl<K: Kind> Controller<K> {
    /// One that knows nothing yet; changes in the caches are put into its queue from now on.
    pub(crate) fn new(operator: &Arc<Operator>) -> Arc<Self> {
        let controller = Self {
            operator: operator.clone(),
            sets: Cache::new(),
            queue: Arc::default(),
            ledger: Arc::default(),
            observing: Arc::default(),
            memories: Mutex::default(),
        };
        ask(&Asked {
            operator,
            sets: &controller.sets,
            queue: &controller.queue,
            ledger: &controller.ledger,
            observing: &controller.observing,
        });
        Arc::new(controller)
    }

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
    pub(crate) fn wrote(&self, writing: &Writing<'_>, what: What, written: Written) {
        let operator = &self.operator;
        match what {
            What::Workload => writing.wrote(&self.sets, written),
            What::Pod => writing.wrote(&operator.pods, written),
            What::Revision => writing.wrote(&operator.revisions, written),
            What::Claim => writing.wrote(&operator.claims, written),
            What::Report => writing.wrote(&operator.reports, written),
        }
    }

    /// Forgets a workload that is gone.
    pub(crate) fn forget(&self, key: &Key) {
        self.observe(key, false);
        self.ledger.forget(key);
        self.memories.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        self.operator.configs.forget(K::KIND, key);
        self.operator.metrics.gone(K::KIND, key);
    }
}
