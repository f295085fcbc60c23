//! The same by pod: what this node's proxy makes of each pod behind a Service, for those who must know when a node has
//! let go of a pod or sends to it again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use afloat_words::key::Key;
use serde::{Deserialize, Serialize};

use crate::table::Model;

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
    /// What became of its connections since the proxy began.
    pub counts: Counts,
}

/// What connections came to. They only grow, but a pod's are the difference of its addresses' counts, so that the counts
/// of an address' earlier owner are none of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Established.
    pub opened: u64,
    /// Refused, or without a way there.
    pub refused: u64,
    /// Aborted.
    pub reset: u64,
    /// Not answered in time, or fallen silent.
    pub timed_out: u64,
}

impl Counts {
    fn failures(&self) -> u64 {
        self.refused + self.reset + self.timed_out
    }

    /// Wraps around, so that what is taken from less can be given back later.
    fn combine(self, other: Self, with: fn(u64, u64) -> u64) -> Self {
        Self {
            opened: with(self.opened, other.opened),
            refused: with(self.refused, other.refused),
            reset: with(self.reset, other.reset),
            timed_out: with(self.timed_out, other.timed_out),
        }
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        self.combine(other, u64::wrapping_add)
    }

    fn minus(self, other: Self) -> Self {
        self.combine(other, u64::wrapping_sub)
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
    services: BTreeMap<Key, Listed>,
    /// Highest version that took it out of a Service.
    left: u64,
    changed: Instant,
    /// When last told of.
    failures: u64,
    /// Those whose counts are its own; it keeps them when it leaves, until another pod has one.
    addresses: BTreeSet<Ipv4Addr>,
    /// What is to be added to its addresses' counts to have its own.
    offset: Counts,
}

/// All pods that slices in force list, and those that they did list lately.
#[derive(Debug, Default)]
pub(crate) struct Pods {
    all: BTreeMap<String, Pod>,
    of_service: BTreeMap<Key, BTreeSet<String>>,
    /// Whose an address' counts are.
    owners: BTreeMap<Ipv4Addr, String>,
}

/// What the connections to one address come to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) routed: bool,
    pub(crate) open: u64,
    pub(crate) counts: Counts,
}

impl Pods {
    /// Takes in what is in force for a Service now; true if that changes anything for a pod. `counts` are an address'.
    pub(crate) fn applied(
        &mut self,
        service: &Key,
        model: &Model,
        now: Instant,
        counts: &dyn Fn(Ipv4Addr) -> Counts,
    ) -> bool {
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
                namespace: service.namespace.to_string(),
                name: name.to_owned(),
                services: BTreeMap::new(),
                left: 0,
                changed: now,
                failures: 0,
                addresses: BTreeSet::new(),
                offset: Counts::default(),
            });
            let new: Vec<Ipv4Addr> = entry.addresses.difference(&pod.addresses).copied().collect();
            match pod.services.get(service) {
                // Other pods of the slice have changed.
                Some(known) if known.ready == entry.ready => entry.since = known.since,
                _ => {
                    pod.changed = now;
                    changed = true;
                }
            }
            pod.services.insert(service.clone(), entry);
            for address in new {
                self.hand_over(address, uid, counts(address));
            }
        }
        if !uids.is_empty() {
            self.of_service.insert(service.clone(), uids);
        }
        changed
    }

    /// From now on, what happens at an address is this pod's.
    fn hand_over(&mut self, address: Ipv4Addr, to: &str, counts: Counts) {
        let before = self.owners.insert(address, to.to_owned());
        if let Some(pod) = before.and_then(|uid| self.all.get_mut(&uid)) {
            pod.addresses.remove(&address);
            pod.offset = pod.offset.plus(counts);
        }
        if let Some(pod) = self.all.get_mut(to) {
            pod.addresses.insert(address);
            pod.offset = pod.offset.minus(counts);
        }
    }

    /// An address' counts become less by these, as they are no longer kept there.
    pub(crate) fn keep(&mut self, address: Ipv4Addr, counts: Counts) {
        let owner = self.owners.get(&address);
        if let Some(pod) = owner.and_then(|uid| self.all.get_mut(uid)) {
            pod.offset = pod.offset.plus(counts);
        }
    }

    /// The pods worth telling of: those that take no new connections, those that lost any, and those that something
    /// happened to lately.
    pub(crate) fn told(&mut self, now: Instant, traffic: &BTreeMap<Ipv4Addr, Traffic>) -> Vec<PodSnapshot> {
        self.all
            .retain(|_, pod| !pod.services.is_empty() || now.duration_since(pod.changed) < TOLD_AFTER_CHANGE);
        let all = &self.all;
        self.owners.retain(|_, uid| all.contains_key(uid));
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
            }
            snapshot.counts = pod.addresses.iter().fold(pod.offset, |sum, address| {
                sum.plus(traffic.get(address).map(|found| found.counts).unwrap_or_default())
            });
            let failures = snapshot.counts.failures();
            if failures != pod.failures {
                pod.failures = failures;
                pod.changed = now;
            }
            if !snapshot.ready || failures > 0 || now.duration_since(pod.changed) < TOLD_AFTER_CHANGE {
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

    fn key() -> Key {
        Key::new("default", "web")
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
        Change::Slice(Key::new("default", "web-1"), Some((key(), slice)))
    }

    struct Seen {
        model: Model,
        pods: Pods,
        now: Instant,
        counts: BTreeMap<Ipv4Addr, Counts>,
    }

    impl Seen {
        fn apply(&mut self, change: Change) -> bool {
            self.model.see(change);
            self.pods.applied(&key(), &self.model, self.now, &|address| {
                self.counts.get(&address).copied().unwrap_or_default()
            })
        }

        fn snapshots(&mut self) -> Vec<PodSnapshot> {
            let traffic = |counts: &Counts| Traffic {
                routed: true,
                open: 2,
                counts: *counts,
            };
            let traffic = self.counts.iter().map(|(address, counts)| (*address, traffic(counts)));
            self.pods.told(self.now, &traffic.collect())
        }

        fn lose(&mut self, pod: u8, count: u64) {
            let counts = self.counts.entry(Ipv4Addr::new(10, 0, 0, pod)).or_default();
            counts.reset += count;
        }

        fn lost(&mut self) -> Vec<(String, u64)> {
            let told = self.snapshots().into_iter();
            told.map(|pod| (pod.uid, pod.counts.reset)).collect()
        }

        fn told(&mut self) -> Vec<(String, u64, bool)> {
            let told = self.snapshots();
            told.into_iter().map(|pod| (pod.uid, pod.applied, pod.ready)).collect()
        }
    }

    fn seen() -> Seen {
        Seen {
            model: Model::new("node-1"),
            pods: Pods::default(),
            now: Instant::now(),
            counts: BTreeMap::new(),
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
        seen.lose(1, 3);
        let told = seen.snapshots();
        assert_eq!((told[0].open, told[0].counts.reset, told[0].routed), (2, 3, true));
        seen.now += TOLD_AFTER_CHANGE;
        assert_eq!(
            seen.lost(),
            [("u1".into(), 3)],
            "whoever begins to count later must know"
        );
    }

    /// As [`slice`], with pods that have other numbers than their addresses.
    fn slice_of(version: u64, pods: &[(u8, u8)]) -> Change {
        let Change::Slice(name, Some((service, mut slice))) = slice(version, &[]) else {
            unreachable!()
        };
        let endpoint = |&(pod, address): &(u8, u8)| SliceEndpoint {
            address: Ipv4Addr::new(10, 0, 0, address),
            ready: true,
            serving: true,
            terminating: false,
            node: None,
            pod: Some(PodRef {
                uid: format!("u{pod}"),
                name: format!("web-{pod}"),
            }),
        };
        slice.endpoints = pods.iter().map(endpoint).collect();
        Change::Slice(name, Some((service, slice)))
    }

    #[test]
    fn an_address_that_another_pod_gets_brings_no_losses_with_it() {
        let mut seen = seen();
        seen.apply(slice_of(5, &[(1, 1)]));
        seen.lose(1, 3);
        seen.apply(slice_of(6, &[]));
        seen.lose(1, 1);
        assert_eq!(seen.lost(), [("u1".into(), 4)], "what comes late is its own");
        seen.apply(slice_of(7, &[(2, 1)]));
        assert_eq!(seen.lost(), [("u1".into(), 4), ("u2".into(), 0)]);
        seen.lose(1, 2);
        assert_eq!(seen.lost(), [("u1".into(), 4), ("u2".into(), 2)]);
        // The address' counts are swept away, and begin anew.
        let counts = seen.counts.remove(&Ipv4Addr::new(10, 0, 0, 1)).unwrap();
        seen.pods.keep(Ipv4Addr::new(10, 0, 0, 1), counts);
        seen.lose(1, 1);
        assert_eq!(seen.lost(), [("u1".into(), 4), ("u2".into(), 3)]);
    }
}
