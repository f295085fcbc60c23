//! The operator's hands: it watches, asks `afloat-rollout` what to do, and does it.
//!
//! One watch per kind fills a cache of what is kept of its objects ([`kept`]); changes put the name of their workload into a
//! queue; a worker plans and acts ([`cloneset`], [`act`]). What it plans on it gets from a ledger of its own writes, which
//! shows nothing before the caches have seen them ([`afloat_watching::ledger`]). Nothing is decided here.

mod absent;
mod act;
mod again;
mod cloneset;
mod definition;
mod events;
mod kept;
pub mod lease;
pub mod metrics;
mod progress;
mod roster;
pub mod serve;
mod stored;
mod told;
pub mod webhook;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use afloat_api::{CloneSet, Gates, NodeTraffic, RolloutReport};
use afloat_rollout::cloneset::Claim;
use afloat_rollout::pod::Pod;
use afloat_rollout::pod::launch::Opened;
use afloat_rollout::workload::memo::Memo;
use afloat_watching::feed::Pauses;
use afloat_watching::{Cache, Ledger, Queue, Urgency, Watchable, Writing, Written};
use afloat_words::key::Key;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::Resource as _;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::act::{Kind, REQUEST_TIMEOUT};
use crate::events::Recorder;
use crate::kept::{
    Claims, CloneSets, Nodes, Pods, Reports, Revisions, Services, Traffics, cloneset_of, cloneset_owner,
};
use crate::lease::LeaderElection;
use crate::metrics::Metrics;
use crate::progress::Progress;

/// How the operator runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Only workloads of this namespace; None: all.
    pub namespace: Option<String>,
    /// Workloads handled at the same time; at least 1.
    pub workers: usize,
    /// Wait for a Lease before acting; None where only one operator can exist.
    pub leader_election: Option<LeaderElection>,
    /// Converts between the versions of CloneSet; None where v1beta1 is served alone.
    pub webhook: Option<webhook::Options>,
    /// What OpenKruise's feature gates say.
    pub gates: Gates,
    /// Where figures go. Clones share the same figures: keep one and register it.
    pub metrics: Metrics,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            namespace: None,
            workers: 4,
            leader_election: None,
            webhook: None,
            gates: Gates::default(),
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
    /// What is stored cannot be read as it was meant.
    #[error("{0}")]
    Unreadable(String),
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
    run_whole(client, options, shutdown).boxed()
}

/// The webhook serves whether this instance leads or not.
async fn run_whole(client: Client, mut options: Options, shutdown: CancellationToken) -> Result<(), Error> {
    let Some(webhook) = options.webhook.take() else {
        return run_elected(client, options, shutdown).await;
    };
    let serving = webhook::run(
        client.clone(),
        webhook,
        options.metrics.webhook().clone(),
        shutdown.clone(),
    );
    let serving = tokio::spawn(serving);
    let result = run_elected(client, options, shutdown).await;
    serving.abort();
    result
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
    pub(crate) clonesets: Arc<Cache<CloneSets>>,
    pub(crate) pods: Arc<Cache<Pods>>,
    pub(crate) revisions: Arc<Cache<Revisions>>,
    pub(crate) claims: Arc<Cache<Claims>>,
    /// Helps to tell when an update is complete; what it does not know costs time, not safety.
    pub(crate) nodes: Arc<Cache<Nodes>>,
    /// Whose traffic is whose.
    pub(crate) services: Arc<Cache<Services>>,
    /// What the nodes' proxies do, where agents report it.
    pub(crate) traffic: Arc<Cache<Traffics>>,
    /// What became of rollouts, where the cluster has such objects.
    pub(crate) reports: Arc<Cache<Reports>>,
    /// Whether it has, and they are all here.
    pub(crate) keeps_reports: AtomicBool,
    pub(crate) queue: Arc<Queue>,
    /// What each workload's rounds have written and the caches do not show yet.
    pub(crate) ledger: Arc<Ledger>,
    /// Workloads that wait for what proxies do.
    observing: Arc<Mutex<BTreeSet<Key>>>,
    /// What is known of each workload beyond what the cluster shows.
    memories: Mutex<HashMap<Key, Memory>>,
    /// Whether the cluster can resize pods.
    pub(crate) resizes: bool,
    /// What OpenKruise's feature gates say.
    pub(crate) gates: Gates,
    pub(crate) recorder: Recorder,
    pub(crate) metrics: Metrics,
}

/// What one instance knows of a workload beyond what the cluster shows. The next leader begins without it: that costs
/// time or a write that changes nothing, never safety.
#[derive(Default)]
pub(crate) struct Memory {
    /// When the status was last written.
    pub(crate) status_written: Option<Instant>,
    /// How far pods with a launch priority were let start, by uid.
    pub(crate) opened: Opened,
    /// When a write that took a pod out of service was answered, by uid, and the pod's name.
    pub(crate) drains: BTreeMap<String, (Timestamp, Arc<str>)>,
    /// How long things take.
    pub(crate) progress: Progress,
    /// What the last round found out.
    pub(crate) memo: Memo,
    /// Its pods, as the last round saw them.
    pub(crate) pods: Option<roster::Kept>,
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

    /// Notes a write that was answered, or that will not be.
    pub(crate) fn wrote(&self, writing: &Writing<'_>, kind: Kind, written: Written) {
        match kind {
            Kind::CloneSet => writing.wrote(&self.clonesets, written),
            Kind::Pod => writing.wrote(&self.pods, written),
            Kind::Revision => writing.wrote(&self.revisions, written),
            Kind::Claim => writing.wrote(&self.claims, written),
            Kind::Report => writing.wrote(&self.reports, written),
        }
    }

    /// Forgets a workload that is gone.
    pub(crate) fn forget(&self, key: &Key) {
        self.observe(key, false);
        self.ledger.forget(key);
        self.memories.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        self.metrics.gone(key);
    }
}

async fn lead(client: Client, options: Options, shutdown: CancellationToken) -> Result<(), Error> {
    stored::check(&client).await.map_err(Error::Unreadable)?;
    let (recorder, events) = events::recorder(client.clone());
    let Some(abilities) = abilities(&client, &shutdown).await else {
        return Ok(());
    };
    let operator = Arc::new(Operator {
        clonesets: Cache::new(),
        pods: Cache::new(),
        revisions: Cache::new(),
        claims: Cache::new(),
        nodes: Cache::new(),
        services: Cache::new(),
        traffic: Cache::new(),
        reports: Cache::new(),
        keeps_reports: AtomicBool::new(abilities.reports),
        observing: Arc::default(),
        client,
        queue: Arc::default(),
        ledger: Arc::default(),
        memories: Mutex::default(),
        resizes: abilities.resizes,
        gates: options.gates,
        recorder,
        metrics: options.metrics,
    });
    operator.metrics.syncing();
    let mut tasks = watch(&operator, abilities, options.namespace.as_deref(), &shutdown);
    tasks.spawn(events.run(shutdown.clone()));
    if options.namespace.is_none() {
        tasks.spawn(stored::keep(operator.client.clone(), shutdown.clone()));
    }
    let queue = &operator.queue;
    let ready = async {
        operator.clonesets.ready().await;
        operator.pods.ready().await;
        operator.revisions.ready().await;
        operator.claims.ready().await;
        operator.services.ready().await;
        if abilities.reports {
            operator.reports.ready().await;
        }
        if abilities.traffic {
            // What the last leader began to observe must not be taken for unobserved.
            operator.traffic.ready().await;
        }
    };
    tokio::select! {
        () = ready => {}
        () = shutdown.cancelled() => return Ok(()),
        _ = tasks.join_next() => return if shutdown.is_cancelled() { Ok(()) } else { Err(Error::Ended("watch")) },
    }
    operator.metrics.leading();
    for set in operator.clonesets.peek_all() {
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
    // A group that is not there answers with plain text, of which kube's client warns each time.
    let groups = client.list_api_groups().await?.groups;
    if !groups.iter().any(|group| group.name == NodeTraffic::GROUP) {
        return Ok(BTreeSet::new());
    }
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
fn watch(
    operator: &Arc<Operator>,
    abilities: Abilities,
    namespace: Option<&str>,
    shutdown: &CancellationToken,
) -> JoinSet<()> {
    let queue = &operator.queue;
    queue.follow(&operator.clonesets, |set: &CloneSet| [Key::of(&set.metadata)]);
    queue.follow(&operator.revisions, |revision: &ControllerRevision| {
        owner(&revision.metadata)
    });
    queue.follow(&operator.claims, |claim: &Claim| owner(&claim.metadata));
    queue.follow(&operator.reports, |report: &RolloutReport| owner(&report.metadata));
    let sets = operator.clonesets.clone();
    let ledger = operator.ledger.clone();
    queue.follow_news(
        &operator.pods,
        move |pod: &Pod| sets_of(pod, &sets),
        |old, new| new.reads_as(old),
        move |key| ledger.waits(key),
    );
    // Who waits for a Service's proxies waits for their reports. A plan that waits for a node's images looks again by itself.
    let observing = operator.observing.clone();
    queue.follow(&operator.traffic, move |_: &NodeTraffic| {
        let observing = observing.lock().unwrap_or_else(PoisonError::into_inner);
        observing.iter().cloned().collect::<Vec<_>>()
    });

    let client = &operator.client;
    let mut tasks = JoinSet::new();
    let mut feed = Feeding {
        tasks: &mut tasks,
        shutdown,
    };
    feed.feed(&operator.clonesets, scoped(client, namespace));
    feed.feed(&operator.revisions, scoped(client, namespace));
    feed.feed(&operator.claims, scoped(client, namespace));
    feed.feed(&operator.pods, scoped(client, namespace));
    feed.feed(&operator.nodes, Api::all(client.clone()));
    feed.feed(&operator.services, scoped(client, namespace));
    if abilities.reports {
        feed.feed(&operator.reports, scoped(client, namespace));
    } else {
        let (operator, api) = (operator.clone(), scoped(client, namespace));
        feed.tasks.spawn(absent::reports(operator, api, shutdown.clone()));
    }
    if abilities.traffic {
        feed.feed(&operator.traffic, Api::all(client.clone()));
    } else {
        feed.tasks.spawn(absent::traffic(operator.clone(), shutdown.clone()));
    }
    tasks
}

struct Feeding<'a> {
    tasks: &'a mut JoinSet<()>,
    shutdown: &'a CancellationToken,
}

impl Feeding<'_> {
    fn feed<K: Watchable>(&mut self, cache: &Arc<Cache<K>>, api: Api<K::Wire>) {
        let config = watcher::Config::default();
        let feed = cache.clone().feed(api, config, Pauses::Patient, self.shutdown.clone());
        self.tasks.spawn(feed);
    }
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
            operator.queue.waiting(),
        );
        match outcome {
            cloneset::Next::Wait => operator.queue.done(&key, None, rest),
            cloneset::Next::At(delay) => operator.queue.done(&key, Some(delay), rest),
            cloneset::Next::Retry => operator.queue.retry(&key),
        }
    }
}

/// The CloneSet that controls an object.
fn owner(meta: &ObjectMeta) -> Option<Key> {
    let owner = cloneset_owner(meta)?;
    Some(Key::new(
        meta.namespace.as_deref().unwrap_or_default(),
        owner.name.as_str(),
    ))
}

/// The CloneSet that controls a pod; of an orphan, those that may adopt it.
fn sets_of(pod: &Pod, sets: &Cache<CloneSets>) -> Vec<Key> {
    let namespace = &pod.metadata.namespace;
    if let Some(owner) = cloneset_of(pod) {
        return vec![Key::new(namespace.shared(), owner.name.shared())];
    }
    if pod.controller.is_some() {
        return Vec::new();
    }
    let sets = sets.peek_all().into_iter();
    let may = sets.filter(|set| set.metadata.namespace.as_deref() == Some(namespace) && set.selects(&pod.labels));
    may.map(|set| Key::of(&set.metadata)).collect()
}

/// A workload rests that many times as long as its planning took: the cost of planning grows with its pods, and so do the
/// changes, but not their product. What comes first after a rest is looked at at once.
const REST: u32 = 16;
/// Longest rest: it is added to each of the steps of a pod, of which the shortest take that long themselves.
const REST_MAX: Duration = Duration::from_millis(200);

/// Pause between two tries to ask what the API server serves.
const DISCOVERY_PAUSE: Duration = Duration::from_secs(1);
