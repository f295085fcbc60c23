//! Figures about the operator itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::act::Outcome;

/// Counters and histograms; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    writes: Family<WriteLabels, Counter>,
    failures: Counter,
    duration: Histogram,
    leading: Gauge,
    /// Between taking the lead and having seen everything.
    syncing: AtomicBool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WriteLabels {
    reason: &'static str,
    outcome: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let duration = Histogram::new(exponential_buckets(0.000_1, 4.0, 10));
        Self {
            inner: Arc::new(Inner {
                writes: Family::default(),
                failures: Counter::default(),
                duration,
                leading: Gauge::default(),
                syncing: AtomicBool::new(false),
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

    /// Whether this instance stands by or has seen everything it acts on.
    pub(crate) fn ready(&self) -> bool {
        !self.inner.syncing.load(Ordering::Relaxed)
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

    pub(crate) fn reconciled(&self, time: Duration, failed: bool) {
        self.inner.duration.observe(time.as_secs_f64());
        if failed {
            self.inner.failures.inc();
        }
    }
}
