//! Which pods' state is in force on this node, from what EndpointSlices want and what is seen of the node's rules.
//!
//! What is in force is only ever said with evidence. A pod that leaves is out of force if its addresses were seen in the
//! rules and are no more, or if they are not there and kube-proxy says that it has nothing left to do. Rules without the
//! address alone prove nothing: they may be so old that they do not know the pod yet, and would still get it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use afloat_api::PodTraffic;

use super::conntrack::Connections;
use super::slice::{Slice, SliceKey};

/// How long a pod that takes connections is still told of after something happened to it.
const TOLD_AFTER_CHANGE: Duration = Duration::from_secs(60);
/// How much later than this agent kube-proxy may see a change of an EndpointSlice.
const WATCH_LAG: Duration = Duration::from_secs(1);
/// Shortest and longest pause between two looks at the rules while something is awaited of them.
const LOOK_INTERVAL: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));
/// The pause is this part of the time for which something has been awaited.
const LOOK_SHARE: u32 = 20;

/// What one look at the node saw.
#[derive(Debug, Default)]
pub(crate) struct Look {
    /// Addresses that its rules send new connections to.
    pub(crate) routed: BTreeSet<IpAddr>,
    /// When kube-proxy said that it has nothing left to do; always before the rules were read.
    pub(crate) idle: Option<Instant>,
    /// Connections that go on, read after the rules; None if nobody asked for them or they cannot be read.
    pub(crate) open: Option<Connections>,
}

/// What the slices say of one pod together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    ready: bool,
    /// Version of the slice that brought it; of several slices, the oldest.
    version: u64,
}

/// One pod in one slice.
#[derive(Debug)]
struct Listed {
    ready: bool,
    /// Version in which it came to be so.
    since: u64,
    /// kube-proxy heeds this slice.
    proxied: bool,
    addresses: BTreeSet<IpAddr>,
}

#[derive(Debug)]
struct Pod {
    name: String,
    slices: BTreeMap<SliceKey, Listed>,
    /// Those of the slices that list it, or that listed it last.
    addresses: BTreeSet<IpAddr>,
    proxied: bool,
    /// Highest version that took it out of a slice.
    left: u64,
    wanted: State,
    in_force: Option<State>,
    /// What is in force was what was wanted when that changed, and was seen: the change can be seen, too.
    seen_before: bool,
    /// The rules were seen to send to it since it is wanted so.
    seen: bool,
    routed: bool,
    open: Option<u64>,
    changed: Instant,
}

/// All pods that slices list, and those that they did list lately.
#[derive(Debug, Default)]
pub(crate) struct Pods {
    all: BTreeMap<String, Pod>,
    of_slice: BTreeMap<SliceKey, (u64, BTreeSet<String>)>,
}

impl Pods {
    /// Takes a slice in, or that there is none any more as of a version. `relisted`: changes between this one and the last
    /// may have been missed.
    pub(crate) fn apply(&mut self, key: &SliceKey, version: u64, slice: Option<Slice>, relisted: bool, now: Instant) {
        let before = self.of_slice.remove(key);
        let missed = relisted && before.as_ref().is_some_and(|(known, _)| *known != version);
        let mut uids = BTreeSet::new();
        for endpoint in slice.iter().flat_map(|slice| &slice.endpoints) {
            let first = uids.insert(endpoint.uid.clone());
            let pod = self.all.entry(endpoint.uid.clone()).or_insert_with(|| Pod {
                name: endpoint.pod.clone(),
                slices: BTreeMap::new(),
                addresses: BTreeSet::new(),
                proxied: false,
                left: 0,
                wanted: State {
                    ready: false,
                    version: 0,
                },
                in_force: None,
                seen_before: true,
                seen: false,
                routed: false,
                open: None,
                changed: now,
            });
            let listed = pod.slices.entry(key.clone()).or_insert_with(|| Listed {
                ready: endpoint.ready,
                since: version,
                proxied: false,
                addresses: BTreeSet::new(),
            });
            // One pod may be listed by several addresses, ready in one and not in another for a moment.
            let ready = endpoint.ready || (!first && listed.ready);
            if listed.ready != ready || (missed && !ready) {
                listed.since = version;
            }
            listed.ready = ready;
            listed.proxied = slice.as_ref().is_some_and(|slice| slice.proxied);
            if first {
                listed.addresses.clear();
            }
            listed.addresses.insert(endpoint.address);
        }
        let left = before.into_iter().flat_map(|(_, uids)| uids);
        for uid in left.filter(|uid| !uids.contains(uid)) {
            if let Some(pod) = self.all.get_mut(&uid) {
                pod.slices.remove(key);
                pod.left = pod.left.max(version);
                pod.want(missed, now);
            }
        }
        for uid in &uids {
            if let Some(pod) = self.all.get_mut(uid) {
                pod.want(missed, now);
            }
        }
        if !uids.is_empty() {
            self.of_slice.insert(key.clone(), (version, uids));
        }
    }

    /// All slices that are known.
    pub(crate) fn slices(&self) -> impl Iterator<Item = &SliceKey> {
        self.of_slice.keys()
    }

    /// Whether any pod has an address of IPv4, and of IPv6.
    pub(crate) fn families(&self) -> (bool, bool) {
        let mut addresses = self.all.values().flat_map(|pod| &pod.addresses);
        let v4 = addresses.clone().any(IpAddr::is_ipv4);
        (v4, addresses.any(IpAddr::is_ipv6))
    }

    /// Takes in what was seen of the node. The slices were the same before and after the look.
    pub(crate) fn looked(&mut self, look: &Look, now: Instant) {
        // An address may have gone on to another pod.
        let mut listed = BTreeSet::new();
        for pod in self.all.values().filter(|pod| !pod.slices.is_empty()) {
            listed.extend(pod.addresses.iter().copied());
        }
        for pod in self.all.values_mut() {
            let gone = pod.slices.is_empty();
            let own = |address: &&IpAddr| !(gone && listed.contains(*address));
            pod.routed = pod.addresses.iter().filter(own).any(|a| look.routed.contains(a));
            pod.open = match &look.open {
                _ if pod.wanted.ready || pod.routed => None,
                Some(open) => {
                    let of = |address| open.get(address).copied().unwrap_or(0);
                    Some(pod.addresses.iter().filter(own).map(of).sum())
                }
                // Where nothing new is sent none can be more than none.
                None => pod.open.filter(|open| *open == 0),
            };
            if pod.proven(look.idle) {
                pod.seen |= pod.wanted.ready == pod.routed;
                if pod.in_force != Some(pod.wanted) {
                    pod.in_force = Some(pod.wanted);
                    pod.changed = now;
                }
            }
        }
    }

    /// Whether somebody waits for the connections of a pod.
    pub(crate) fn counts(&self) -> bool {
        self.all.values().any(|pod| !pod.wanted.ready && pod.open != Some(0))
    }

    /// How long the next look can wait; None if nothing is awaited.
    pub(crate) fn pause(&self, now: Instant) -> Option<Duration> {
        let awaited = self.all.values().filter(|pod| {
            let lingers = !pod.wanted.ready && (pod.routed || pod.open != Some(0));
            pod.in_force != Some(pod.wanted) || lingers
        });
        let ages = awaited.map(|pod| now.duration_since(pod.changed));
        ages.min()
            .map(|age| (age / LOOK_SHARE).clamp(LOOK_INTERVAL.0, LOOK_INTERVAL.1))
    }

    /// The pods worth telling of, by UID: those that take no new connections, and those that something happened to lately.
    pub(crate) fn told(&mut self, now: Instant) -> BTreeMap<String, PodTraffic> {
        let lately = |pod: &Pod| now.duration_since(pod.changed) < TOLD_AFTER_CHANGE;
        self.all.retain(|_, pod| !pod.slices.is_empty() || lately(pod));
        let told = self.all.iter().filter_map(|(uid, pod)| {
            let state = pod.in_force.filter(|state| !state.ready || lately(pod))?;
            let report = PodTraffic {
                pod: pod.name.clone(),
                applied: state.version,
                ready: state.ready,
                routed: pod.routed,
                open: pod.open,
                ..PodTraffic::default()
            };
            Some((uid.clone(), report))
        });
        told.collect()
    }
}

impl Pod {
    /// Sums up what the slices say now.
    fn want(&mut self, missed: bool, now: Instant) {
        if !self.slices.is_empty() {
            self.addresses = self
                .slices
                .values()
                .flat_map(|listed| listed.addresses.iter().copied())
                .collect();
            self.proxied = self.slices.values().any(|listed| listed.proxied);
        }
        let since = self.slices.values().map(|listed| listed.since).min();
        let wanted = State {
            ready: self.slices.values().any(|listed| listed.ready),
            version: since.unwrap_or(self.left),
        };
        let missed = missed && !wanted.ready && wanted != self.wanted;
        let in_force = self.in_force == Some(self.wanted);
        if wanted.ready == self.wanted.ready && !missed && self.in_force.is_some() {
            // Listed by more slices or fewer, to the same effect.
            if in_force {
                self.in_force = Some(wanted);
            }
        } else if wanted != self.wanted {
            self.seen_before = self.in_force.is_none() && wanted.ready || in_force && self.seen && !missed;
            self.seen = false;
            self.open = None;
            self.changed = now;
        }
        self.wanted = wanted;
    }

    /// Whether what is wanted is in force, as far as the last look can tell.
    fn proven(&self, idle: Option<Instant>) -> bool {
        if self.routed && !self.wanted.ready {
            return false;
        }
        let seen = self.seen_before && self.wanted.ready == self.routed;
        let idle = idle.is_some_and(|at| at >= self.changed + WATCH_LAG);
        self.in_force == Some(self.wanted) || !self.proxied || seen || idle
    }
}

#[cfg(test)]
mod tests;
