//! What a node's proxy has applied and what its connections came to: the facts that draining and the loss meter need.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use afloat_words::key::Key;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::backend::Counters;
use crate::pods::{Counts, PodSnapshot, Pods, Traffic};
use crate::table::{Model, PortKey, Protocol};

/// How long the counts of an endpoint stay readable after it left and its last connection ended.
const KEPT_AFTER_LEAVING: Duration = Duration::from_secs(600);

/// State of one node's proxy at one moment.
///
/// An endpoint is let go when, on every node, `slices` has the version that took it out (or a later one), its
/// `routed` is false, and its `open` is 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// The node.
    pub node: String,
    /// Services and EndpointSlices have both been listed and applied once.
    pub synced: bool,
    /// One entry per Service that was seen, in order of namespace and name.
    pub services: Vec<ServiceSnapshot>,
}

/// One Service in a [`Snapshot`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceSnapshot {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.resourceVersion` of each slice as applied, by name of the slice.
    pub slices: BTreeMap<String, String>,
    /// Its endpoints per port, those included that left but have connections or recent counts.
    pub endpoints: Vec<EndpointSnapshot>,
}

/// One endpoint of one Service port in a [`Snapshot`]. The counts only grow, except `open`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointSnapshot {
    /// Name of the Service's port, maybe empty.
    pub port: String,
    /// Its protocol.
    pub protocol: Protocol,
    /// Address and port of the endpoint.
    pub address: SocketAddrV4,
    /// New connections may go to it.
    pub routed: bool,
    /// Connections (UDP: flows) that were established to it.
    pub opened: u64,
    /// Connections that it has now; one that is being established counts.
    pub open: u64,
    /// Connections that it refused, or that found no way to it.
    pub refused: u64,
    /// Established connections that it aborted.
    pub reset: u64,
    /// Connections that it did not answer in time, or fell silent on.
    pub timed_out: u64,
    /// Connections that failed for want of something on this node (local ports, descriptors, memory).
    pub failed: u64,
    /// Bytes from clients.
    pub bytes_to_endpoint: u64,
    /// Bytes to clients.
    pub bytes_from_endpoint: u64,
}

/// The same by pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodsSnapshot {
    /// Services and EndpointSlices have both been listed and applied once.
    pub synced: bool,
    /// The pods worth telling of: those that take no new connections, those that lost any, and those that something
    /// happened to lately.
    pub pods: Vec<PodSnapshot>,
    /// By namespace and name ("default/web"), connections that were established through each Service.
    pub services: BTreeMap<String, u64>,
}

/// Where the numbers are kept.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    inner: Mutex<Inner>,
    /// Counts changes of what is in force for pods, and losses.
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Inner {
    synced: bool,
    services: BTreeMap<Key, BTreeMap<String, String>>,
    endpoints: BTreeMap<(PortKey, SocketAddrV4), Entry>,
    pods: Pods,
    /// Connections to endpoints that are no longer kept.
    gone: BTreeMap<Key, u64>,
}

#[derive(Debug)]
struct Entry {
    counters: Arc<Counters>,
    /// How many frontends send to it.
    routes: usize,
    left: Instant,
}

impl Ledger {
    /// The counters of these endpoints, as one more frontend sends to them.
    pub(crate) fn enter(&self, port: &PortKey, endpoints: &[SocketAddrV4]) -> Vec<Arc<Counters>> {
        let mut inner = self.lock();
        let entries = &mut inner.endpoints;
        let enter = |address: &SocketAddrV4| {
            let entry = entries.entry((port.clone(), *address)).or_insert_with(|| Entry {
                counters: Arc::new(Counters::new(*address, self.changes.clone())),
                routes: 0,
                left: Instant::now(),
            });
            entry.routes += 1;
            entry.counters.clone()
        };
        endpoints.iter().map(enter).collect()
    }

    /// One frontend does not send to these any more.
    pub(crate) fn leave(&self, port: &PortKey, endpoints: &[SocketAddrV4]) {
        let mut inner = self.lock();
        for address in endpoints {
            if let Some(entry) = inner.endpoints.get_mut(&(port.clone(), *address)) {
                entry.routes = entry.routes.saturating_sub(1);
                entry.left = Instant::now();
            }
        }
    }

    /// Records what is in force now for these Services.
    pub(crate) fn applied(&self, services: &BTreeSet<Key>, model: &Model) {
        let mut changed = false;
        let mut inner = self.lock();
        let Inner {
            endpoints,
            pods,
            services: versions,
            ..
        } = &mut *inner;
        // Only where a pod has a new address.
        let by_address = std::cell::LazyCell::new(|| {
            let mut all: BTreeMap<Ipv4Addr, Counts> = BTreeMap::new();
            for ((_, address), entry) in endpoints.iter() {
                let sum = all.entry(*address.ip()).or_default();
                *sum = sum.plus(counts(&entry.counters));
            }
            all
        });
        let at = |address| by_address.get(&address).copied().unwrap_or_default();
        for service in services {
            match model.service(service) {
                Some(_) => versions.insert(service.clone(), model.versions(service)),
                None => versions.remove(service),
            };
            changed |= pods.applied(service, model, Instant::now(), &at);
        }
        drop(inner);
        if changed {
            self.changes.send_modify(|count| *count += 1);
        }
    }

    pub(crate) fn set_synced(&self) {
        let before = std::mem::replace(&mut self.lock().synced, true);
        if !before {
            self.changes.send_modify(|count| *count += 1);
        }
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// What is in force for pods.
    pub(crate) fn pods(&self) -> PodsSnapshot {
        let mut inner = self.lock();
        let mut traffic: BTreeMap<Ipv4Addr, Traffic> = BTreeMap::new();
        let mut opened: BTreeMap<Key, u64> = inner.gone.clone();
        for ((port, address), entry) in &inner.endpoints {
            let counts = counts(&entry.counters);
            let sum = traffic.entry(*address.ip()).or_default();
            sum.routed |= entry.routes > 0;
            sum.open += entry.counters.open.load(Ordering::SeqCst);
            sum.counts = sum.counts.plus(counts);
            *opened.entry(port.service.clone()).or_default() += counts.opened;
        }
        PodsSnapshot {
            synced: inner.synced,
            pods: inner.pods.told(Instant::now(), &traffic),
            services: opened
                .into_iter()
                .map(|(key, count)| (key.to_string(), count))
                .collect(),
        }
    }

    /// Forgets endpoints that left long ago.
    pub(crate) fn sweep(&self, now: Instant) {
        let mut inner = self.lock();
        let Inner {
            endpoints,
            pods,
            gone,
            services,
            ..
        } = &mut *inner;
        endpoints.retain(|(port, address), entry| {
            let idle = entry.routes == 0 && entry.counters.open.load(Ordering::SeqCst) == 0;
            let kept = !idle || now.duration_since(entry.left) < KEPT_AFTER_LEAVING;
            if !kept {
                let counts = counts(&entry.counters);
                pods.keep(*address.ip(), counts);
                *gone.entry(port.service.clone()).or_default() += counts.opened;
            }
            kept
        });
        gone.retain(|service, _| services.contains_key(service));
    }

    pub(crate) fn snapshot(&self, node: &str) -> Snapshot {
        let inner = self.lock();
        let mut services: BTreeMap<Key, ServiceSnapshot> = BTreeMap::new();
        let entry = |key: &Key| ServiceSnapshot {
            namespace: key.namespace.to_string(),
            name: key.name.to_string(),
            slices: BTreeMap::new(),
            endpoints: Vec::new(),
        };
        for (key, slices) in &inner.services {
            services.entry(key.clone()).or_insert_with(|| entry(key)).slices = slices.clone();
        }
        for ((port, _), found) in &inner.endpoints {
            let service = services
                .entry(port.service.clone())
                .or_insert_with(|| entry(&port.service));
            service.endpoints.push(endpoint(port, found));
        }
        Snapshot {
            node: node.into(),
            synced: inner.synced,
            services: services.into_values().collect(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn counts(counters: &Counters) -> Counts {
    let get = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::SeqCst);
    Counts {
        opened: get(&counters.opened),
        refused: get(&counters.refused),
        reset: get(&counters.reset),
        timed_out: get(&counters.timed_out),
    }
}

fn endpoint(port: &PortKey, entry: &Entry) -> EndpointSnapshot {
    let counters = &entry.counters;
    let get = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::SeqCst);
    let Counts {
        opened,
        refused,
        reset,
        timed_out,
    } = counts(counters);
    EndpointSnapshot {
        port: port.port.clone(),
        protocol: port.protocol,
        address: counters.address,
        routed: entry.routes > 0,
        opened,
        open: get(&counters.open),
        refused,
        reset,
        timed_out,
        failed: get(&counters.failed),
        bytes_to_endpoint: get(&counters.bytes_to_endpoint),
        bytes_from_endpoint: get(&counters.bytes_from_endpoint),
    }
}
