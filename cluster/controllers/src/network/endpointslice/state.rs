//! What the controller has seen, which Services have to be looked at, and when. Pure but for the time it is told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use tokio::time::Instant;

use super::plan::{self, Action, CONTROLLER};
use crate::network::view::{Key, Pod, ServiceView};
use crate::objects::service::{MANAGED_BY, SERVICE_NAME};

/// Changes to a Service's pods are collected for so long after the first of them. Not a sliding window: nothing waits
/// longer.
const WINDOW: Duration = Duration::from_millis(5);
/// First and longest pause after a write that failed.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// Longest wait for the watch to show an own write. Deciding without it is safe (writes carry the version they were
/// decided on), only wasteful.
const ECHO_TIMEOUT: Duration = Duration::from_secs(5);

/// The outcome of one own write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// The slice has this resource version now, or a later one.
    Stored { name: String, version: String },
    /// The slice with this uid is gone.
    Deleted { name: String, uid: String },
}

#[derive(Debug, Default)]
struct Progress {
    /// A write is under way.
    busy: bool,
    /// Slices that the watch showed to be gone during it: the watch will never show what it wrote to them.
    gone: BTreeSet<String>,
    /// Own writes that the watch has not shown yet.
    unseen: Vec<Written>,
    unseen_until: Option<Instant>,
    failures: u32,
    /// When it is to be looked at.
    due: Option<Instant>,
}

/// Everything seen so far.
#[derive(Debug, Default)]
pub(crate) struct State {
    pods: BTreeMap<String, BTreeMap<String, Pod>>,
    services: BTreeMap<Key, ServiceView>,
    slices: BTreeMap<Key, BTreeMap<String, EndpointSlice>>,
    owners: BTreeMap<Key, String>,
    progress: BTreeMap<Key, Progress>,
    due: BTreeSet<(Instant, Key)>,
}

impl State {
    /// A pod was seen, or is gone.
    pub(crate) fn pod(&mut self, key: Key, pod: Option<Pod>, now: Instant) {
        let of_namespace = self.pods.entry(key.0.clone()).or_default();
        let old = of_namespace.get(&key.1);
        if old == pod.as_ref() {
            return;
        }
        let selected = |service: &ServiceView| {
            [old, pod.as_ref()]
                .into_iter()
                .flatten()
                .any(|p| service.selects(&p.labels))
        };
        let first = (key.0.clone(), String::new());
        let here = self
            .services
            .range(first..)
            .take_while(|((namespace, _), _)| *namespace == key.0);
        let touched: Vec<Key> = here
            .filter(|(_, service)| selected(service))
            .map(|(key, _)| key.clone())
            .collect();
        match pod {
            Some(pod) => of_namespace.insert(key.1, pod),
            None => of_namespace.remove(&key.1),
        };
        if of_namespace.is_empty() {
            self.pods.remove(&key.0);
        }
        for key in touched {
            self.mark(key, now + WINDOW);
        }
    }

    /// A Service was seen; None: it is gone, or its endpoints are not ours.
    pub(crate) fn service(&mut self, key: Key, service: Option<ServiceView>, now: Instant) {
        match service {
            Some(service) => {
                if self.services.get(&key) != Some(&service) {
                    self.services.insert(key.clone(), service);
                    self.mark(key, now + WINDOW);
                }
            }
            // Its slices go with it by their owner reference.
            None => {
                self.services.remove(&key);
            }
        }
    }

    /// All Services, after a list.
    pub(crate) fn services(&mut self, mut all: BTreeMap<Key, ServiceView>, now: Instant) {
        let keys: BTreeSet<Key> = self.services.keys().chain(all.keys()).cloned().collect();
        for key in keys {
            let service = all.remove(&key);
            self.service(key, service, now);
        }
    }

    /// A slice was seen, or is gone.
    pub(crate) fn slice(&mut self, key: Key, slice: Option<EndpointSlice>, now: Instant) {
        let slice = slice.filter(managed);
        let owner = slice
            .as_ref()
            .and_then(|slice| slice.metadata.labels.as_ref()?.get(SERVICE_NAME).cloned());
        let previous = match &owner {
            Some(owner) => self.owners.insert(key.clone(), owner.clone()),
            None => self.owners.remove(&key),
        };
        if let Some(previous) = previous.filter(|previous| owner.as_ref() != Some(previous)) {
            let service = (key.0.clone(), previous);
            if let Some(slices) = self.slices.get_mut(&service) {
                slices.remove(&key.1);
                if slices.is_empty() {
                    self.slices.remove(&service);
                }
            }
            // Gone is also an answer to a write that was waited for.
            if let Some(progress) = self.progress.get_mut(&service) {
                progress
                    .unseen
                    .retain(|written| !matches!(written, Written::Stored { name, .. } if *name == key.1));
                if progress.busy {
                    progress.gone.insert(key.1.clone());
                }
            }
            self.mark(service, now + WINDOW);
        }
        if let (Some(owner), Some(mut slice)) = (owner, slice) {
            slice.metadata.managed_fields = None;
            let service = (key.0, owner);
            self.slices.entry(service.clone()).or_default().insert(key.1, slice);
            self.mark(service, now + WINDOW);
        }
    }

    /// All slices, after a list.
    pub(crate) fn slices(&mut self, mut all: BTreeMap<Key, EndpointSlice>, now: Instant) {
        let keys: BTreeSet<Key> = self.owners.keys().chain(all.keys()).cloned().collect();
        for key in keys {
            let slice = all.remove(&key);
            self.slice(key, slice, now);
        }
    }

    /// When [`State::take`] has something to do.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// The writes that are due for one Service. After a non-empty answer, [`State::done`] must follow.
    pub(crate) fn take(&mut self, now: Instant) -> Option<(Key, Vec<Action>)> {
        let (at, key) = self.due.first()?.clone();
        if at > now {
            return None;
        }
        self.due.pop_first();
        let service = self.services.get(&key);
        let progress = self.progress.entry(key.clone()).or_default();
        progress.due = None;
        let Some(service) = service else {
            if !progress.busy {
                self.progress.remove(&key);
            }
            return Some((key, Vec::new()));
        };
        if progress.busy {
            // Marked again when the write is done.
            return Some((key, Vec::new()));
        }
        let slices = self.slices.get(&key);
        progress.unseen.retain(|written| !seen(written, slices));
        if let Some(until) = progress
            .unseen_until
            .filter(|until| *until > now && !progress.unseen.is_empty())
        {
            // The event that shows it marks the Service before that.
            self.mark(key.clone(), until);
            return Some((key, Vec::new()));
        }
        progress.unseen.clear();
        let pods = self.pods.get(&key.0).into_iter().flat_map(BTreeMap::values);
        let pods: Vec<&Pod> = pods.filter(|pod| service.selects(&pod.labels)).collect();
        let slices: Vec<&EndpointSlice> = slices.into_iter().flat_map(BTreeMap::values).collect();
        let actions = plan::plan(service, &pods, &slices);
        progress.busy = !actions.is_empty();
        if actions.is_empty() {
            progress.failures = 0;
        }
        Some((key, actions))
    }

    /// A Service's writes are through, or some of them failed.
    pub(crate) fn done(&mut self, key: Key, written: Vec<Written>, failed: bool, now: Instant) {
        let progress = self.progress.entry(key.clone()).or_default();
        progress.busy = false;
        let gone = std::mem::take(&mut progress.gone);
        progress.unseen = written;
        progress
            .unseen
            .retain(|written| !matches!(written, Written::Stored { name, .. } if gone.contains(name)));
        progress.unseen_until = Some(now + ECHO_TIMEOUT);
        progress.failures = if failed { progress.failures.saturating_add(1) } else { 0 };
        let pause = match progress.failures {
            0 => Duration::ZERO,
            failures => RETRY
                .0
                .saturating_mul(1 << failures.saturating_sub(1).min(7))
                .min(RETRY.1),
        };
        self.mark(key, now + pause);
    }

    /// Looks at a Service at `at`, or earlier if it is due earlier already.
    fn mark(&mut self, key: Key, at: Instant) {
        let progress = self.progress.entry(key.clone()).or_default();
        // A pause after a failure is not cut short by events, or a storm of them would be a storm of failing writes.
        let earlier = progress.due.is_none_or(|due| at < due && progress.failures == 0);
        if !earlier {
            return;
        }
        if let Some(due) = progress.due.replace(at) {
            self.due.remove(&(due, key.clone()));
        }
        self.due.insert((at, key));
    }
}

fn managed(slice: &EndpointSlice) -> bool {
    slice
        .metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(MANAGED_BY))
        .is_some_and(|by| by == CONTROLLER)
}

fn seen(written: &Written, slices: Option<&BTreeMap<String, EndpointSlice>>) -> bool {
    let find = |name: &String| slices.and_then(|slices| slices.get(name));
    match written {
        Written::Stored { name, version } => find(name).is_some_and(|slice| {
            let cached = slice.metadata.resource_version.as_deref().unwrap_or_default();
            // Comparable as numbers: so it is in Afloat, and by contract in Kubernetes since 1.35.
            match (cached.parse::<u64>(), version.parse::<u64>()) {
                (Ok(cached), Ok(version)) => cached >= version,
                _ => cached == version,
            }
        }),
        Written::Deleted { name, uid } => find(name).is_none_or(|slice| slice.metadata.uid.as_ref() != Some(uid)),
    }
}

#[cfg(test)]
mod tests;
