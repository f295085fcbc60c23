//! Starts all loops and keeps them running.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use kube::runtime::watcher;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::cache::Cache;
use crate::daemonset::DaemonSet;
use crate::events::{self, Recorder};
use crate::history::ControllerRevision;
use crate::job::Job;
use crate::objects::{
    ConfigMap, Deployment, Kind, Lease, Namespace, Node, Pod, PodDisruptionBudget, ReplicaSet, ServiceAccount,
};
use crate::shell::{Shell, is_status};
use crate::statefulset::StatefulSet;
use crate::volume::{Claim, StorageClass, Volume};

/// First and last delay before a loop that ended is started again.
const RESTART_FIRST: Duration = Duration::from_millis(100);
const RESTART_LAST: Duration = Duration::from_secs(30);

/// What the loops need to know of the cluster.
#[derive(Clone, Debug)]
pub struct Options {
    /// Range of service addresses: address and prefix length. The `kubernetes` Service gets the first of it.
    pub service_cidr: (Ipv4Addr, u8),
    /// Where pods reach the API server; becomes the endpoint of the `kubernetes` Service. None: no such Service is made.
    pub api_server: Option<SocketAddrV4>,
    /// Where the cluster's DNS server is; becomes the address of the `kube-dns` Service. None: no such Service is made.
    pub cluster_dns: Option<Ipv4Addr>,
    /// PEM of the certificate authority; each namespace gets it as ConfigMap `kube-root-ca.crt`. None: no such ConfigMap.
    pub cluster_ca: Option<String>,
    /// A node whose Lease and status are older than this is not reachable.
    pub node_monitor_grace: Duration,
    /// How often nodes are looked at (no request is sent for that).
    pub node_monitor_period: Duration,
    /// Where the contents of volumes are that the class `standard` makes. None: there is no such class.
    pub local_volumes: Option<Arc<dyn crate::LocalVolumes>>,
    /// How many finished pods are kept before the oldest are deleted.
    pub terminated_pods_kept: usize,
}

impl Default for Options {
    /// Kubernetes' own defaults.
    fn default() -> Self {
        Self {
            service_cidr: (Ipv4Addr::new(10, 96, 0, 0), 16),
            api_server: None,
            cluster_dns: None,
            cluster_ca: None,
            local_volumes: None,
            node_monitor_grace: Duration::from_secs(40),
            node_monitor_period: Duration::from_secs(5),
            terminated_pods_kept: 12_500,
        }
    }
}

/// Why a loop could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused or could not be reached.
    #[error("{0}")]
    Api(#[from] kube::Error),
    /// An object could not be read or built.
    #[error("an object has an unexpected form: {0}")]
    Object(#[from] serde_json::Error),
    /// A field of an object is not valid; the message names it.
    #[error("{0}")]
    Invalid(String),
    /// The watch does not show what this loop wrote; it waits rather than decide on an old view.
    #[error("the watch of {0} is behind its own writes")]
    Stale(&'static str),
    /// More work than one turn does, or than may be done now.
    #[error("not finished yet: {0}")]
    Unfinished(String),
}

impl Error {
    /// Whether somebody else was quicker, be it the end of the namespace: nothing to worry about.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        match self {
            Self::Api(error) => is_status(error, 409) || is_status(error, 404) || self.is_end_of_namespace(),
            Self::Unfinished(_) => true,
            _ => false,
        }
    }

    /// Whether something could not be created because its namespace is going or gone: nothing to worry about, either.
    pub(crate) fn is_end_of_namespace(&self) -> bool {
        let Self::Api(kube::Error::Api(status)) = self else {
            return false;
        };
        let causes = status.details.iter().flat_map(|details| &details.causes);
        status.code == 404 || causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
    }

    /// The error as a user shall read it: of the API server's answer the message alone.
    pub(crate) fn told(&self) -> String {
        match self {
            Self::Api(kube::Error::Api(status)) => status.message.clone(),
            other => other.to_string(),
        }
    }
}

/// The caches that loops share.
#[derive(Clone)]
pub(crate) struct Caches {
    pub(crate) pods: Arc<Cache<Pod>>,
    pub(crate) nodes: Arc<Cache<Node>>,
    pub(crate) namespaces: Arc<Cache<Namespace>>,
    pub(crate) replica_sets: Arc<Cache<ReplicaSet>>,
    pub(crate) deployments: Arc<Cache<Deployment>>,
    pub(crate) service_accounts: Arc<Cache<ServiceAccount>>,
    pub(crate) root_cas: Arc<Cache<ConfigMap>>,
    pub(crate) leases: Arc<Cache<Lease>>,
    pub(crate) budgets: Arc<Cache<PodDisruptionBudget>>,
    pub(crate) stateful_sets: Arc<Cache<StatefulSet>>,
    pub(crate) daemon_sets: Arc<Cache<DaemonSet>>,
    pub(crate) jobs: Arc<Cache<Job>>,
    pub(crate) revisions: Arc<Cache<ControllerRevision>>,
    pub(crate) claims: Arc<Cache<Claim>>,
    pub(crate) volumes: Arc<Cache<Volume>>,
    pub(crate) classes: Arc<Cache<StorageClass>>,
}

impl Caches {
    fn start(client: &Client, tasks: &mut JoinSet<()>, shutdown: &CancellationToken) -> Self {
        let all = watcher::Config::default;
        Self {
            pods: feed(client, all(), tasks, shutdown),
            nodes: feed(client, all(), tasks, shutdown),
            namespaces: feed(client, all(), tasks, shutdown),
            replica_sets: feed(client, all(), tasks, shutdown),
            deployments: feed(client, all(), tasks, shutdown),
            service_accounts: feed(client, all().fields("metadata.name=default"), tasks, shutdown),
            root_cas: feed(client, all().fields("metadata.name=kube-root-ca.crt"), tasks, shutdown),
            leases: feed(client, all(), tasks, shutdown),
            budgets: feed(client, all(), tasks, shutdown),
            stateful_sets: feed(client, all(), tasks, shutdown),
            daemon_sets: feed(client, all(), tasks, shutdown),
            jobs: feed(client, all(), tasks, shutdown),
            revisions: feed(client, all(), tasks, shutdown),
            claims: feed(client, all(), tasks, shutdown),
            volumes: feed(client, all(), tasks, shutdown),
            classes: feed(client, all(), tasks, shutdown),
        }
    }
}

/// A cache and the task that feeds it.
fn feed<K: Kind>(
    client: &Client,
    config: watcher::Config,
    tasks: &mut JoinSet<()>,
    shutdown: &CancellationToken,
) -> Arc<Cache<K>> {
    let cache = Cache::new();
    tasks.spawn(cache.clone().feed(client.clone(), config, shutdown.clone()));
    cache
}

/// What one loop is given.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) shell: Shell,
    pub(crate) caches: Caches,
    pub(crate) options: Arc<Options>,
    pub(crate) shutdown: CancellationToken,
}

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
    supervise(&mut tasks, context("replicaset-controller"), crate::replicaset::run);
    supervise(&mut tasks, context("deployment-controller"), crate::deployment::run);
    supervise(&mut tasks, context("statefulset-controller"), crate::statefulset::run);
    supervise(&mut tasks, context("daemonset-controller"), crate::daemonset::run);
    supervise(&mut tasks, context("job-controller"), crate::job::run);
    supervise(&mut tasks, context("garbage-collector"), crate::garbage::run);
    supervise(&mut tasks, context("namespace-controller"), crate::namespace::run);
    supervise(
        &mut tasks,
        context("serviceaccount-controller"),
        crate::serviceaccount::run,
    );
    supervise(
        &mut tasks,
        context("node-lifecycle-controller"),
        crate::node_lifecycle::run,
    );
    supervise(&mut tasks, context("pod-garbage-collector"), crate::pod_gc::run);
    supervise(&mut tasks, context("disruption-controller"), crate::disruption::run);
    supervise(&mut tasks, context("persistentvolume-controller"), crate::volume::run);
    supervise(
        &mut tasks,
        context("ephemeral-volume-controller"),
        crate::volume::ephemeral::run,
    );
    supervise(
        &mut tasks,
        context("kubernetes-service-controller"),
        crate::kubernetes_service::run,
    );
    supervise(&mut tasks, context("endpointslice-controller"), |context| {
        endpointslices(context)
    });
    drop(client_for);
    while tasks.join_next().await.is_some() {}
    Ok(())
}

async fn endpointslices(context: Context) -> Result<(), Error> {
    crate::endpointslice::run_with(context.shell.client, context.caches.pods, context.shutdown)
        .await
        .map_err(|error| Error::Invalid(error.to_string()))
}

/// Runs one loop again and again until shutdown; a panic in it is an end like any other. At shutdown it is dropped at whatever it waits
/// for, which may be a list that never comes: it has to cope with that at any time, as the process may die.
fn supervise<F, Fut>(tasks: &mut JoinSet<()>, context: Context, run: F)
where
    F: Fn(Context) -> Fut + Send + 'static,
    Fut: Future<Output = Result<(), Error>> + Send + 'static,
{
    tasks.spawn(async move {
        let mut delay = RESTART_FIRST;
        loop {
            let started = tokio::time::Instant::now();
            let running = AbortOnDropHandle::new(tokio::spawn(run(context.clone())));
            let Some(ended) = context.shutdown.run_until_cancelled(running).await else {
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
    });
}
