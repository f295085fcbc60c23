//! The operator's hands: it watches, asks `afloat-rollout` what to do, and does it.
//!
//! One watch per kind fills a cache of trimmed objects ([`observe`]); changes put the name of their workload into a queue
//! ([`queue`]); a worker plans and acts ([`cloneset`], [`act`]). After its own writes a workload is not planned again
//! until the caches have seen them ([`expect`]). Nothing is decided here.

mod act;
mod cloneset;
mod events;
mod expect;
pub mod lease;
pub mod metrics;
mod observe;
mod progress;
mod queue;
pub mod serve;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use afloat_api::{CloneSet, NodeTraffic, RolloutReport};
use afloat_rollout::claim::Claim;
use afloat_rollout::images::Node;
use afloat_rollout::launch::Opened;
use afloat_rollout::pod::{Controller, Pod};
use afloat_rollout::traffic::Service;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::Resource as _;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Api, Client};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::events::Recorder;
use crate::expect::Expectations;
use crate::lease::LeaderElection;
use crate::metrics::Metrics;
use crate::observe::{Cache, Key};
use crate::progress::Progress;
use crate::queue::{Queue, Urgency};

/// How the operator runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Only workloads of this namespace; None: all.
    pub namespace: Option<String>,
    /// Workloads handled at the same time; at least 1.
    pub workers: usize,
    /// Wait for a Lease before acting; None where only one operator can exist.
    pub leader_election: Option<LeaderElection>,
    /// Where figures go. Clones share the same figures: keep one and register it.
    pub metrics: Metrics,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            namespace: None,
            workers: 4,
            leader_election: None,
            metrics: Metrics::default(),
        }
    }
}

/// Why the operator stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another instance holds the Lease now; start again to wait for it.
    #[error("leadership lost: another instance holds the lease {0}")]
    LeadershipLost(String),
    /// A part of the operator ended that never should.
    #[error("the operator's {0} ended unexpectedly")]
    Ended(&'static str),
}

/// Runs the operator until `shutdown` is cancelled.
///
/// # Errors
/// When leadership is lost, or a part of it panicked.
pub fn run(client: Client, options: Options, shutdown: CancellationToken) -> BoxFuture<'static, Result<(), Error>> {
    // Boxed where nothing is async: the code of a future is made where it is awaited, which would be each program that calls this.
    run_elected(client, options, shutdown).boxed()
}

async fn run_elected(client: Client, options: Options, shutdown: CancellationToken) -> Result<(), Error> {
    let Some(election) = options.leader_election.clone() else {
        return lead(client, options, shutdown).await;
    };
    let Some(leadership) = lease::acquire(&client, &election, &shutdown).await else {
        return Ok(());
    };
    let stop = shutdown.child_token();
    let work = lead(client.clone(), options, stop.clone());
    tokio::pin!(work);
    let lost = leadership.keep(&shutdown);
    tokio::pin!(lost);
    tokio::select! {
        result = &mut work => {
            leadership.release().await;
            result
        }
        still_ours = &mut lost => {
            stop.cancel();
            // No write of ours may follow the next leader's first, so wait for the workers before letting go.
            let result = work.await;
            if still_ours {
                leadership.release().await;
                return result;
            }
            Err(Error::LeadershipLost(election.name))
        }
    }
}

/// Everything that the workers share.
pub(crate) struct Operator {
    pub(crate) client: Client,
    pub(crate) clonesets: Arc<Cache<CloneSet>>,
    pub(crate) pods: Arc<Cache<Pod>>,
    pub(crate) revisions: Arc<Cache<ControllerRevision>>,
    pub(crate) claims: Arc<Cache<Claim>>,
    /// Helps to tell when an update is complete; what it does not know costs time, not safety.
    pub(crate) nodes: Arc<Cache<Node>>,
    /// Whose traffic is whose.
    pub(crate) services: Arc<Cache<Service>>,
    /// What the nodes' proxies do, where agents report it.
    pub(crate) traffic: Arc<Cache<NodeTraffic>>,
    /// What became of rollouts, where the cluster has such objects.
    pub(crate) reports: Arc<Cache<RolloutReport>>,
    /// Whether it has.
    pub(crate) keeps_reports: bool,
    pub(crate) queue: Arc<Queue>,
    /// Workloads that wait for what proxies do.
    observing: Arc<Mutex<BTreeSet<Key>>>,
    /// What is known of each workload beyond what the cluster shows.
    memories: Mutex<HashMap<Key, Memory>>,
    /// Whether the cluster can resize pods.
    pub(crate) resizes: bool,
    pub(crate) recorder: Recorder,
    pub(crate) metrics: Metrics,
}

/// What one instance knows of a workload beyond what the cluster shows. The next leader begins without it: that costs
/// time or a write that changes nothing, never safety.
#[derive(Default)]
pub(crate) struct Memory {
    /// Own writes that are still to be seen.
    pub(crate) expectations: Expectations,
    /// When the status was last written.
    pub(crate) status_written: Option<Instant>,
    /// How far pods with a launch priority were let start, by uid.
    pub(crate) opened: Opened,
    /// When a write that took a pod out of service was answered, by uid.
    pub(crate) drains: BTreeMap<String, Timestamp>,
    /// How long things take.
    pub(crate) progress: Progress,
    /// Pods that were deleted lately: their revisions by UID, and when.
    pub(crate) departed: BTreeMap<String, (String, Instant)>,
}

impl Operator {
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

    /// Forgets a workload that is gone.
    pub(crate) fn forget(&self, key: &Key) {
        self.observe(key, false);
        self.memories.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        self.metrics.gone(key);
    }
}

async fn lead(client: Client, options: Options, shutdown: CancellationToken) -> Result<(), Error> {
    let (recorder, events) = events::recorder(client.clone());
    let Some(abilities) = abilities(&client, &shutdown).await else {
        return Ok(());
    };
    let operator = Arc::new(Operator {
        clonesets: Arc::new(Cache::new(|_| Some(String::new()))),
        pods: Arc::new(Cache::new(pod_group)),
        revisions: Arc::new(Cache::new(|revision: &ControllerRevision| {
            cloneset_owner(&revision.metadata).map(|owner| owner.uid.clone())
        })),
        claims: Arc::new(Cache::new(|claim: &Claim| {
            cloneset_owner(&claim.metadata).map(|owner| owner.uid.clone())
        })),
        nodes: Arc::new(Cache::new(|_| Some(String::new()))),
        services: Arc::new(Cache::new(|service: &Service| service.metadata.namespace.clone())),
        traffic: Arc::new(Cache::new(|_| Some(String::new()))),
        reports: Arc::new(Cache::new(|report: &RolloutReport| {
            cloneset_owner(&report.metadata).map(|owner| owner.uid.clone())
        })),
        keeps_reports: abilities.reports,
        observing: Arc::default(),
        client,
        queue: Arc::new(Queue::default()),
        memories: Mutex::default(),
        resizes: abilities.resizes,
        recorder,
        metrics: options.metrics,
    });
    operator.metrics.syncing();
    let mut tasks = watch(&operator, options.namespace.as_deref(), &shutdown);
    tasks.spawn(events.run(shutdown.clone()));
    let queue = &operator.queue;
    let mut caches = vec![
        operator.clonesets.synced(),
        operator.pods.synced(),
        operator.revisions.synced(),
        operator.claims.synced(),
        operator.services.synced(),
    ];
    if abilities.reports {
        caches.push(operator.reports.synced());
    }
    if abilities.traffic {
        // What the last leader began to observe must not be taken for unobserved.
        caches.push(operator.traffic.synced());
    }
    for mut cache in caches {
        tokio::select! {
            result = cache.wait_for(|synced| *synced) => { result.map_err(|_| Error::Ended("watch"))?; }
            () = shutdown.cancelled() => return Ok(()),
        }
    }
    operator.metrics.leading();
    for set in operator.clonesets.group("") {
        queue.add(Key::of(&set.metadata), Urgency::Calm);
    }
    let mut workers = JoinSet::new();
    for _ in 0..options.workers.max(1) {
        workers.spawn(work(operator.clone(), shutdown.clone()));
    }
    tokio::select! {
        () = shutdown.cancelled() => {}
        _ = workers.join_next() => if !shutdown.is_cancelled() { return Err(Error::Ended("worker")) },
        _ = tasks.join_next() => if !shutdown.is_cancelled() { return Err(Error::Ended("watch")) },
    }
    // A worker finishes the write it is at; each has a time limit of its own.
    while workers.join_next().await.is_some() {}
    operator.metrics.stopped();
    Ok(())
}

/// What the API server has.
#[derive(Clone, Copy, Debug)]
struct Abilities {
    /// The `resize` subresource of pods.
    resizes: bool,
    /// NodeTraffic.
    traffic: bool,
    /// RolloutReport.
    reports: bool,
}

/// The kinds of `afloat.dev` that the API server has. They are not there where the CRDs have not been applied.
///
/// # Errors
/// If the API server cannot be asked.
pub async fn kinds(client: &Client) -> kube::Result<BTreeSet<String>> {
    match client.list_api_group_resources(NodeTraffic::API_VERSION).await {
        Ok(list) => Ok(list.resources.into_iter().map(|resource| resource.kind).collect()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(BTreeSet::new()),
        Err(error) => Err(error),
    }
}

/// Asks the API server what it has; None if `shutdown` comes before it answers.
async fn abilities(client: &Client, shutdown: &CancellationToken) -> Option<Abilities> {
    loop {
        let ask = async {
            let core = client.list_core_api_resources("v1").await?;
            let ours = kinds(client).await?;
            Ok::<_, kube::Error>(Abilities {
                resizes: core.resources.iter().any(|resource| resource.name == "pods/resize"),
                traffic: ours.contains(NodeTraffic::KIND),
                reports: ours.contains(RolloutReport::KIND),
            })
        };
        let error = match tokio::time::timeout(REQUEST_TIMEOUT, ask).await {
            Ok(Ok(found)) => return Some(found),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {REQUEST_TIMEOUT:?}"),
        };
        tracing::warn!(error, "cannot ask what the API server serves, trying again");
        tokio::select! {
            () = tokio::time::sleep(DISCOVERY_PAUSE) => {}
            () = shutdown.cancelled() => return None,
        }
    }
}

/// Follows every kind; changes put the name of their workload into the queue.
fn watch(operator: &Arc<Operator>, namespace: Option<&str>, shutdown: &CancellationToken) -> JoinSet<()> {
    let client = &operator.client;
    let mut tasks = JoinSet::new();
    let queue = operator.queue.clone();
    let on_set = move |set: &CloneSet, urgency| queue.add(Key::of(&set.metadata), urgency);
    let api = scoped(client, namespace);
    tasks.spawn(operator.clonesets.clone().run(api, on_set, shutdown.clone()));
    let queue = operator.queue.clone();
    let on_revision = move |revision: &ControllerRevision, urgency| child_changed(&revision.metadata, urgency, &queue);
    let api = scoped(client, namespace);
    tasks.spawn(operator.revisions.clone().run(api, on_revision, shutdown.clone()));
    let queue = operator.queue.clone();
    let on_claim = move |claim: &Claim, urgency| child_changed(&claim.metadata, urgency, &queue);
    let api = scoped(client, namespace);
    tasks.spawn(operator.claims.clone().run(api, on_claim, shutdown.clone()));
    let (queue, sets) = (operator.queue.clone(), operator.clonesets.clone());
    let on_pod = move |pod: &Pod, urgency| pod_changed(pod, urgency, &sets, &queue);
    let api = scoped(client, namespace);
    tasks.spawn(operator.pods.clone().run(api, on_pod, shutdown.clone()));
    // A plan that waits for a node's list of images looks again by itself.
    let nodes = operator.nodes.clone();
    tasks.spawn(nodes.run(Api::all(client.clone()), |_, _| (), shutdown.clone()));
    // Who waits for a Service's proxies waits for their reports.
    let services = operator.services.clone();
    tasks.spawn(services.run(scoped(client, namespace), |_, _| (), shutdown.clone()));
    let (queue, observing) = (operator.queue.clone(), operator.observing.clone());
    let on_traffic = move |_: &NodeTraffic, urgency: Urgency| {
        for key in observing.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            queue.add(key.clone(), urgency);
        }
    };
    if operator.keeps_reports {
        let queue = operator.queue.clone();
        let on_report = move |report: &RolloutReport, urgency| child_changed(&report.metadata, urgency, &queue);
        let reports = operator.reports.clone();
        tasks.spawn(reports.run(scoped(client, namespace), on_report, shutdown.clone()));
    }
    let traffic = operator.traffic.clone();
    tasks.spawn(traffic.run(Api::all(client.clone()), on_traffic, shutdown.clone()));
    tasks
}

fn scoped<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: k8s_openapi::Resource<Scope = k8s_openapi::NamespaceResourceScope> + k8s_openapi::Metadata<Ty = ObjectMeta>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

async fn work(operator: Arc<Operator>, shutdown: CancellationToken) {
    loop {
        let key = tokio::select! {
            key = operator.queue.take() => key,
            () = shutdown.cancelled() => return,
        };
        let started = Instant::now();
        let span = tracing::debug_span!("reconcile", %key);
        let (outcome, planning) = cloneset::reconcile(&operator, &key).instrument(span).await;
        let rest = planning.saturating_mul(REST).min(REST_MAX);
        operator.metrics.reconciled(
            started.elapsed(),
            matches!(outcome, cloneset::Next::Retry),
            operator.queue.len(),
        );
        match outcome {
            cloneset::Next::Wait => operator.queue.done(&key, None, rest),
            cloneset::Next::At(delay) => operator.queue.done(&key, Some(delay), rest),
            cloneset::Next::Retry => operator.queue.retry(&key),
        }
    }
}

/// The owner reference of a CloneSet, of either API version.
pub(crate) fn cloneset_owner(
    meta: &ObjectMeta,
) -> Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference> {
    let owners = meta.owner_references.iter().flatten();
    owners
        .filter(|owner| owner.controller == Some(true))
        .find(|owner| is_cloneset(&owner.kind, &owner.api_version))
}

fn is_cloneset(kind: &str, api_version: &str) -> bool {
    kind == "CloneSet" && api_version.split('/').next() == Some(afloat_api::GROUP)
}

/// The CloneSet that controls a pod.
fn cloneset_of(pod: &Pod) -> Option<&Controller> {
    let owner = pod.controller.as_ref();
    owner.filter(|owner| is_cloneset(&owner.kind, &owner.api_version))
}

/// Pods of other controllers are not kept at all; orphans are kept by namespace.
fn pod_group(pod: &Pod) -> Option<String> {
    match (cloneset_of(pod), &pod.controller) {
        (Some(owner), _) => Some(owner.uid.to_string()),
        (None, None) => Some(orphans(&pod.metadata.namespace)),
        (None, Some(_)) => None,
    }
}

/// Name of the group of a namespace's orphans; no uid contains a slash.
pub(crate) fn orphans(namespace: &str) -> String {
    format!("orphans/{namespace}")
}

fn child_changed(meta: &ObjectMeta, urgency: Urgency, queue: &Queue) {
    if let Some(owner) = cloneset_owner(meta) {
        queue.add(
            Key {
                namespace: meta.namespace.as_deref().unwrap_or_default().into(),
                name: owner.name.as_str().into(),
            },
            urgency,
        );
    }
}

fn pod_changed(pod: &Pod, urgency: Urgency, sets: &Cache<CloneSet>, queue: &Queue) {
    let namespace = pod.metadata.namespace.as_str();
    if let Some(owner) = cloneset_of(pod) {
        queue.add(
            Key {
                namespace: namespace.into(),
                name: owner.name.as_str().into(),
            },
            urgency,
        );
    } else if pod.controller.is_none() {
        for set in sets.group("") {
            if set.metadata.namespace.as_deref() == Some(namespace) && set.selects(&pod.labels) {
                queue.add(Key::of(&set.metadata), urgency);
            }
        }
    }
}

/// A workload rests that many times as long as its planning took: the cost of planning grows with its pods, and so do the
/// changes, but not their product.
const REST: u32 = 4;
/// Longest rest.
const REST_MAX: Duration = Duration::from_millis(100);

/// Pause between two tries to ask what the API server serves.
const DISCOVERY_PAUSE: Duration = Duration::from_secs(1);

/// Time limit of one request to the API server.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
