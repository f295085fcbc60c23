//! What the operator follows, and whose round each change asks for.

mod absent;
pub(crate) mod configs;
pub(crate) mod scope;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use afloat_api::{NodeTraffic, RolloutReport};
use afloat_rollout::pod::Pod;
use afloat_rollout::pod::images::Node;
use afloat_rollout::workload::claim::{Claim, StorageClass};
use afloat_watching::feed::Pauses;
use afloat_watching::{Cache, Kind as _, Ledger, Queue, Watchable};
use afloat_words::key::Key;
use futures::FutureExt as _;
use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::Api;
use kube::runtime::watcher;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub(crate) use self::absent::appears_as;
pub(crate) use self::scope::scoped;
use crate::abilities::Abilities;
use crate::kept::{Claims, Sets, controller_of_pod, owner_of};
use crate::kind::Kind;
use crate::operator::Operator;

/// Follows what the kinds share.
pub(crate) fn watch(operator: &Arc<Operator>, abilities: &Abilities, shutdown: &CancellationToken) -> JoinSet<()> {
    let (client, namespace) = (&operator.client, operator.namespace.as_deref());
    let mut tasks = JoinSet::new();
    let mut feed = Feeding {
        tasks: &mut tasks,
        shutdown,
    };
    feed.feed(&operator.revisions, scoped(client, namespace));
    feed.feed(&operator.claims, scoped(client, namespace));
    feed.feed(&operator.pods, scoped(client, namespace));
    feed.feed(&operator.classes, Api::all(client.clone()));
    feed.feed(&operator.nodes, Api::all(client.clone()));
    feed.feed(&operator.services, scoped(client, namespace));
    if abilities.reports {
        feed.feed(&operator.reports, scoped(client, namespace));
    } else {
        let (operator, api) = (operator.clone(), scoped(client, namespace));
        feed.tasks
            .spawn(absent::reports(operator, api, shutdown.clone()).boxed());
    }
    if abilities.traffic {
        feed.feed(&operator.traffic, Api::all(client.clone()));
    } else {
        feed.tasks
            .spawn(absent::traffic(operator.clone(), shutdown.clone()).boxed());
    }
    let configs = configs::follow(operator.configs.clone(), client.clone(), shutdown.clone());
    feed.tasks.spawn(configs);
    tasks
}

/// Who is asked for rounds: the controller of one kind.
pub(crate) struct Asked<'a, K: Kind> {
    pub(crate) operator: &'a Operator,
    pub(crate) sets: &'a Arc<Cache<Sets<K>>>,
    pub(crate) queue: &'a Arc<Queue>,
    pub(crate) ledger: &'a Arc<Ledger>,
    /// Those that wait for what proxies do.
    pub(crate) observing: &'a Arc<Mutex<BTreeSet<Key>>>,
}

/// From now on changes put the name of their workload into its kind's queue.
pub(crate) fn ask<K: Kind>(asked: &Asked<'_, K>) {
    let (operator, queue) = (asked.operator, asked.queue);
    operator.configs.tell(K::KIND, queue);
    queue.follow(asked.sets, |set: &K| [Key::of(set.metadata())]);
    operator.disruption.ask(asked.sets, queue);
    queue.follow(&operator.revisions, |revision: &ControllerRevision| {
        owner_of::<K>(&revision.metadata)
    });
    let sets = asked.sets.clone();
    queue.follow(&operator.claims, move |claim: &Claim| sets_of_claim(claim, &sets));
    // A class that changes may let a claim grow; that is rare.
    let sets = asked.sets.clone();
    queue.follow(&operator.classes, move |_: &StorageClass| all_of(&sets));
    queue.follow(&operator.reports, |report: &RolloutReport| {
        owner_of::<K>(&report.metadata)
    });
    let (sets, ledger) = (asked.sets.clone(), asked.ledger.clone());
    queue.follow_news(
        &operator.pods,
        move |pod: &Pod| sets_of(pod, &sets),
        |old, new| new.reads_as(old),
        move |key| ledger.waits(key),
    );
    // Who waits for a Service's proxies waits for their reports. A plan that waits for a node's images looks again by itself.
    let observing = asked.observing.clone();
    queue.follow(&operator.traffic, move |_: &NodeTraffic| {
        let observing = observing.lock().unwrap_or_else(PoisonError::into_inner);
        observing.iter().cloned().collect::<Vec<_>>()
    });
    if let Some(same) = K::FOLLOWS_NODES {
        let (sets, ledger) = (asked.sets.clone(), asked.ledger.clone());
        queue.follow_news(
            &operator.nodes,
            move |_: &Node| all_of(&sets),
            same,
            move |key| ledger.waits(key),
        );
    }
}

fn all_of<K: Kind>(sets: &Cache<Sets<K>>) -> Vec<Key> {
    sets.peek_all().iter().map(|set| Key::of(set.metadata())).collect()
}

struct Feeding<'a> {
    tasks: &'a mut JoinSet<()>,
    shutdown: &'a CancellationToken,
}

impl Feeding<'_> {
    fn feed<K: Watchable>(&mut self, cache: &Arc<Cache<K>>, api: Api<K::Wire>) {
        let config = watcher::Config::default();
        let feed = cache.clone().feed(api, config, Pauses::Patient, self.shutdown.clone());
        self.tasks.spawn(feed.boxed());
    }
}

/// The workload that controls a pod; of an orphan, those that may adopt it.
fn sets_of<K: Kind>(pod: &Pod, sets: &Cache<Sets<K>>) -> Vec<Key> {
    if pod.controller.is_some() {
        return controller_of_pod::<K>(pod).into_iter().collect();
    }
    let sets = sets.peek_group(&pod.metadata.namespace.shared()).into_iter();
    let may = sets.filter(|set| set.matcher().selects(&pod.labels));
    may.map(|set| Key::of(set.metadata())).collect()
}

/// The workload that controls a claim, and those that look at it for another reason.
fn sets_of_claim<K: Kind>(claim: &Claim, sets: &Cache<Sets<K>>) -> Vec<Key> {
    let owner = owner_of::<K>(&claim.metadata);
    let groups = Claims::indexes(claim);
    let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
    let sets = sets.peek_group(&namespace.into()).into_iter();
    let looks = sets.filter(|set| set.claims().iter().any(|group| groups.contains(group)));
    let looks = looks.map(|set| Key::of(set.metadata()));
    let others = looks.filter(|key| owner.as_ref() != Some(key)).collect::<Vec<_>>();
    owner.into_iter().chain(others).collect()
}
