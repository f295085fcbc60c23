//! What the controllers of all kinds share.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use afloat_api::Gates;
use afloat_rollout::pod::server::Server;
use afloat_watching::Cache;
use kube::Client;

use crate::abilities::Abilities;
use crate::disruption::Disruption;
use crate::events::Recorder;
use crate::follow::configs::Configs;
use crate::kept::{Claims, Classes, NodeImages, Nodes, Pods, PullJobs, Reports, Revisions, Services, Traffics};
use crate::metrics::Metrics;

/// See the module.
pub(crate) struct Operator {
    pub(crate) client: Client,
    /// Only workloads of this namespace; None: all.
    pub(crate) namespace: Option<String>,
    pub(crate) pods: Arc<Cache<Pods>>,
    pub(crate) revisions: Arc<Cache<Revisions>>,
    pub(crate) claims: Arc<Cache<Claims>>,
    /// Which volumes can grow; what it does not know the API server does.
    pub(crate) classes: Arc<Cache<Classes>>,
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
    /// Which images nodes have or are to have, where the cluster has such objects.
    pub(crate) node_images: Arc<Cache<NodeImages>>,
    /// Who wants them.
    pub(crate) pull_jobs: Arc<Cache<PullJobs>>,
    /// What the cluster lets change on live pods.
    pub(crate) server: Server,
    /// What ConfigMaps and Secrets hold, for workloads that roll them out.
    pub(crate) configs: Arc<Configs>,
    /// What budgets say that are not the workloads' own.
    pub(crate) disruption: Arc<Disruption>,
    /// What OpenKruise's feature gates say.
    pub(crate) gates: Gates,
    pub(crate) recorder: Recorder,
    pub(crate) metrics: Metrics,
}

impl Operator {
    /// Waits until all has been seen that is decided on.
    pub(crate) async fn ready(&self, abilities: &Abilities) {
        self.pods.ready().await;
        self.revisions.ready().await;
        self.claims.ready().await;
        self.services.ready().await;
        self.disruption.ready().await;
        if abilities.reports {
            self.reports.ready().await;
        }
        if abilities.traffic {
            // What the last leader began to observe must not be taken for unobserved.
            self.traffic.ready().await;
        }
    }
}
