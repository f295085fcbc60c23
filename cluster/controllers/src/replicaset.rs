//! ReplicaSets: as many pods of a template as asked for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use afloat_words::owner::controller_reference;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::Error;
use crate::cache::{Cache, Written, revision_of};
use crate::objects::{Condition, Index, Key, Pod, ReplicaSet, ReplicaSetStatus, controller_of};
use crate::pod_control;
use crate::run::Context;
use crate::selector::Labels;
use crate::shell::{Shell, seconds};

/// Kubernetes' burst limit: not more creations or deletions than this in one turn.
const BURST: usize = 500;
/// Requests in flight for one ReplicaSet.
const PARALLEL: usize = 32;

/// What a plan is made from.
pub(crate) struct Observed<'a> {
    pub(crate) set: &'a ReplicaSet,
    /// Pods that it controls, and pods of its namespace that nobody controls.
    pub(crate) pods: &'a [Arc<Pod>],
    /// For each node, how many active pods of the same Deployment are there: doubled-up pods go first.
    pub(crate) related_on_node: &'a HashMap<String, usize>,
    /// Why the last creation or deletion failed.
    pub(crate) failure: Option<&'a str>,
}

/// What to do next.
#[derive(Default)]
pub(crate) struct Plan {
    pub(crate) adopt: Vec<Arc<Pod>>,
    pub(crate) release: Vec<Arc<Pod>>,
    pub(crate) create: usize,
    pub(crate) delete: Vec<Arc<Pod>>,
    /// Set if it differs from what the object says.
    pub(crate) status: Option<ReplicaSetStatus>,
    /// When a pod becomes available without anything happening.
    pub(crate) wake_at: Option<Timestamp>,
}

/// Decides.
///
/// # Errors
/// [`Error::Invalid`] if the selector cannot be read.
pub(crate) fn plan(seen: &Observed<'_>, now: Timestamp) -> Result<Plan, Error> {
    let set = seen.set;
    let labels = Labels::parse(&set.spec.selector)?;
    let deleting = set.metadata.deletion_timestamp.is_some();
    let mut plan = Plan::default();
    let mut own: Vec<Arc<Pod>> = Vec::new();
    for pod in seen.pods {
        let matches = labels.matches(pod.metadata.labels.as_ref()) && !Labels::is_empty(&set.spec.selector);
        match controller_of(&pod.metadata) {
            Some(owner) if Some(&owner.uid) == set.metadata.uid.as_ref() => {
                if matches {
                    own.push(pod.clone());
                } else if !deleting {
                    plan.release.push(pod.clone());
                }
            }
            None if matches && !deleting && pod.is_active() => {
                plan.adopt.push(pod.clone());
                own.push(pod.clone());
            }
            _ => {}
        }
    }
    let active: Vec<Arc<Pod>> = own.into_iter().filter(|pod| pod.is_active()).collect();
    let wanted = usize::try_from(set.replicas()).unwrap_or(0);
    if !deleting {
        if active.len() < wanted {
            plan.create = (wanted - active.len()).min(BURST);
        } else if active.len() > wanted {
            let surplus = (active.len() - wanted).min(BURST);
            plan.delete = first_to_go(&active, seen.related_on_node, now, surplus);
        }
    }
    let status = status(seen, &active, now, &mut plan.wake_at);
    plan.status = (status != set.status).then_some(status);
    Ok(plan)
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

fn status(
    seen: &Observed<'_>,
    active: &[Arc<Pod>],
    now: Timestamp,
    wake_at: &mut Option<Timestamp>,
) -> ReplicaSetStatus {
    let template = seen
        .set
        .spec
        .template
        .pointer("/metadata/labels")
        .and_then(Value::as_object);
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
        observed_generation: seen.set.metadata.generation.unwrap_or(0),
        ..ReplicaSetStatus::default()
    };
    for pod in active {
        match pod.is_available(seen.set.spec.min_ready_seconds, now) {
            Ok(available) => next.available_replicas += i32::from(available),
            Err(at) => *wake_at = Some(wake_at.map_or(at, |earlier| earlier.min(at))),
        }
    }
    let before = &seen.set.status.conditions;
    next.conditions = before
        .iter()
        .filter(|condition| condition.type_ != "ReplicaFailure")
        .cloned()
        .collect();
    if let Some(message) = seen.failure {
        let known = before.iter().find(|condition| condition.type_ == "ReplicaFailure");
        next.conditions.push(known.cloned().unwrap_or_else(|| Condition {
            type_: "ReplicaFailure".into(),
            status: "True".into(),
            reason: "FailedCreate".into(),
            message: message.to_owned(),
            last_transition_time: Some(whole_seconds(now)),
            ..Condition::default()
        }));
    }
    next
}

/// A time as it comes back from the API server, so that statuses can be compared.
pub(crate) fn whole_seconds(now: Timestamp) -> k8s_openapi::apimachinery::pkg::apis::meta::v1::Time {
    k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

/// A number of objects as the API has it.
pub(crate) fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// Zero is left out, as Kubernetes does.
pub(crate) fn unless_zero(number: i32) -> Value {
    if number == 0 { Value::Null } else { json!(number) }
}

/// Conditions as JSON; none are left out.
pub(crate) fn conditions_json(conditions: &[Condition]) -> Value {
    if conditions.is_empty() {
        return Value::Null;
    }
    conditions
        .iter()
        .map(|condition| {
            let mut entry = json!({
                "type": condition.type_, "status": condition.status, "reason": condition.reason, "message": condition.message,
            });
            if let Some(at) = &condition.last_transition_time {
                entry["lastTransitionTime"] = json!(seconds(at.0));
            }
            if let Some(at) = &condition.last_update_time {
                entry["lastUpdateTime"] = json!(seconds(at.0));
            }
            entry
        })
        .collect()
}

/// A pod of a template, owned by `owner`.
pub(crate) fn pod_from_template(template: &Value, namespace: &str, owner: Value) -> Value {
    let meta = template.get("metadata");
    json!({
        "metadata": {
            "namespace": namespace,
            "labels": meta.and_then(|meta| meta.get("labels")),
            "annotations": meta.and_then(|meta| meta.get("annotations")),
            "finalizers": meta.and_then(|meta| meta.get("finalizers")),
            "ownerReferences": [owner],
        },
        "spec": template.get("spec"),
    })
}

/// An owner reference that makes `meta` the controller.
pub(crate) fn controlled_by<K: kube::Resource<DynamicType = ()>>(meta: &kube::api::ObjectMeta) -> Value {
    json!(controller_reference(&K::api_version(&()), &K::kind(&()), meta))
}

/// Runs the loop until shutdown.
pub(crate) async fn run(context: Context) -> Result<(), Error> {
    let queue = crate::queue::Queue::new();
    let (sets, pods) = (&context.caches.replica_sets, &context.caches.pods);
    sets.ready().await;
    pods.ready().await;
    queue.follow(sets, |set| Some(Key::of(&set.metadata)));
    let known = sets.clone();
    queue.follow(pods, move |pod| concerned(pod, &known));
    let work = |key: Key| sync(&context, key);
    queue.run(context.shell.name, 8, &context.shutdown, work).await;
    Ok(())
}

/// The sets to look at when this pod changes: its own, or those that might adopt it.
fn concerned(pod: &Pod, sets: &Cache<ReplicaSet>) -> Vec<Key> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    match controller_of(&pod.metadata) {
        Some(owner) if owner.kind == "ReplicaSet" => vec![Key::new(namespace, &owner.name)],
        Some(_) => Vec::new(),
        None => sets
            .by_index(&Index::Namespace(namespace.to_owned()))
            .iter()
            .filter(|set| {
                Labels::parse(&set.spec.selector).is_ok_and(|labels| labels.matches(pod.metadata.labels.as_ref()))
            })
            .map(|set| Key::of(&set.metadata))
            .collect(),
    }
}

async fn sync(context: &Context, key: Key) -> Result<Option<Duration>, Error> {
    let (shell, caches) = (&context.shell, &context.caches);
    shell.settle(&key).await?;
    let Some(set) = caches.replica_sets.get(&key) else {
        return Ok(None);
    };
    let uid = set.metadata.uid.clone().unwrap_or_default();
    let mut pods = caches.pods.by_index(&Index::Owner(uid));
    pods.extend(caches.pods.by_index(&Index::Orphan(key.namespace.clone())));
    let related = related_on_node(context, &set);
    let now = Timestamp::now();
    let seen = Observed {
        set: &set,
        pods: &pods,
        related_on_node: &related,
        failure: None,
    };
    let mut decided = plan(&seen, now)?;
    let acted = act(shell, &caches.pods, &key, &set, &decided).await;
    if let Err(error) = &acted {
        let message = error.told();
        if !error.is_conflict() {
            decided.status = plan(
                &Observed {
                    failure: Some(&message),
                    ..seen
                },
                now,
            )?
            .status;
        }
    }
    if let Some(status) = &decided.status {
        let patch = status_patch(status);
        match shell
            .patch(&key, &caches.replica_sets, &set.metadata, Some("status"), patch)
            .await
        {
            // Changed or gone meanwhile: the change itself brings us back.
            Err(error) if error.is_conflict() => {}
            other => drop(other?),
        }
    }
    acted?;
    Ok(decided.wake_at.map(|at| until(at, now)))
}

/// Time from `now` to `at`, and a little more, so that it has passed then.
pub(crate) fn until(at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or_default() + Duration::from_millis(5)
}

fn status_patch(status: &ReplicaSetStatus) -> Value {
    json!({"status": {
        "replicas": status.replicas,
        "fullyLabeledReplicas": unless_zero(status.fully_labeled_replicas),
        "readyReplicas": unless_zero(status.ready_replicas),
        "availableReplicas": unless_zero(status.available_replicas),
        "observedGeneration": status.observed_generation,
        "conditions": conditions_json(&status.conditions),
    }})
}

/// How many active pods of the same Deployment each node has.
fn related_on_node(context: &Context, set: &ReplicaSet) -> HashMap<String, usize> {
    let mut related: Vec<Arc<ReplicaSet>> = Vec::new();
    if let Some(owner) = controller_of(&set.metadata) {
        related = context.caches.replica_sets.by_index(&Index::Owner(owner.uid.clone()));
    }
    let mut uids: Vec<String> = related.iter().filter_map(|set| set.metadata.uid.clone()).collect();
    if uids.is_empty() {
        uids.extend(set.metadata.uid.clone());
    }
    let mut counts = HashMap::new();
    for uid in uids {
        for pod in context.caches.pods.by_index(&Index::Owner(uid)) {
            if let (true, Some(node)) = (pod.is_active(), pod.node()) {
                *counts.entry(node.to_owned()).or_default() += 1;
            }
        }
    }
    counts
}

async fn act(shell: &Shell, cache: &Arc<Cache<Pod>>, key: &Key, set: &ReplicaSet, plan: &Plan) -> Result<(), Error> {
    if !plan.adopt.is_empty() {
        shell.may_adopt::<ReplicaSet>(&set.metadata).await?;
    }
    for pod in &plan.adopt {
        let owner = controlled_by::<ReplicaSet>(&set.metadata);
        own(shell, cache, key, pod, json!([owner])).await?;
    }
    for pod in &plan.release {
        let uid = set.metadata.uid.clone().unwrap_or_default();
        own(shell, cache, key, pod, json!([{"$patch": "delete", "uid": uid}])).await?;
    }
    create(shell, cache, set, plan.create).await?;
    let deletions: Vec<BoxFuture<'_, Result<(), Error>>> = plan
        .delete
        .iter()
        .map(|pod| pod_control::delete::<ReplicaSet>(shell, cache, &set.metadata, pod).boxed())
        .collect();
    let mut results = futures::stream::iter(deletions).buffer_unordered(PARALLEL);
    let mut outcome = Ok(());
    while let Some(result) = results.next().await {
        outcome = outcome.and(result);
    }
    outcome
}

/// Changes a pod's owner references, if it is still the same pod in the same state.
async fn own(shell: &Shell, cache: &Arc<Cache<Pod>>, key: &Key, pod: &Pod, references: Value) -> Result<(), Error> {
    let patch = crate::shell::decided_on(&pod.metadata, json!({"metadata": {"ownerReferences": references}}));
    let api = shell.api::<Pod>(&key.namespace);
    match api
        .patch(pod.name(), &PatchParams::default(), &Patch::Strategic(patch))
        .await
    {
        Ok(patched) => {
            shell.expect(key, cache, Written::Revision(revision_of(&patched.metadata)));
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

/// Creates pods in batches of 1, 2, 4, …: where one fails, all would, and a quota is not hammered.
async fn create(shell: &Shell, cache: &Arc<Cache<Pod>>, set: &ReplicaSet, count: usize) -> Result<(), Error> {
    let key = Key::of(&set.metadata);
    let mut pod = pod_from_template(
        &set.spec.template,
        &key.namespace,
        controlled_by::<ReplicaSet>(&set.metadata),
    );
    pod["metadata"]["generateName"] = json!(format!("{}-", key.name));
    let (mut left, mut batch) = (count, 1);
    while left > 0 {
        let now = batch.min(left);
        let requests: Vec<_> = (0..now)
            .map(|_| pod_control::create::<ReplicaSet>(shell, cache, &set.metadata, pod.clone()).boxed())
            .collect();
        let mut results = futures::stream::iter(requests).buffer_unordered(PARALLEL);
        let mut outcome = Ok(());
        while let Some(result) = results.next().await {
            outcome = outcome.and(result);
        }
        outcome?;
        left -= now;
        batch *= 2;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
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

    fn decide(set: &ReplicaSet, pods: &[Arc<Pod>], now: i64) -> Plan {
        let related = HashMap::new();
        let seen = Observed {
            set,
            pods,
            related_on_node: &related,
            failure: None,
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
                json!({"/status/conditions": ready(0), "/metadata/annotations": {crate::pod::DELETION_COST: "-5"}}),
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
        assert_eq!((decided.adopt.len(), decided.release.len(), decided.create), (1, 1, 0));
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
            decided.status.is_none() && decided.create == 0 && decided.delete.is_empty() && decided.wake_at.is_none()
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
            prop_assert_eq!(active + decided.create - decided.delete.len(), usize::try_from(replicas).unwrap());
            prop_assert!(decided.delete.iter().all(|pod| pod.is_active()));
        }
    }
}
