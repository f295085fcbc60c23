//! PodUnavailableBudgets: their status, what they and PodDisruptionBudgets leave to the planners, and the answer to whoever wants a pod
//! to go. What is counted and decided is `afloat-disruption`'s.
//!
//! A budget has several writers: the loop that counts ([`status`]), the webhook (at every instance), and rounds that are about to
//! take pods out of service ([`claim`]). Each decides on one version of the budget and writes that version's successor, or decides anew.

mod claim;
mod guards;
mod kept;
mod scale;
mod status;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use afloat_api::PodUnavailableBudget;
use afloat_disruption::owners::Owner;
use afloat_watching::feed::Pauses;
use afloat_watching::{Cache, Queue};
use afloat_words::key::Key;
use k8s_openapi::Resource as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;

use self::kept::{Budgets, Guarded, GuardedPod, Others};
use crate::follow::{appears_as, scoped};
use crate::kept::{Group, Sets};
use crate::kind::Kind;

/// What is known of budgets, and of the pods that they may be about.
pub(crate) struct Disruption {
    client: Client,
    namespace: Option<String>,
    budgets: Arc<Cache<Budgets>>,
    /// PodDisruptionBudgets.
    others: Arc<Cache<Others>>,
    /// All pods, of whatever owner; followed from the first budget on.
    pods: Arc<Cache<Guarded>>,
    queue: Arc<Queue>,
    /// What controls a ReplicaSet, by its UID: that does not change.
    above: Mutex<HashMap<String, Option<Owner>>>,
    /// Paths of kinds that have a scale, by their version and kind.
    scales: Mutex<HashMap<(String, String), Option<String>>>,
}

impl Disruption {
    /// One that knows nothing yet.
    pub(crate) fn new(client: Client, namespace: Option<String>) -> Arc<Self> {
        let disruption = Arc::new(Self {
            client,
            namespace,
            budgets: Cache::new(),
            others: Cache::new(),
            pods: Cache::new(),
            queue: Arc::default(),
            above: Mutex::default(),
            scales: Mutex::default(),
        });
        let queue = &disruption.queue;
        queue.follow(&disruption.budgets, |budget: &PodUnavailableBudget| {
            [Key::of(&budget.metadata)]
        });
        let budgets = disruption.budgets.clone();
        queue.follow_news(
            &disruption.pods,
            move |pod: &GuardedPod| of_namespace(&budgets, &pod.namespace),
            |old, new| old == new,
            |_| false,
        );
        disruption
    }

    /// From now on a workload of another spec has the budgets of its namespace counted anew.
    pub(crate) fn ask<K: Kind>(&self, sets: &Arc<Cache<Sets<K>>>) {
        let budgets = self.budgets.clone();
        self.queue.follow_news(
            sets,
            move |set: &K| of_namespace(&budgets, set.metadata().namespace.as_deref().unwrap_or_default()),
            |old, new| old.metadata().generation == new.metadata().generation,
            |_| false,
        );
    }

    /// Waits until all PodDisruptionBudgets have been seen.
    pub(crate) async fn ready(&self) {
        self.others.ready().await;
    }

    /// Follows PodDisruptionBudgets, which every cluster has.
    pub(crate) async fn follow_others(self: Arc<Self>, shutdown: CancellationToken) {
        let api = scoped(&self.client, self.namespace.as_deref());
        let config = watcher::Config::default();
        self.others.clone().feed(api, config, Pauses::Patient, shutdown).await;
    }

    /// Follows budgets, once there is such a kind, and keeps their status, until `shutdown`.
    pub(crate) async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        type Budget = PodUnavailableBudget;
        let kind = (Budget::GROUP, Budget::API_VERSION, Budget::KIND);
        if !appears_as(&self.client, kind, &shutdown).await {
            return;
        }
        let api: Api<Budget> = scoped(&self.client, self.namespace.as_deref());
        let config = watcher::Config::default();
        let feed = self
            .budgets
            .clone()
            .feed(api, config, Pauses::Patient, shutdown.clone());
        let work = async {
            self.budgets.ready().await;
            self.first().await;
            let pods = scoped(&self.client, self.namespace.as_deref());
            let feed = self
                .pods
                .clone()
                .feed(pods, watcher::Config::default(), Pauses::Patient, shutdown.clone());
            let count = async {
                self.pods.ready().await;
                status::work(&self, &shutdown).await;
            };
            tokio::join!(feed, count);
        };
        let both = async { tokio::join!(feed, work) };
        let _ = shutdown.run_until_cancelled(both).await;
    }

    /// Waits for the first budget: without any, no pod is followed a second time.
    async fn first(&self) {
        let key = self.queue.take().await;
        self.queue
            .done(&key, Some(std::time::Duration::ZERO), std::time::Duration::ZERO);
    }
}

/// The budgets of a namespace.
fn of_namespace(budgets: &Cache<Budgets>, namespace: &str) -> Vec<Key> {
    let all = budgets.peek_group(&Group::from(namespace));
    all.iter().map(|budget| Key::of(&budget.metadata)).collect()
}

/// The name in some metadata.
fn name(meta: &ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}
