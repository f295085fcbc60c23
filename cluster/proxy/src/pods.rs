//! The same by pod: what this node's proxy makes of each pod behind a Service, for those who must know when a node has
//! let go of a pod or sends to it again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::table::{Model, ServiceKey};

/// How long a pod that takes connections is still told of after something happened to it.
const TOLD_AFTER_CHANGE: Duration = Duration::from_secs(60);

/// What a proxy has in force for one pod, over all Services and slices that list it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodSnapshot {
    /// Its UID.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Version of the EndpointSlice that brought the state in force; of several slices, the oldest such version.
    pub applied: u64,
    /// The slices in force say that it takes new connections.
    pub ready: bool,
    /// New connections may go to it from here.
    pub routed: bool,
    /// Connections (UDP: flows) that it has from here.
    pub open: u64,
    /// Connections that it refused since the proxy began, or that found no way to it.
    pub refused: u64,
    /// Those that it aborted.
    pub reset: u64,
    /// Those that it did not answer in time, or fell silent on.
    pub timed_out: u64,
}

impl PodSnapshot {
    fn failures(&self) -> u64 {
        self.refused + self.reset + self.timed_out
    }
}

/// One pod in one Service.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Listed {
    ready: bool,
    /// Version in which it came to be so.
    since: u64,
    addresses: BTreeSet<Ipv4Addr>,
}

#[derive(Debug)]
struct Pod {
    namespace: String,
    name: String,
    services: BTreeMap<ServiceKey, Listed>,
    /// Highest version that took it out of a Service.
    left: u64,
    changed: Instant,
    /// When last told of.
    failures: u64,
}

/// All pods that slices in force list, and those that they did list lately.
#[derive(Debug, Default)]
pub(crate) struct Pods {
    all: BTreeMap<String, Pod>,
    of_service: BTreeMap<ServiceKey, BTreeSet<String>>,
}

/// What the connections to one address come to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) routed: bool,
    pub(crate) open: u64,
    pub(crate) refused: u64,
    pub(crate) reset: u64,
    pub(crate) timed_out: u64,
}

impl Pods {
    /// Takes in what is in force for a Service now; true if that changes anything for a pod.
    pub(crate) fn applied(&mut self, service: &ServiceKey, model: &Model, now: Instant) -> bool {
        let mut listed: BTreeMap<&str, (&str, Listed)> = BTreeMap::new();
        let mut newest = 0;
        for slice in model.slices_of(service) {
            let version = slice.version.parse().unwrap_or(0);
            newest = newest.max(version);
            for endpoint in &slice.endpoints {
                let Some(pod) = &endpoint.pod else { continue };
                let (_, entry) = listed.entry(&pod.uid).or_insert_with(|| {
                    let entry = Listed {
                        ready: false,
                        since: version,
                        addresses: BTreeSet::new(),
                    };
                    (&pod.name, entry)
                });
                entry.ready |= endpoint.ready;
                entry.since = entry.since.max(version);
                entry.addresses.insert(endpoint.address);
            }
        }
        let mut changed = false;
        let before = self.of_service.remove(service).unwrap_or_default();
        for uid in before.iter().filter(|uid| !listed.contains_key(uid.as_str())) {
            if let Some(pod) = self.all.get_mut(uid) {
                pod.services.remove(service);
                pod.left = pod.left.max(newest);
                pod.changed = now;
                changed = true;
            }
        }
        let uids: BTreeSet<String> = listed.keys().map(|uid| (*uid).to_owned()).collect();
        for (uid, (name, mut entry)) in listed {
            let pod = self.all.entry(uid.to_owned()).or_insert_with(|| Pod {
                namespace: service.namespace.clone(),
                name: name.to_owned(),
                services: BTreeMap::new(),
                left: 0,
                changed: now,
                failures: 0,
            });
            match pod.services.get(service) {
                // Other pods of the slice have changed.
                Some(known) if known.ready == entry.ready => entry.since = known.since,
                _ => {
                    pod.changed = now;
                    changed = true;
                }
            }
            pod.services.insert(service.clone(), entry);
        }
        if !uids.is_empty() {
            self.of_service.insert(service.clone(), uids);
        }
        changed
    }

    /// The pods worth telling of: those that take no new connections, and those that something happened to lately.
    pub(crate) fn told(&mut self, now: Instant, traffic: &BTreeMap<Ipv4Addr, Traffic>) -> Vec<PodSnapshot> {
        self.all
            .retain(|_, pod| !pod.services.is_empty() || now.duration_since(pod.changed) < TOLD_AFTER_CHANGE);
        let mut told = Vec::new();
        for (uid, pod) in &mut self.all {
            let mut snapshot = snapshot(uid, pod);
            for address in pod
                .services
                .values()
                .flat_map(|listed| &listed.addresses)
                .collect::<BTreeSet<_>>()
            {
                let found = traffic.get(address).copied().unwrap_or_default();
                snapshot.routed |= found.routed;
                snapshot.open += found.open;
                snapshot.refused += found.refused;
                snapshot.reset += found.reset;
                snapshot.timed_out += found.timed_out;
            }
            if snapshot.failures() != pod.failures {
                pod.failures = snapshot.failures();
                pod.changed = now;
            }
            if !snapshot.ready || now.duration_since(pod.changed) < TOLD_AFTER_CHANGE {
                told.push(snapshot);
            }
        }
        told
    }
}

fn snapshot(uid: &str, pod: &Pod) -> PodSnapshot {
    let since = pod.services.values().map(|listed| listed.since).min();
    PodSnapshot {
        uid: uid.to_owned(),
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        applied: since.unwrap_or(pod.left),
        ready: pod.services.values().any(|listed| listed.ready),
        ..PodSnapshot::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{Change, PodRef, Slice, SliceEndpoint};

    fn key() -> ServiceKey {
        ServiceKey {
            namespace: "default".into(),
            name: "web".into(),
        }
    }

    fn slice(version: u64, pods: &[(u8, bool)]) -> Change {
        let endpoint = |&(number, ready): &(u8, bool)| SliceEndpoint {
            address: Ipv4Addr::new(10, 0, 0, number),
            ready,
            serving: ready,
            terminating: false,
            node: None,
            pod: Some(PodRef {
                uid: format!("u{number}"),
                name: format!("web-{number}"),
            }),
        };
        let slice = Slice {
            version: version.to_string(),
            ports: Vec::new(),
            endpoints: pods.iter().map(endpoint).collect(),
        };
        Change::Slice(("default".into(), "web-1".into()), Some((key(), slice)))
    }

    struct Seen {
        model: Model,
        pods: Pods,
        now: Instant,
    }

    impl Seen {
        fn apply(&mut self, change: Change) -> bool {
            self.model.see(change);
            self.pods.applied(&key(), &self.model, self.now)
        }

        fn told(&mut self) -> Vec<(String, u64, bool)> {
            let told = self.pods.told(self.now, &BTreeMap::new());
            told.into_iter().map(|pod| (pod.uid, pod.applied, pod.ready)).collect()
        }
    }

    fn seen() -> Seen {
        Seen {
            model: Model::new("node-1"),
            pods: Pods::default(),
            now: Instant::now(),
        }
    }

    #[test]
    fn a_pods_version_is_that_of_its_own_change() {
        let mut seen = seen();
        assert!(seen.apply(slice(5, &[(1, true), (2, true)])));
        assert!(seen.apply(slice(7, &[(1, false), (2, true)])));
        assert!(
            !seen.apply(slice(9, &[(1, false), (2, true)])),
            "nothing changes for a pod"
        );
        assert_eq!(seen.told(), [("u1".into(), 7, false), ("u2".into(), 5, true)]);
        seen.now += TOLD_AFTER_CHANGE;
        assert_eq!(seen.told(), [("u1".into(), 7, false)], "what serves quietly is no news");
        assert!(seen.apply(slice(11, &[(1, true), (2, true)])));
        assert_eq!(seen.told(), [("u1".into(), 11, true)]);
    }

    #[test]
    fn a_pod_that_left_is_told_of_for_a_while() {
        let mut seen = seen();
        seen.apply(slice(5, &[(1, true), (2, true)]));
        assert!(seen.apply(slice(8, &[(2, true)])));
        assert_eq!(seen.told()[0], ("u1".into(), 8, false));
        seen.now += TOLD_AFTER_CHANGE;
        assert_eq!(seen.told(), []);
    }

    #[test]
    fn failures_are_news() {
        let mut seen = seen();
        seen.apply(slice(5, &[(1, true)]));
        seen.now += TOLD_AFTER_CHANGE;
        assert_eq!(seen.told(), []);
        let traffic = Traffic {
            routed: true,
            open: 2,
            reset: 3,
            ..Traffic::default()
        };
        let traffic = BTreeMap::from([(Ipv4Addr::new(10, 0, 0, 1), traffic)]);
        let told = seen.pods.told(seen.now, &traffic);
        assert_eq!((told[0].open, told[0].reset, told[0].routed), (2, 3, true));
    }
}
