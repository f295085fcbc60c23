//! The operator's hands: it watches, asks `afloat-rollout` what to do, and does it.
//!
//! One watch per kind fills a cache of what is kept of its objects ([`kept`]); changes put the name of their workload into a
//! queue; a worker plans and acts ([`cloneset`], [`act`]). What it plans on it gets from a ledger of its own writes, which
//! shows nothing before the caches have seen them ([`afloat_watching::ledger`]). Nothing is decided here.

mod abilities;
mod absent;
mod act;
mod again;
mod cloneset;
mod definition;
mod events;
mod follow;
mod kept;
pub mod lease;
pub mod metrics;
mod operator;
mod progress;
mod recreate;
mod roster;
pub mod serve;
mod stored;
mod told;
pub mod webhook;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use afloat_api::Gates;
use afloat_watching::{Cache, Urgency};
use afloat_words::key::Key;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use kube::Client;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::abilities::abilities;
pub use crate::abilities::kinds;
use crate::follow::watch;
use crate::lease::LeaderElection;
use crate::metrics::Metrics;
use crate::operator::Operator;

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
    tasks.spawn(recreate::run(
        operator.clone(),
        options.namespace.clone(),
        shutdown.clone(),
    ));
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

/// A workload rests that many times as long as its planning took: the cost of planning grows with its pods, and so do the
/// changes, but not their product. What comes first after a rest is looked at at once.
const REST: u32 = 16;
/// Longest rest: it is added to each of the steps of a pod, of which the shortest take that long themselves.
const REST_MAX: Duration = Duration::from_millis(200);
