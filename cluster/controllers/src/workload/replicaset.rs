//! ReplicaSets and ReplicationControllers: as many pods of a template as asked for.

use std::collections::HashMap;
use std::sync::Arc;

use afloat_watching::{Cache, Queue};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::Error;
use crate::context::Caches;
use crate::objects::counts::count;
use crate::objects::selector::Labels;
use crate::objects::time::{wake, whole_seconds};
use crate::objects::{
    Condition, Index, Kind, Pod, ReplicaSet, ReplicaSetSpec, ReplicaSetStatus, ReplicationController, controlled_by,
    controller_of, uid_of,
};

use super::ownership::{claim, concerned};
use super::template::pod_from_template;
use super::{Decision, Look, Plan, Turn, Workload};

/// Kubernetes' burst limit: not more creations or deletions than this in one turn.
const BURST: usize = 500;
/// Requests in flight for one ReplicaSet.
const PARALLEL: usize = 32;
/// Type of the condition that says why pods cannot be made or deleted.
const REPLICA_FAILURE: &str = "ReplicaFailure";

/// A kind that keeps pods of one template. All of them have one loop.
pub(crate) trait Replicas: Kind {
    /// What is asked for.
    fn spec(&self) -> &ReplicaSetSpec;
    /// What was last said of it.
    fn status(&self) -> &ReplicaSetStatus;
    /// The cache of its objects.
    fn cached(caches: &Caches) -> &Arc<Cache<Self>>;
}

impl Replicas for ReplicaSet {
    fn spec(&self) -> &ReplicaSetSpec {
        &self.spec
    }
    fn status(&self) -> &ReplicaSetStatus {
        &self.status
    }
    fn cached(caches: &Caches) -> &Arc<Cache<Self>> {
        &caches.replica_sets
    }
}

impl Replicas for ReplicationController {
    fn spec(&self) -> &ReplicaSetSpec {
        &self.spec
    }
    fn status(&self) -> &ReplicaSetStatus {
        &self.status
    }
    fn cached(caches: &Caches) -> &Arc<Cache<Self>> {
        &caches.replication_controllers
    }
}

/// What a plan is made from.
pub(crate) struct Observed<'a, K> {
    pub(crate) set: &'a K,
    /// Pods that it controls, and pods of its namespace that nobody controls.
    pub(crate) pods: &'a [Arc<Pod>],
    /// For each node, how many active pods of the same Deployment are there: doubled-up pods go first.
    pub(crate) related_on_node: &'a HashMap<String, usize>,
}

/// What to do about its pods.
#[derive(Default)]
pub(crate) struct Steps {
    pub(crate) adopt: Vec<Arc<Pod>>,
    pub(crate) release: Vec<Arc<Pod>>,
    pub(crate) create: usize,
    pub(crate) delete: Vec<Arc<Pod>>,
}

/// Decides.
///
/// # Errors
/// If the selector cannot be read.
pub(crate) fn plan<K: Replicas>(
    seen: &Observed<'_, K>,
    now: Timestamp,
) -> Result<Plan<Steps, ReplicaSetStatus>, Error> {
    let (meta, spec) = (seen.set.meta(), seen.set.spec());
    let labels = Labels::parse(&spec.selector)?;
    let selects = !Labels::is_empty(&spec.selector);
    let claimed = claim(meta, &labels, seen.pods, |pod: &Pod| selects && pod.is_active());
    let mut steps = Steps::default();
    let own = claimed.own.into_iter().chain(claimed.adopt.iter().cloned());
    let active: Vec<Arc<Pod>> = own.filter(|pod| pod.is_active()).collect();
    (steps.adopt, steps.release) = (claimed.adopt, claimed.release);
    let wanted = usize::try_from(spec.replicas()).unwrap_or(0);
    if meta.deletion_timestamp.is_none() {
        if active.len() < wanted {
            steps.create = (wanted - active.len()).min(BURST);
        } else if active.len() > wanted {
            let surplus = (active.len() - wanted).min(BURST);
            steps.delete = first_to_go(&active, seen.related_on_node, now, surplus);
        }
    }
    let mut wake_at = None;
    let status = status_of(seen, &active, now, &mut wake_at);
    Ok(Plan {
        steps,
        status: (status != *seen.set.status()).then_some(status),
        wake_at,
    })
}

/// The `count` pods that go first, by the documented order: unassigned, pending, not ready, cheapest, doubled up on a node,
/// ready for the shortest time, most restarts, newest.
fn first_to_go(active: &[Arc<Pod>], related: &HashMap<String, usize>, now: Timestamp, count: usize) -> Vec<Arc<Pod>> {
    let rank = |pod: &Pod| pod.node().and_then(|node| related.get(node)).copied().unwrap_or(0);
    let age = |since: Option<Timestamp>| logarithm(since, now);
    let mut pods = active.to_vec();
    pods.sort_by_cached_key(|pod| {
        let phase = match pod.status.phase.as_str() {
            "Running" => 2,
            "Unknown" => 1,
            _ => 0,
        };
        (
            (pod.node().is_some(), phase, pod.is_ready(), pod.deletion_cost()),
            std::cmp::Reverse(rank(pod)),
            age(pod.ready_since()),
            std::cmp::Reverse(pod.restarts()),
            age(pod.metadata.creation_timestamp.as_ref().map(|time| time.0)),
            pod.uid().to_owned(),
        )
    });
    pods.truncate(count);
    pods
}

/// Age in powers of two of seconds: pods of about the same age are equal, and chance (the uid) decides, which spreads
/// deletions. An unknown time counts as just now.
fn logarithm(since: Option<Timestamp>, now: Timestamp) -> u32 {
    let seconds = since.map_or(0, |since| (now.as_second() - since.as_second()).max(0));
    u64::try_from(seconds)
        .unwrap_or(0)
        .checked_ilog2()
        .map_or(0, |log| log + 1)
}

fn status_of<K: Replicas>(
    seen: &Observed<'_, K>,
    active: &[Arc<Pod>],
    now: Timestamp,
    wake_at: &mut Option<Timestamp>,
) -> ReplicaSetStatus {
    let (meta, spec) = (seen.set.meta(), seen.set.spec());
    let template = spec.template.pointer("/metadata/labels").and_then(Value::as_object);
    let fully_labeled = |pod: &Pod| {
        template.is_none_or(|wanted| {
            let labels = pod.metadata.labels.as_ref();
            wanted
                .iter()
                .all(|(name, value)| labels.and_then(|all| all.get(name)).map(String::as_str) == value.as_str())
        })
    };
    let mut next = ReplicaSetStatus {
        replicas: count(active.len()),
        fully_labeled_replicas: count(active.iter().filter(|pod| fully_labeled(pod)).count()),
        ready_replicas: count(active.iter().filter(|pod| pod.is_ready()).count()),
        observed_generation: meta.generation.unwrap_or(0),
        ..ReplicaSetStatus::default()
    };
    for pod in active {
        match pod.is_available(spec.min_ready_seconds, now) {
            Ok(available) => next.available_replicas += i32::from(available),
            Err(at) => wake(wake_at, at),
        }
    }
    next.conditions = seen.set.status().conditions.clone();
    next.conditions.retain(|condition| condition.type_ != REPLICA_FAILURE);
    next
}

/// The status with the reason why pods could not be made or deleted.
fn with_failure(
    before: &ReplicaSetStatus,
    planned: Option<ReplicaSetStatus>,
    message: String,
    now: Timestamp,
) -> ReplicaSetStatus {
    let mut status = planned.unwrap_or_else(|| before.clone());
    status.conditions.retain(|condition| condition.type_ != REPLICA_FAILURE);
    let known = before.conditions.iter().find(|one| one.type_ == REPLICA_FAILURE);
    status.conditions.push(known.cloned().unwrap_or_else(|| Condition {
        type_: REPLICA_FAILURE.to_owned(),
        status: "True".to_owned(),
        reason: "FailedCreate".to_owned(),
        message,
        last_transition_time: Some(whole_seconds(now)),
        ..Condition::default()
    }));
    status
}

impl<K: Replicas> Workload for K {
    type Steps = Steps;
    type Status = ReplicaSetStatus;

    fn cache(caches: &Caches) -> &Arc<Cache<Self>> {
        K::cached(caches)
    }

    async fn watch(caches: &Caches, queue: &Arc<Queue>) {
        caches.pods.ready().await;
        let sets = K::cached(caches).clone();
        queue.follow(&caches.pods, move |pod| {
            concerned(pod, &sets, |set| &set.spec().selector)
        });
    }

    async fn decide(look: &Look<'_, Self>) -> Decision<Self> {
        let caches = &look.context.caches;
        let seen = Observed {
            set: &*look.object,
            pods: &look.owned_and_orphans(&caches.pods),
            related_on_node: &related_on_node(look),
        };
        plan(&seen, look.now).map(Some)
    }

    async fn act(turn: &mut Turn<'_, Self>, steps: &Steps) -> Result<(), Error> {
        let turn = &*turn;
        let pods = &turn.context.caches.pods;
        if !steps.adopt.is_empty() {
            turn.context.shell.may_adopt::<Self>(&turn.meta).await?;
        }
        for pod in &steps.adopt {
            turn.adopt(pods, &pod.metadata).await?;
        }
        for pod in &steps.release {
            turn.release(pods, &pod.metadata).await?;
        }
        create_pods(turn, steps.create).await?;
        all_of(steps.delete.iter().map(|pod| turn.delete_pod(pod).boxed()).collect()).await
    }

    fn status_after_failure(
        &self,
        planned: Option<ReplicaSetStatus>,
        error: &Error,
        now: Timestamp,
    ) -> Option<ReplicaSetStatus> {
        if error.is_conflict() {
            return planned;
        }
        let before = self.status();
        Some(with_failure(before, planned, error.told(), now)).filter(|status| status != before)
    }

    fn status_patch(&self, status: &ReplicaSetStatus) -> Value {
        status.patch()
    }
}

/// How many active pods of the same Deployment each node has.
fn related_on_node<K: Replicas>(look: &Look<'_, K>) -> HashMap<String, usize> {
    let (sets, pods) = (
        look.at(K::cached(&look.context.caches)),
        look.at(&look.context.caches.pods),
    );
    let mut uids: Vec<Index> = vec![Index::Owner(uid_of(look.object.meta()).into())];
    if let Some(owner) = controller_of(look.object.meta()) {
        let related = sets.group(&Index::Owner(owner.uid.as_str().into()));
        uids = related
            .iter()
            .map(|set| Index::Owner(uid_of(set.meta()).into()))
            .collect();
    }
    let mut counts = HashMap::new();
    for pod in pods.groups(&uids).iter().filter(|pod| pod.is_active()) {
        if let Some(node) = pod.node() {
            *counts.entry(node.to_owned()).or_default() += 1;
        }
    }
    counts
}

/// Creates pods in batches of 1, 2, 4, …: where one fails, all would, and a quota is not hammered.
async fn create_pods<K: Replicas>(turn: &Turn<'_, K>, count: usize) -> Result<(), Error> {
    let (set, key) = (&turn.object, turn.key);
    let mut pod = pod_from_template(&set.spec().template, &key.namespace, controlled_by::<K>(set.meta()));
    pod["metadata"]["generateName"] = json!(format!("{}-", key.name));
    let (mut left, mut batch) = (count, 1);
    while left > 0 {
        let now = batch.min(left);
        all_of((0..now).map(|_| turn.create_pod(pod.clone()).boxed()).collect()).await?;
        left -= now;
        batch *= 2;
    }
    Ok(())
}

/// Waits for all requests, some at a time. The first failure among them counts.
async fn all_of(requests: Vec<BoxFuture<'_, Result<(), Error>>>) -> Result<(), Error> {
    let mut results = futures::stream::iter(requests).buffer_unordered(PARALLEL);
    let mut outcome = Ok(());
    while let Some(result) = results.next().await {
        outcome = outcome.and(result);
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::time::seconds;
    use proptest::prelude::*;

    fn set(replicas: i32) -> ReplicaSet {
        serde_json::from_value(json!({
            "metadata": {"name": "s", "namespace": "n", "uid": "s-uid", "generation": 1},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "a"}}, "template": {"metadata": {"labels": {"app": "a"}}}},
        }))
        .unwrap()
    }

    fn pod(name: &str, extra: Value) -> Arc<Pod> {
        let mut object = json!({
            "metadata": {"name": name, "namespace": "n", "uid": name, "labels": {"app": "a"},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "s", "uid": "s-uid", "controller": true}]},
            "spec": {"nodeName": "a"}, "status": {"phase": "Running"},
        });
        for (pointer, value) in extra.as_object().unwrap() {
            let (parent, field) = pointer.rsplit_once('/').unwrap();
            object.pointer_mut(parent).unwrap()[field] = value.clone();
        }
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn ready(since: i64) -> Value {
        json!([{"type": "Ready", "status": "True", "lastTransitionTime": seconds(Timestamp::from_second(since).unwrap())}])
    }

    fn decide(set: &ReplicaSet, pods: &[Arc<Pod>], now: i64) -> Plan<Steps, ReplicaSetStatus> {
        let related = HashMap::new();
        let seen = Observed {
            set,
            pods,
            related_on_node: &related,
        };
        plan(&seen, Timestamp::from_second(now).unwrap()).unwrap()
    }

    #[test]
    fn pods_go_in_the_documented_order() {
        let pods = [
            pod("old-ready", json!({"/status/conditions": ready(0)})),
            pod("young-ready", json!({"/status/conditions": ready(9_990)})),
            pod(
                "cheap",
                json!({"/status/conditions": ready(0), "/metadata/annotations": {crate::objects::pod::DELETION_COST: "-5"}}),
            ),
            pod("unready", json!({})),
            pod("pending", json!({"/status/phase": "Pending"})),
            pod(
                "unassigned",
                json!({"/status/phase": "Pending", "/spec/nodeName": null}),
            ),
        ];
        let order = first_to_go(&pods, &HashMap::new(), Timestamp::from_second(10_000).unwrap(), 6);
        let names: Vec<&str> = order.iter().map(|pod| pod.name()).collect();
        assert_eq!(
            names,
            ["unassigned", "pending", "unready", "cheap", "young-ready", "old-ready"]
        );
    }

    #[test]
    fn adopts_matching_orphans_and_releases_strangers() {
        let orphan = pod("orphan", json!({"/metadata/ownerReferences": []}));
        let stranger = pod("stranger", json!({"/metadata/labels": {"app": "b"}}));
        let decided = decide(&set(1), &[orphan, stranger], 0);
        assert_eq!(
            (
                decided.steps.adopt.len(),
                decided.steps.release.len(),
                decided.steps.create
            ),
            (1, 1, 0)
        );
    }

    #[test]
    fn availability_waits_for_min_ready_seconds() {
        let mut set = set(1);
        set.spec.min_ready_seconds = 10;
        let pods = [pod("a", json!({"/status/conditions": ready(100)}))];
        let early = decide(&set, &pods, 105);
        assert_eq!(early.status.unwrap().available_replicas, 0);
        assert_eq!(early.wake_at, Some(Timestamp::from_second(110).unwrap()));
        assert_eq!(decide(&set, &pods, 110).status.unwrap().available_replicas, 1);
    }

    #[test]
    fn a_settled_set_has_nothing_to_write() {
        let mut set = set(1);
        let pods = [pod("a", json!({"/status/conditions": ready(0)}))];
        set.status = decide(&set, &pods, 10).status.unwrap();
        let decided = decide(&set, &pods, 99);
        assert!(
            decided.status.is_none()
                && decided.steps.create == 0
                && decided.steps.delete.is_empty()
                && decided.wake_at.is_none()
        );
    }

    proptest! {
        /// Creation and deletion bring the active pods to the number asked for, whatever there is.
        #[test]
        fn reaches_the_size(replicas in 0..8_i32, kinds in proptest::collection::vec(0..4_u8, 0..12)) {
            let pods: Vec<Arc<Pod>> = kinds.iter().enumerate().map(|(at, kind)| {
                let extra = match kind {
                    0 => json!({"/status/phase": "Failed"}),
                    1 => json!({"/metadata/deletionTimestamp": "2026-01-01T00:00:00Z"}),
                    2 => json!({"/status/conditions": ready(0)}),
                    _ => json!({}),
                };
                pod(&format!("p{at}"), extra)
            }).collect();
            let active = pods.iter().filter(|pod| pod.is_active()).count();
            let decided = decide(&set(replicas), &pods, 100);
            prop_assert_eq!(active + decided.steps.create - decided.steps.delete.len(), usize::try_from(replicas).unwrap());
            prop_assert!(decided.steps.delete.iter().all(|pod| pod.is_active()));
        }
    }
}
