//! The operator's hands: it watches, asks `afloat-rollout` what to do, and does it.
//!
//! One watch per kind fills a cache of what is kept of its objects ([`kept`]); changes put the name of their workload into the
//! queue of its kind ([`follow`]); a worker plans and acts ([`work`], [`round`]). The kinds of workload are rows of a table
//! ([`mod@kinds`]); beside it nothing here knows which there are. What a worker plans on it gets from a ledger of its own writes, which
//! shows nothing before the caches have seen them ([`afloat_watching::ledger`]). Nothing is decided here.

mod abilities;
mod controller;
mod definition;
mod disruption;
mod events;
mod follow;
mod images;
mod kept;
mod kind;
mod kinds;
pub mod lease;
pub mod metrics;
mod operator;
mod recreate;
mod round;
pub mod serve;
mod stored;
pub mod webhook;
mod work;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use afloat_api::Gates;
use afloat_watching::Cache;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use kube::Client;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::abilities::{Abilities, abilities};
pub use crate::abilities::{kinds, server};
use crate::disruption::Disruption;
use crate::follow::{appears_as, watch};
use crate::lease::LeaderElection;
use crate::metrics::Metrics;
use crate::operator::Operator;
use crate::work::Controls;

/// How the operator runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Only workloads of this namespace; None: all.
    pub namespace: Option<String>,
    /// Workloads of one kind handled at the same time; at least 1.
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
    let serving = tokio::spawn(serving.boxed());
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
        pods: Cache::new(),
        revisions: Cache::new(),
        claims: Cache::new(),
        classes: Cache::new(),
        nodes: Cache::new(),
        services: Cache::new(),
        traffic: Cache::new(),
        reports: Cache::new(),
        keeps_reports: AtomicBool::new(abilities.reports),
        node_images: Cache::new(),
        pull_jobs: Cache::new(),
        configs: Arc::default(),
        disruption: Disruption::new(client.clone(), options.namespace.clone(), recorder.clone()),
        namespace: options.namespace,
        client,
        server: abilities.server,
        gates: options.gates,
        recorder,
        metrics: options.metrics,
    });
    operator.metrics.syncing();
    let mut tasks = watch(&operator, &abilities, &shutdown);
    tasks.spawn(events.run(shutdown.clone()).boxed());
    tasks.spawn(recreate::run(operator.clone(), shutdown.clone()).boxed());
    tasks.spawn(operator.disruption.clone().follow_others(shutdown.clone()).boxed());
    if operator.namespace.is_none() {
        tasks.spawn(stored::keep(operator.client.clone(), shutdown.clone()).boxed());
    }
    let there = |controls: &Arc<dyn Controls>| abilities.workloads.contains(controls.kind().2);
    let all = kinds::all(&operator);
    let (present, absent): (Vec<_>, Vec<_>) = all.iter().cloned().partition(there);
    for controls in &present {
        tasks.spawn(controls.follow(shutdown.clone()).boxed());
    }
    tokio::select! {
        () = ready(&operator, &abilities, &present) => {}
        () = shutdown.cancelled() => return Ok(()),
        _ = tasks.join_next() => return if shutdown.is_cancelled() { Ok(()) } else { Err(Error::Ended("watch")) },
    }
    operator.metrics.leading();
    let mut workers = JoinSet::new();
    workers.spawn(disruption::run(operator.disruption.clone(), shutdown.clone()).boxed());
    for controls in present {
        workers.spawn(controls.work(options.workers, shutdown.clone()).boxed());
    }
    workers.spawn(images::run(operator.clone(), all, shutdown.clone()).boxed());
    for controls in absent {
        let client = operator.client.clone();
        workers.spawn(work_later(client, controls, options.workers, shutdown.clone()).boxed());
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

/// Waits until all has been seen that is decided on.
async fn ready(operator: &Operator, abilities: &Abilities, present: &[Arc<dyn Controls>]) {
    operator.ready(abilities).await;
    for controls in present {
        controls.ready().await;
    }
}

/// For a kind whose CRD is not there: begins when it appears.
async fn work_later(client: Client, controls: Arc<dyn Controls>, workers: usize, shutdown: CancellationToken) {
    let kind = controls.kind();
    tracing::info!(kind = kind.2, "no such kind in this cluster yet");
    if !appears_as(&client, kind, &shutdown).await {
        return;
    }
    tracing::info!(
        kind = kind.2,
        "the kind is there: its objects are looked after from now on"
    );
    let work = async {
        tokio::select! {
            () = controls.ready() => {}
            () = shutdown.cancelled() => return,
        }
        controls.clone().work(workers, shutdown.clone()).await;
    };
    tokio::join!(controls.follow(shutdown.clone()), work);
}
