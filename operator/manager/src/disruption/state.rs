//! What is known of budgets, and whose counting each change asks for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use afloat_api::PodUnavailableBudget;
use afloat_disruption::owners::Owner;
use afloat_watching::feed::Pauses;
use afloat_watching::{Cache, Queue};
use afloat_words::key::Key;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::runtime::watcher;
use tokio_util::sync::CancellationToken;

use super::kept::{Budgets, Guarded, GuardedPod, Others};
use crate::events::Recorder;
use crate::follow::scope::scoped;
use crate::kept::{Group, Sets};
use crate::kind::Kind;

/// What is known of budgets, and of the pods that they may be about.
pub(crate) struct Disruption {
    pub(super) client: Client,
    pub(super) namespace: Option<String>,
    pub(super) recorder: Recorder,
    pub(super) budgets: Arc<Cache<Budgets>>,
    /// PodDisruptionBudgets.
    pub(super) others: Arc<Cache<Others>>,
    /// All pods, of whatever owner; followed from the first budget on.
    pub(super) pods: Arc<Cache<Guarded>>,
    pub(super) queue: Arc<Queue>,
    /// What controls a ReplicaSet, by its UID: that does not change.
    pub(super) above: Mutex<HashMap<String, Option<Owner>>>,
    /// Paths of kinds that have a scale, by their version and kind.
    pub(super) scales: Mutex<HashMap<(String, String), Option<String>>>,
}

impl Disruption {
    /// One that knows nothing yet.
    pub(crate) fn new(client: Client, namespace: Option<String>, recorder: Recorder) -> Arc<Self> {
        let disruption = Arc::new(Self {
            client,
            namespace,
            recorder,
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

    /// From now on a workload of another spec has the budgets of its namespace counted anew, and a budget that leaves something else has
    /// the workloads of its namespace planned anew.
    pub(crate) fn ask<K: Kind>(&self, sets: &Arc<Cache<Sets<K>>>, rounds: &Arc<Queue>) {
        let in_namespace = |sets: &Cache<Sets<K>>, meta: &ObjectMeta| -> Vec<Key> {
            let all = sets.peek_group(&Group::from(meta.namespace.as_deref().unwrap_or_default()));
            all.iter().map(|set| Key::of(set.metadata())).collect()
        };
        let known = sets.clone();
        rounds.follow_news(
            &self.budgets,
            move |budget: &PodUnavailableBudget| in_namespace(&known, &budget.metadata),
            |old, new| old.metadata.generation == new.metadata.generation && leaves(old) == leaves(new),
            |_| false,
        );
        let known = sets.clone();
        rounds.follow_news(
            &self.others,
            move |budget: &PodDisruptionBudget| in_namespace(&known, &budget.metadata),
            |old, new| old.status == new.status,
            |_| false,
        );
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

    /// Waits for the first budget: without any, no pod is followed a second time.
    pub(super) async fn first(&self) {
        let key = self.queue.take().await;
        self.queue
            .done(&key, Some(std::time::Duration::ZERO), std::time::Duration::ZERO);
    }
}

/// What planners read of a status.
fn leaves(budget: &PodUnavailableBudget) -> (i64, i32, i32) {
    let status = &budget.status;
    (
        status.observed_generation,
        status.unavailable_allowed,
        status.total_replicas,
    )
}

/// The budgets of a namespace.
fn of_namespace(budgets: &Cache<Budgets>, namespace: &str) -> Vec<Key> {
    let all = budgets.peek_group(&Group::from(namespace));
    all.iter().map(|budget| Key::of(&budget.metadata)).collect()
}

/// The name in some metadata.
pub(super) fn name(meta: &ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}
