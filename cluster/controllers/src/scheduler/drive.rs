//! The scheduler's loop: drains what changed, decides for every pod that waits, binds in parallel.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::time::Instant;

use crate::Error;
use crate::context::Context;
use crate::loops::answer::is_status;
use crate::loops::events::Tone;
use crate::objects::time::seconds;
use crate::objects::{Key, Pod};

use super::bind::{Binding, bind_pod};
use super::changes::{Dirty, watch_changes};
use super::cluster::Cluster;
use super::fit::place;
use super::node::Share;
use super::volumes::Storage;

/// Bindings in flight.
const PARALLEL: usize = 64;
/// After this long, pods that fitted nowhere are tried again even if nothing changed.
const RETRY_ALL: Duration = Duration::from_secs(60);
/// After a binding failed: first and last delay.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LAST: Duration = Duration::from_secs(10);

struct Waiting {
    pod: Arc<Pod>,
    /// Order of arrival; higher priority goes before it.
    ticket: u64,
    /// Fitted nowhere; waits for a change.
    parked: bool,
    not_before: Option<Instant>,
    failures: u32,
    /// The reason last told.
    told: Option<String>,
}

#[derive(Default)]
struct Scheduler {
    cluster: Cluster,
    waiting: HashMap<String, Waiting>,
    tickets: u64,
    /// Something changed that may let a waiting pod be placed.
    stale: bool,
}

/// Runs the loop until shutdown.
pub(crate) async fn run_scheduler(context: Context) -> Result<(), Error> {
    let (pods, nodes) = (&context.caches.pods, &context.caches.nodes);
    pods.ready().await;
    nodes.ready().await;
    let (claims, volumes, classes) = (&context.caches.claims, &context.caches.volumes, &context.caches.classes);
    tokio::join!(claims.ready(), volumes.ready(), classes.ready());
    let dirty = watch_changes(&context);
    let mut scheduler = Scheduler::default();
    let mut decided = VecDeque::new();
    let mut binding = FuturesUnordered::new();
    let mut retry_all = tokio::time::interval(RETRY_ALL);
    loop {
        scheduler.absorb(&context, &dirty);
        if scheduler
            .waiting
            .values()
            .any(|waiting| !waiting.pod.spec.claims.is_empty())
        {
            scheduler.cluster.storage = Storage::new(&claims.peek_all(), volumes.peek_all(), classes.peek_all());
        }
        let refused = scheduler.decide(&mut decided);
        for (pod, message) in refused {
            tell(&context, &pod, &message).await;
        }
        while binding.len() < PARALLEL
            && let Some(one) = decided.pop_front()
        {
            binding.push(async { (bind_pod(&context, &dirty, &one).await, one) });
        }
        let next = scheduler.next_retry();
        tokio::select! {
            () = context.shutdown.cancelled() => return Ok(()),
            () = dirty.wake.notified() => {}
            _ = retry_all.tick() => scheduler.unpark(),
            () = sleep_until(next), if next.is_some() => {}
            Some((result, one)) = binding.next(), if !binding.is_empty() => scheduler.bound(&context, result, &one),
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Whether the pod is ours to place.
fn wants_node(pod: &Pod) -> bool {
    pod.node().is_none()
        && pod.is_active()
        && pod.spec.scheduling_gates.is_empty()
        && pod
            .spec
            .scheduler_name
            .as_deref()
            .is_none_or(|name| name.is_empty() || name == "default-scheduler")
}

impl Scheduler {
    /// Takes over what changed.
    fn absorb(&mut self, context: &Context, dirty: &Dirty) {
        let nodes = std::mem::take(&mut *dirty.nodes.lock().unwrap_or_else(PoisonError::into_inner));
        let mut room = !nodes.is_empty();
        if dirty.storage.swap(false, Ordering::AcqRel) {
            self.unpark_claiming();
        }
        for key in nodes {
            self.cluster
                .set_node(&key.name, context.caches.nodes.peek(&key).as_deref());
        }
        let pods = std::mem::take(&mut *dirty.pods.lock().unwrap_or_else(PoisonError::into_inner));
        for (key, uids) in pods {
            let pod = context.caches.pods.peek(&key);
            for uid in uids {
                room |= self.absorb_pod(&uid, pod.as_ref().filter(|pod| pod.uid() == uid));
            }
        }
        if room {
            self.unpark();
        }
    }

    fn absorb_pod(&mut self, uid: &str, pod: Option<&Arc<Pod>>) -> bool {
        let freed = self.cluster.set_pod(uid, pod.map(AsRef::as_ref));
        match pod.filter(|pod| wants_node(pod)) {
            Some(pod) if !self.cluster.has(uid) => {
                self.tickets += 1;
                self.stale = true;
                let ticket = self.tickets;
                let told = pod
                    .condition("PodScheduled")
                    .filter(|condition| condition.status == "False");
                let told = told.and_then(|condition| condition.message.clone());
                let entry = self.waiting.entry(uid.to_owned());
                let known = entry.or_insert_with(|| Waiting {
                    pod: pod.clone(),
                    ticket,
                    parked: false,
                    not_before: None,
                    failures: 0,
                    told,
                });
                known.pod = pod.clone();
            }
            Some(_) => {}
            None => drop(self.waiting.remove(uid)),
        }
        freed
    }

    /// Claims or volumes have changed: pods without any do not care.
    fn unpark_claiming(&mut self) {
        for waiting in self
            .waiting
            .values_mut()
            .filter(|waiting| !waiting.pod.spec.claims.is_empty())
        {
            waiting.parked = false;
            self.stale = true;
        }
    }

    fn unpark(&mut self) {
        self.stale = true;
        for waiting in self.waiting.values_mut() {
            waiting.parked = false;
        }
    }

    /// Decides for the pods that wait, by priority and arrival. Returns those that fit nowhere, and why, if that is news.
    fn decide(&mut self, decided: &mut VecDeque<Binding>) -> Vec<(Arc<Pod>, String)> {
        let now = Instant::now();
        let mut refused = Vec::new();
        if !self.stale && self.next_retry().is_none_or(|at| at > now) {
            return refused;
        }
        self.stale = false;
        let mut order: BTreeMap<(Reverse<i32>, u64), String> = BTreeMap::new();
        for (uid, waiting) in &self.waiting {
            if !waiting.parked && !self.cluster.has(uid) && waiting.not_before.is_none_or(|at| at <= now) {
                order.insert(
                    (Reverse(waiting.pod.spec.priority.unwrap_or(0)), waiting.ticket),
                    uid.clone(),
                );
            }
        }
        for uid in order.into_values() {
            let Some(waiting) = self.waiting.get_mut(&uid) else {
                continue;
            };
            waiting.not_before = None;
            let share = Share::of(&waiting.pod);
            match place(&self.cluster, &waiting.pod, &share) {
                Ok(at) => {
                    let node = &self.cluster.nodes[at];
                    // It placed the pod a moment ago: the needs are still the same.
                    let needs = self.cluster.storage.needs(&waiting.pod).unwrap_or_default();
                    let (steps, claims) = needs.steps(node);
                    decided.push_back(Binding {
                        key: Key::of(&waiting.pod.metadata),
                        uid: uid.clone(),
                        node: node.name.clone(),
                        steps,
                        claims,
                    });
                    self.cluster.assume(&uid, at, share);
                }
                Err(refusal) => {
                    waiting.parked = true;
                    let message = refusal.to_string();
                    if waiting.told.as_ref() != Some(&message) {
                        waiting.told = Some(message.clone());
                        refused.push((waiting.pod.clone(), message));
                    }
                }
            }
        }
        refused
    }

    fn next_retry(&self) -> Option<Instant> {
        self.waiting.values().filter_map(|waiting| waiting.not_before).min()
    }

    fn bound(&mut self, context: &Context, result: Result<(), Error>, one: &Binding) {
        let Err(error) = result else {
            // The cache may have told of the binding before its answer came.
            self.waiting.remove(&one.uid);
            let key = &one.key;
            let about = ObjectMeta {
                namespace: Some(key.namespace.to_string()),
                name: Some(key.name.to_string()),
                uid: Some(one.uid.clone()),
                ..ObjectMeta::default()
            };
            let message = format!("Successfully assigned {}/{} to {}", key.namespace, key.name, one.node);
            context.shell.event::<Pod>(&about, Tone::Normal, "Scheduled", message);
            return;
        };
        tracing::debug!(pod = ?one.key, node = one.node, %error, "binding failed");
        // Bound by somebody else or gone: the cache will tell. Until then it does not count.
        self.cluster.retract(&one.uid);
        let pod = context.caches.pods.peek(&one.key).filter(|pod| pod.uid() == one.uid);
        self.absorb_pod(&one.uid, pod.as_ref());
        if let Some(waiting) = self.waiting.get_mut(&one.uid) {
            waiting.failures = waiting.failures.saturating_add(1);
            let delay = RETRY_FIRST
                .saturating_mul(1 << (waiting.failures - 1).min(10))
                .min(RETRY_LAST);
            waiting.not_before = Some(Instant::now() + delay);
        }
        self.unpark();
    }
}

/// Says on the pod why it does not run: condition and event, once per reason.
async fn tell(context: &Context, pod: &Pod, message: &str) {
    let known = pod.condition("PodScheduled");
    let since = known
        .filter(|condition| condition.status == "False")
        .and_then(|condition| condition.last_transition_time.as_ref());
    let since = since.map_or_else(jiff::Timestamp::now, |time| time.0);
    let patch = json!({
        "metadata": {"uid": pod.uid()},
        "status": {"conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
            "lastTransitionTime": seconds(since),
        }]},
    });
    let key = Key::of(&pod.metadata);
    let api = context.shell.api::<Pod>(&key.namespace);
    if let Err(error) = api
        .patch_status(&key.name, &PatchParams::default(), &Patch::Strategic(patch))
        .await
        && !is_status(&error, 404)
        && !is_status(&error, 409)
    {
        tracing::warn!(pod = ?key, %error, "could not say why the pod is not scheduled");
    }
    let shell = &context.shell;
    shell.event::<Pod>(&pod.metadata, Tone::Warning, "FailedScheduling", message.to_owned());
}
