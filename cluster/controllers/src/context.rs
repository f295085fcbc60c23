//! What every loop is given: options, caches, a way to write, and the end.

use std::fmt::Display;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use afloat_certificates::Pair;
use afloat_watching::feed::Pauses;
use afloat_watching::queue::Item;
use afloat_watching::{Cache, Queue};
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::loops::shell::Shell;
use crate::objects::service::{MANAGED_BY, MIRRORING};
use crate::objects::{
    CertificateSigningRequest, Claim, ConfigMap, ControllerRevision, CronJob, DaemonSet, Deployment, EndpointSlice,
    Endpoints, Job, Kind, Lease, Namespace, Node, Pod, PodDisruptionBudget, ReplicaSet, ReplicationController,
    Rescheduled, Service, ServiceAccount, StatefulSet, StorageClass, Volume,
};
use crate::volume::local::LocalVolumes;

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
    /// Signs what is approved. None: certificates are asked for and approved, but nobody signs them.
    pub certificate_authority: Option<Pair>,
    /// A node whose Lease and status are older than this is not reachable.
    pub node_monitor_grace: Duration,
    /// How often nodes are looked at (no request is sent for that).
    pub node_monitor_period: Duration,
    /// Where the contents of volumes are that the class `standard` makes. None: there is no such class.
    pub local_volumes: Option<Arc<dyn LocalVolumes>>,
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
            certificate_authority: None,
            local_volumes: None,
            node_monitor_grace: Duration::from_secs(40),
            node_monitor_period: Duration::from_secs(5),
            terminated_pods_kept: 12_500,
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
    pub(crate) replication_controllers: Arc<Cache<ReplicationController>>,
    pub(crate) deployments: Arc<Cache<Deployment>>,
    pub(crate) service_accounts: Arc<Cache<ServiceAccount>>,
    pub(crate) root_cas: Arc<Cache<ConfigMap>>,
    pub(crate) leases: Arc<Cache<Lease>>,
    pub(crate) budgets: Arc<Cache<PodDisruptionBudget>>,
    pub(crate) stateful_sets: Arc<Cache<StatefulSet>>,
    pub(crate) daemon_sets: Arc<Cache<DaemonSet>>,
    pub(crate) jobs: Arc<Cache<Job>>,
    pub(crate) cron_jobs: Arc<Cache<CronJob>>,
    pub(crate) rescheduled: Arc<Rescheduled>,
    pub(crate) revisions: Arc<Cache<ControllerRevision>>,
    pub(crate) claims: Arc<Cache<Claim>>,
    pub(crate) volumes: Arc<Cache<Volume>>,
    pub(crate) classes: Arc<Cache<StorageClass>>,
    pub(crate) requests: Arc<Cache<CertificateSigningRequest>>,
    pub(crate) services: Arc<Cache<Service>>,
    pub(crate) endpoints: Arc<Cache<Endpoints>>,
    /// Those that were made of Endpoints.
    pub(crate) mirrored_slices: Arc<Cache<EndpointSlice>>,
}

impl Caches {
    /// Starts a watch of each kind.
    pub(crate) fn start(client: &Client, tasks: &mut JoinSet<()>, shutdown: &CancellationToken) -> Self {
        let all = watcher::Config::default;
        let mirrored = format!("{MANAGED_BY}={MIRRORING}");
        Self {
            pods: feed(client, all(), tasks, shutdown),
            nodes: feed(client, all(), tasks, shutdown),
            namespaces: feed(client, all(), tasks, shutdown),
            replica_sets: feed(client, all(), tasks, shutdown),
            replication_controllers: feed(client, all(), tasks, shutdown),
            deployments: feed(client, all(), tasks, shutdown),
            service_accounts: feed(client, all().fields("metadata.name=default"), tasks, shutdown),
            root_cas: feed(client, all().fields("metadata.name=kube-root-ca.crt"), tasks, shutdown),
            leases: feed(client, all(), tasks, shutdown),
            budgets: feed(client, all(), tasks, shutdown),
            stateful_sets: feed(client, all(), tasks, shutdown),
            daemon_sets: feed(client, all(), tasks, shutdown),
            jobs: feed(client, all(), tasks, shutdown),
            cron_jobs: feed(client, all(), tasks, shutdown),
            rescheduled: Arc::default(),
            revisions: feed(client, all(), tasks, shutdown),
            claims: feed(client, all(), tasks, shutdown),
            volumes: feed(client, all(), tasks, shutdown),
            classes: feed(client, all(), tasks, shutdown),
            requests: feed(client, all(), tasks, shutdown),
            services: feed(client, all(), tasks, shutdown),
            endpoints: feed(client, all(), tasks, shutdown),
            mirrored_slices: feed(client, all().labels(&mirrored), tasks, shutdown),
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
    let watched = cache
        .clone()
        .feed(Api::all(client.clone()), config, Pauses::Patient, shutdown.clone());
    tasks.spawn(watched);
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

impl Context {
    /// Works off keys, `width` at a time, until shutdown. `work` says when to look at the key again without being asked.
    pub(crate) async fn work_off<T, F, Fut>(&self, queue: &Queue<T>, width: usize, work: F)
    where
        T: Item + Display,
        F: Fn(T) -> Fut + Sync,
        Fut: Future<Output = Result<Option<Duration>, Error>> + Send,
    {
        let name = self.shell.name;
        let failed = |key: &T, error: Error| {
            if error.is_conflict() {
                tracing::debug!(controller = name, %key, error = error.told(), "decided on an older state, will decide again");
            } else {
                tracing::warn!(controller = name, %key, error = error.told(), "will try again");
            }
        };
        queue.work_off(width, &self.shutdown, work, failed).await;
    }
}
