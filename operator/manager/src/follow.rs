//! What the operator follows, and whose round each change asks for.

use std::sync::{Arc, PoisonError};

use afloat_api::{CloneSet, NodeTraffic, RolloutReport};
use afloat_rollout::pod::Pod;
use afloat_rollout::workload::claim::Claim;
use afloat_watching::feed::Pauses;
use afloat_watching::{Cache, Watchable};
use afloat_words::key::Key;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::abilities::Abilities;
use crate::absent;
use crate::kept::{CloneSets, cloneset_of, cloneset_owner};
use crate::operator::Operator;

/// Follows every kind; changes put the name of their workload into the queue.
pub(crate) fn watch(
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
