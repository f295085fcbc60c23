//! Figures about the operator itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use afloat_rollout::workload::observed::Phases;
use afloat_words::key::Key;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::round::act::Outcome;
use crate::webhook::Lacks;

/// Counters and histograms; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    writes: Family<WriteLabels, Counter>,
    again: Counter,
    failures: Counter,
    duration: Histogram,
    leading: Gauge,
    queued: Family<KindLabel, Gauge>,
    lag: Histogram,
    rollouts: Histogram,
    phases: Family<PhaseLabels, Histogram>,
    pods: Family<PodLabels, Gauge>,
    /// Between taking the lead and having seen everything.
    syncing: AtomicBool,
    webhook: Lacks,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WriteLabels {
    reason: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabels {
    phase: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PodLabels {
    kind: &'static str,
    namespace: String,
    name: String,
    phase: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let duration = Histogram::new(exponential_buckets(0.000_1, 4.0, 10));
        Self {
            inner: Arc::new(Inner {
                writes: Family::default(),
                again: Counter::default(),
                failures: Counter::default(),
                duration,
                leading: Gauge::default(),
                queued: Family::default(),
                lag: Histogram::new(exponential_buckets(0.001, 4.0, 10)),
                rollouts: Histogram::new(exponential_buckets(1.0, 3.0, 10)),
                phases: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.01, 3.0, 11))),
                pods: Family::default(),
                syncing: AtomicBool::new(false),
                webhook: Lacks::default(),
            }),
        }
    }
}

impl Metrics {
    /// Makes them visible in a registry.
    pub fn register(&self, registry: &mut Registry) {
        let inner = &self.inner;
        registry.register(
            "afloat_operator_writes",
            "Writes to the API server by reason and outcome",
            inner.writes.clone(),
        );
        registry.register(
            "afloat_operator_reconcile_failures",
            "Rounds to be tried again",
            inner.failures.clone(),
        );
        registry.register(
            "afloat_operator_reconcile_seconds",
            "Time of one round",
            inner.duration.clone(),
        );
        registry.register(
            "afloat_operator_leading",
            "1 while this instance acts, 0 while it stands by",
            inner.leading.clone(),
        );
        registry.register(
            "afloat_operator_queue_length",
            "Workloads that wait to be looked at",
            inner.queued.clone(),
        );
        registry.register(
            "afloat_operator_writes_again",
            "Writes that met another one which nothing of theirs depended on, and were sent again at once",
            inner.again.clone(),
        );
        registry.register(
            "afloat_operator_cache_lag_seconds",
            "Time from the answer to an own write until the cache had seen it",
            inner.lag.clone(),
        );
        registry.register(
            "afloat_operator_rollout_seconds",
            "Time from a new revision until as many pods as wanted were at it and available",
            inner.rollouts.clone(),
        );
        registry.register(
            "afloat_operator_pod_phase_seconds",
            "Time of one pod in one phase of an in-place update: drain, replace, return",
            inner.phases.clone(),
        );
        registry.register(
            "afloat_operator_pods",
            "Pods of a workload by where they stand: outdated, draining, updating, starting, available",
            inner.pods.clone(),
        );
    }

    /// Writes with that reason that took effect, for tests and benchmarks.
    pub fn writes(&self, reason: &'static str) -> u64 {
        self.inner
            .writes
            .get_or_create(&WriteLabels {
                reason,
                outcome: "done",
            })
            .get()
    }

    /// Writes with that reason that met a changed object.
    pub fn conflicts(&self, reason: &'static str) -> u64 {
        self.inner
            .writes
            .get_or_create(&WriteLabels {
                reason,
                outcome: "conflict",
            })
            .get()
    }

    pub(crate) fn syncing(&self) {
        self.inner.syncing.store(true, Ordering::Relaxed);
    }

    pub(crate) fn leading(&self) {
        self.inner.syncing.store(false, Ordering::Relaxed);
        self.inner.leading.set(1);
    }

    pub(crate) fn stopped(&self) {
        self.inner.syncing.store(false, Ordering::Relaxed);
        self.inner.leading.set(0);
    }

    /// Whether this instance stands by or has seen everything it acts on, and its webhook serves if it has one.
    pub(crate) fn ready(&self) -> bool {
        !self.inner.syncing.load(Ordering::Relaxed) && !self.inner.webhook.anything()
    }

    /// What the webhook lacks.
    pub(crate) fn webhook(&self) -> &Lacks {
        &self.inner.webhook
    }

    pub(crate) fn wrote(&self, reason: &'static str, outcome: &Outcome) {
        let outcome = match outcome {
            Outcome::Done(_) => "done",
            Outcome::Conflict | Outcome::AlreadyExists => "conflict",
            Outcome::Skipped => return,
            Outcome::Refused(_) => "refused",
            Outcome::Unknown(_) => "unknown",
        };
        self.inner.writes.get_or_create(&WriteLabels { reason, outcome }).inc();
    }

    /// A write is sent again.
    pub(crate) fn sent_again(&self) {
        self.inner.again.inc();
    }

    /// An own write was seen.
    pub(crate) fn lagged(&self, time: Duration) {
        self.inner.lag.observe(time.as_secs_f64());
    }

    /// A rollout is done.
    pub(crate) fn rolled_out(&self, time: Duration) {
        self.inner.rollouts.observe(time.as_secs_f64());
    }

    /// A pod has left a phase of its update.
    pub(crate) fn passed(&self, phase: &'static str, time: Duration) {
        self.inner
            .phases
            .get_or_create(&PhaseLabels { phase })
            .observe(time.as_secs_f64());
    }

    /// Where a workload's pods stand.
    pub(crate) fn pods(&self, kind: &'static str, key: &Key, phases: &Phases) {
        for (phase, count) in by_name(phases) {
            let gauge = self.inner.pods.get_or_create(&labels(kind, key, phase));
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// The workload is gone, and so are its figures.
    pub(crate) fn gone(&self, kind: &'static str, key: &Key) {
        for (phase, _) in by_name(&Phases::default()) {
            self.inner.pods.remove(&labels(kind, key, phase));
        }
    }

    /// So many workloads of a kind wait to be looked at.
    pub(crate) fn queued(&self, kind: &'static str, waiting: usize) {
        let gauge = self.inner.queued.get_or_create(&KindLabel { kind });
        gauge.set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }

    pub(crate) fn reconciled(&self, time: Duration, failed: bool) {
        self.inner.duration.observe(time.as_secs_f64());
        if failed {
            self.inner.failures.inc();
        }
    }
}

fn labels(kind: &'static str, key: &Key, phase: &'static str) -> PodLabels {
    PodLabels {
        kind,
        namespace: key.namespace.to_string(),
        name: key.name.to_string(),
        phase,
    }
}

fn by_name(phases: &Phases) -> [(&'static str, usize); 5] {
    [
        ("outdated", phases.outdated),
        ("draining", phases.draining),
        ("updating", phases.updating),
        ("starting", phases.starting),
        ("available", phases.available),
    ]
}
