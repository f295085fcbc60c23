//! Starts all loops and keeps them running.

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::context::{Caches, Context, Options};
use crate::error::Error;
use crate::loops::events::{self, Recorder};
use crate::loops::shell::Shell;
use crate::objects::{DaemonSet, Deployment, Job, PodDisruptionBudget, ReplicaSet, StatefulSet};
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
    let mut tasks = JoinSet::new();
    let caches = Caches::start(&client_for("controller-cache"), &mut tasks, &shutdown);
    let options = Arc::new(options);
    let (recorder, pending) = Recorder::new();
    tasks.spawn(events::write_all(
        client_for("event-recorder"),
        pending,
        shutdown.clone(),
    ));
    let context = |name: &'static str| Context {
        shell: Shell::new(client_for(name), name, recorder.clone()),
        caches: caches.clone(),
        options: options.clone(),
        shutdown: shutdown.clone(),
    };
    supervise(&mut tasks, context("scheduler"), crate::scheduler::run);
    supervise(&mut tasks, context("replicaset-controller"), run_workload::<ReplicaSet>);
    supervise(&mut tasks, context("deployment-controller"), run_workload::<Deployment>);
    supervise(
        &mut tasks,
        context("statefulset-controller"),
        run_workload::<StatefulSet>,
    );
    supervise(&mut tasks, context("daemonset-controller"), run_workload::<DaemonSet>);
    supervise(&mut tasks, context("job-controller"), run_workload::<Job>);
    supervise(&mut tasks, context("garbage-collector"), crate::garbage::run);
    supervise(
        &mut tasks,
        context("namespace-controller"),
        crate::namespace::deletion::run,
    );
    supervise(
        &mut tasks,
        context("serviceaccount-controller"),
        crate::namespace::serviceaccount::run,
    );
    supervise(
        &mut tasks,
        context("node-lifecycle-controller"),
        crate::node::lifecycle::run,
    );
    supervise(&mut tasks, context("pod-garbage-collector"), crate::node::pod_gc::run);
    supervise(
        &mut tasks,
        context("disruption-controller"),
        run_workload::<PodDisruptionBudget>,
    );
    supervise(&mut tasks, context("persistentvolume-controller"), crate::volume::run);
    supervise(
        &mut tasks,
        context("ephemeral-volume-controller"),
        crate::volume::ephemeral::run,
    );
    supervise(
        &mut tasks,
        context("kubernetes-service-controller"),
        crate::network::own_services::run_own_services,
    );
    supervise(
        &mut tasks,
        context("endpointslice-controller"),
        crate::network::endpointslice::run_endpointslices,
    );
    drop(client_for);
    while tasks.join_next().await.is_some() {}
    Ok(())
}

/// Runs one loop again and again until shutdown; a panic in it is an end like any other.
fn supervise<F, Fut>(tasks: &mut JoinSet<()>, context: Context, run: F)
where
    F: Fn(Context) -> Fut + Send + 'static,
    Fut: Future<Output = Result<(), Error>> + Send + 'static,
{
    tasks.spawn(async move {
        let mut delay = RESTART_FIRST;
        loop {
            let started = tokio::time::Instant::now();
            let ended = tokio::spawn(run(context.clone())).await;
            if context.shutdown.is_cancelled() {
                return;
            }
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
    });
}
