//! Counts: requests, accepted writes, open watches, latency. Written out by hand, since the write counts must also be
//! read back, which the metric libraries do not offer.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use afloat_machinery::kinds::Resource;

use afloat_machinery::authorization::User;

/// Upper bounds of the latency buckets, in seconds.
const BUCKETS_SECONDS: [f64; 10] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 10.0];
/// Different rows of write counts; beyond it, writes are counted without their namespace.
const WRITE_ROWS_LIMIT: usize = 10_000;

/// How often somebody wrote something.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WriteCount {
    /// Who.
    pub user: String,
    /// `create`, `update`, `patch`, `delete`.
    pub verb: &'static str,
    /// API group, empty for core.
    pub group: String,
    /// Plural.
    pub resource: String,
    /// Empty for the object itself.
    pub subresource: String,
    /// None for cluster-scoped objects.
    pub namespace: Option<String>,
    /// Accepted writes that changed something.
    pub count: u64,
}

#[derive(Default)]
struct Latency {
    buckets: [u64; BUCKETS_SECONDS.len()],
    count: u64,
    sum_seconds: f64,
}

/// All counts of one server.
#[derive(Default)]
pub(crate) struct Metrics {
    writes: Mutex<BTreeMap<WriteKey, u64>>,
    requests: Mutex<BTreeMap<(&'static str, String, u16), u64>>,
    latency: Mutex<BTreeMap<&'static str, Latency>>,
    watches: AtomicI64,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct WriteKey {
    user: String,
    verb: &'static str,
    group: String,
    resource: String,
    subresource: String,
    namespace: Option<String>,
}

/// An open watch; counted until dropped.
pub(crate) struct OpenWatch(Arc<Metrics>);

impl OpenWatch {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        metrics.watches.fetch_add(1, Ordering::Relaxed);
        Self(metrics)
    }
}

impl Drop for OpenWatch {
    fn drop(&mut self) {
        self.0.watches.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Metrics {
    /// Counts a write that changed something.
    pub(crate) fn wrote(
        &self,
        user: &User,
        verb: &'static str,
        resource: &Resource,
        subresource: &str,
        namespace: Option<&str>,
    ) {
        let mut key = WriteKey {
            user: user.name.clone(),
            verb,
            group: resource.group.clone(),
            resource: resource.plural.clone(),
            subresource: subresource.to_owned(),
            namespace: namespace.map(str::to_owned),
        };
        let mut writes = self.writes.lock().unwrap_or_else(PoisonError::into_inner);
        if writes.len() >= WRITE_ROWS_LIMIT && !writes.contains_key(&key) {
            key.namespace = None;
        }
        *writes.entry(key).or_default() += 1;
    }

    /// Counts a request that has been answered.
    pub(crate) fn answered(&self, verb: &'static str, resource: &str, code: u16, took: Duration) {
        *self
            .requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry((verb, resource.to_owned(), code))
            .or_default() += 1;
        let seconds = took.as_secs_f64();
        let mut all = self.latency.lock().unwrap_or_else(PoisonError::into_inner);
        let latency = all.entry(verb).or_default();
        latency.count += 1;
        latency.sum_seconds += seconds;
        for (bucket, bound) in latency.buckets.iter_mut().zip(BUCKETS_SECONDS) {
            *bucket += u64::from(seconds <= bound);
        }
    }

    pub(crate) fn writes(&self) -> Vec<WriteCount> {
        let writes = self.writes.lock().unwrap_or_else(PoisonError::into_inner);
        let row = |(key, count): (&WriteKey, &u64)| {
            let WriteKey {
                user,
                verb,
                group,
                resource,
                subresource,
                namespace,
            } = key.clone();
            WriteCount {
                user,
                verb,
                group,
                resource,
                subresource,
                namespace,
                count: *count,
            }
        };
        writes.iter().map(row).collect()
    }

    /// In Prometheus' text format.
    pub(crate) fn text(&self, revision: u64) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_counts(&mut out, revision);
        let _ = self.write_latency(&mut out);
        out
    }

    fn write_counts(&self, out: &mut String, revision: u64) -> std::fmt::Result {
        writeln!(
            out,
            "# HELP apiserver_request_total Requests answered.\n# TYPE apiserver_request_total counter"
        )?;
        for ((verb, resource, code), count) in self.requests.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            writeln!(
                out,
                "apiserver_request_total{{verb=\"{verb}\",resource=\"{resource}\",code=\"{code}\"}} {count}"
            )?;
        }
        writeln!(
            out,
            "# HELP afloat_writes_total Accepted writes that changed something.\n# TYPE afloat_writes_total counter"
        )?;
        for w in self.writes() {
            let user = w.user.replace('\\', "\\\\").replace('"', "\\\"");
            writeln!(
                out,
                "afloat_writes_total{{user=\"{user}\",verb=\"{}\",group=\"{}\",resource=\"{}\",subresource=\"{}\",namespace=\"{}\"}} {}",
                w.verb,
                w.group,
                w.resource,
                w.subresource,
                w.namespace.unwrap_or_default(),
                w.count
            )?;
        }
        let watches = self.watches.load(Ordering::Relaxed);
        writeln!(
            out,
            "# HELP apiserver_longrunning_requests Open watches.\n# TYPE apiserver_longrunning_requests gauge"
        )?;
        writeln!(out, "apiserver_longrunning_requests{{verb=\"watch\"}} {watches}")?;
        writeln!(
            out,
            "# HELP afloat_store_revision Newest revision.\n# TYPE afloat_store_revision counter\nafloat_store_revision {revision}"
        )
    }

    fn write_latency(&self, out: &mut String) -> std::fmt::Result {
        let name = "apiserver_request_duration_seconds";
        writeln!(
            out,
            "# HELP {name} Time to the head of the answer.\n# TYPE {name} histogram"
        )?;
        for (verb, latency) in self.latency.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            for (count, bound) in latency.buckets.iter().zip(BUCKETS_SECONDS) {
                writeln!(out, "{name}_bucket{{verb=\"{verb}\",le=\"{bound}\"}} {count}")?;
            }
            writeln!(out, "{name}_bucket{{verb=\"{verb}\",le=\"+Inf\"}} {}", latency.count)?;
            writeln!(
                out,
                "{name}_sum{{verb=\"{verb}\"}} {}\n{name}_count{{verb=\"{verb}\"}} {}",
                latency.sum_seconds, latency.count
            )?;
        }
        Ok(())
    }
}
