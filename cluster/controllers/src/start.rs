//! Starts all loops and keeps them running.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use kube::Client;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::certificates::run_certificates;
use crate::context::{Caches, Context, Options};
use crate::error::Error;
use crate::garbage::run_garbage_collector;
use crate::loops::events::{Recorder, write_events};
use crate::loops::shell::Shell;
use crate::namespace::deletion::run_namespace_deletion;
use crate::namespace::serviceaccount::run_default_accounts;
use crate::network::endpoints::run_endpoints;
use crate::network::endpointslice::run_endpointslices;
use crate::network::mirroring::run_mirroring;
use crate::network::own_services::run_own_services;
use crate::node::lifecycle::run_node_lifecycle;
use crate::node::pod_gc::run_pod_gc;
use crate::objects::{
    CronJob, DaemonSet, Deployment, PodDisruptionBudget, ReplicaSet, ReplicationController, StatefulSet,
};
use crate::scheduler::run_scheduler;
use crate::volume::ephemeral::run_ephemeral_volumes;
use crate::volume::run_volumes;
use crate::workload::job::finished::run_ttl_after_finished;
use crate::workload::job::run_jobs;
use crate::workload::run_workload;

/// First and last delay before a loop that ended is started again.
const RESTART_FIRST: Duration = Duration::from_millis(100);
const RESTART_LAST: Duration = Duration::from_secs(30);

/// Runs all loops until `shutdown`. `client_for` gives each a client under its own name ("scheduler", "replicaset-controller",
/// …), so that the API server can tell who writes. A loop that fails is started again with back-off and disturbs no other.
///
/// # Errors
/// None at present; reserved for set-up that cannot succeed.
pub async fn run<F>(client_for: F, options: Options, shutdown: CancellationToken) -> Result<(), Error>
where
    F: Fn(&str) -> Client,
{
    let mut tasks = start_all(&client_for, options, &shutdown);
    // Nobody else holds a client while they end.
    drop(client_for);
    while tasks.join_next().await.is_some() {}
    Ok(())
}

/// Starts all loops. Neither generic nor async: the code of such a function is made anew in each program that calls it, and this
/// one's is that of all loops.
fn start_all(client_for: &dyn Fn(&str) -> Client, options: Options, shutdown: &CancellationToken) -> JoinSet<()> {
    let mut loops = Loops::new(client_for, options, shutdown.clone());
    loops.start("scheduler", run_scheduler);
    loops.start("replicaset-controller", run_workload::<ReplicaSet>);
    loops.start("replication-controller", run_workload::<ReplicationController>);
    loops.start("deployment-controller", run_workload::<Deployment>);
    loops.start("statefulset-controller", run_workload::<StatefulSet>);
    loops.start("daemonset-controller", run_workload::<DaemonSet>);
    loops.start("job-controller", run_jobs);
    loops.start("cronjob-controller", run_workload::<CronJob>);
    loops.start("ttl-after-finished-controller", run_ttl_after_finished);
    loops.start("disruption-controller", run_workload::<PodDisruptionBudget>);
    loops.start("garbage-collector", run_garbage_collector);
    loops.start("namespace-controller", run_namespace_deletion);
    loops.start("serviceaccount-controller", run_default_accounts);
    loops.start("node-lifecycle-controller", run_node_lifecycle);
    loops.start("pod-garbage-collector", run_pod_gc);
    loops.start("persistentvolume-controller", run_volumes);
    loops.start("ephemeral-volume-controller", run_ephemeral_volumes);
    loops.start("kubernetes-service-controller", run_own_services);
    loops.start("endpoint-controller", run_endpoints);
    loops.start("endpointslice-controller", run_endpointslices);
    loops.start("endpointslicemirroring-controller", run_mirroring);
    loops.start("certificate-controller", run_certificates);
    loops.tasks
}

/// The running loops, and what a new one is given.
struct Loops<'a> {
    client_for: &'a dyn Fn(&str) -> Client,
    caches: Caches,
    options: Arc<Options>,
    recorder: Recorder,
    tasks: JoinSet<()>,
    shutdown: CancellationToken,
}

impl<'a> Loops<'a> {
    /// Starts what they share: the caches, and the writer of events.
    fn new(client_for: &'a dyn Fn(&str) -> Client, options: Options, shutdown: CancellationToken) -> Self {
        let mut tasks = JoinSet::new();
        let caches = Caches::start(&client_for("controller-cache"), &mut tasks, &shutdown);
        let (recorder, pending) = Recorder::new();
        tasks.spawn(write_events(client_for("event-recorder"), pending, shutdown.clone()).boxed());
        Self {
            client_for,
            caches,
            options: Arc::new(options),
            recorder,
            tasks,
            shutdown,
        }
    }

    fn start<W, Fut>(&mut self, name: &'static str, work: W)
    where
        W: Fn(Context) -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let context = Context {
            shell: Shell::new((self.client_for)(name), name, self.recorder.clone()),
            caches: self.caches.clone(),
            options: self.options.clone(),
            shutdown: self.shutdown.clone(),
        };
        self.tasks
            .spawn(keep_running(context, Box::new(move |context| work(context).boxed())));
    }
}

/// What begins one loop. It says nothing of which: what runs them is compiled once.
type Work = Box<dyn Fn(Context) -> BoxFuture<'static, Result<(), Error>> + Send>;

/// Runs one loop again and again until shutdown; a panic in it is an end like any other. At shutdown it is dropped at whatever it waits
/// for, which may be a list that never comes: it has to cope with that at any time, as the process may die.
async fn keep_running(context: Context, work: Work) {
    let mut delay = RESTART_FIRST;
    loop {
        let started = tokio::time::Instant::now();
        let running = AbortOnDropHandle::new(tokio::spawn(work(context.clone())));
        let ended = context.shutdown.run_until_cancelled(running).await;
        let Some(ended) = ended.filter(|_| !context.shutdown.is_cancelled()) else {
            return;
        };
        match ended {
            Ok(Ok(())) => tracing::warn!(controller = context.shell.name, "ended by itself, starting it again"),
            Ok(Err(error)) => tracing::warn!(controller = context.shell.name, %error, "failed, starting it again"),
            Err(error) => tracing::error!(controller = context.shell.name, %error, "crashed, starting it again"),
        }
        if started.elapsed() > RESTART_LAST {
            delay = RESTART_FIRST;
        }
        tokio::select! {
            () = context.shutdown.cancelled() => return,
            () = tokio::time::sleep(delay) => {}
        }
        delay = (delay * 2).min(RESTART_LAST);
    }
}
