//! PodDisruptionBudgets: how many pods may be evicted now. The eviction subresource spends what this loop allows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::GroupVersionKind;
use serde_json::{Value, json};

use crate::Error;
use crate::cache::Cache;
use crate::objects::{
    Condition, Index, Key, Pod, PodDisruptionBudget, PodDisruptionBudgetStatus, Round, controller_of, scaled,
};
use crate::replicaset::{conditions_json, count, until, whole_seconds};
use crate::run::Context;
use crate::selector::Labels;
use crate::shell::{dynamic, is_status, seconds};

/// An eviction that was granted but did not lead to a deletion counts this long, as in Kubernetes.
const GRANTED: SignedDuration = SignedDuration::from_secs(120);

/// What a plan is made from.
pub(crate) struct Observed<'a> {
    pub(crate) budget: &'a PodDisruptionBudget,
    /// The pods that it selects.
    pub(crate) pods: &'a [Arc<Pod>],
    /// How many pods their controllers want, by uid of the controller.
    pub(crate) wanted: &'a BTreeMap<String, i32>,
}

/// The status it should have, and when to look again.
pub(crate) fn plan(seen: &Observed<'_>, now: Timestamp) -> (PodDisruptionBudgetStatus, Option<Timestamp>) {
    let (budget, before) = (seen.budget, &seen.budget.status);
    let (expected, desired) = expected_and_desired(seen);
    let mut wake_at: Option<Timestamp> = None;
    let mut granted = BTreeMap::new();
    for (name, since) in &before.disrupted_pods {
        let until = since.0.checked_add(GRANTED).unwrap_or(Timestamp::MAX);
        let waits = seen.pods.iter().any(|pod| pod.name() == name && !pod.is_terminating());
        if waits && until > now {
            granted.insert(name.clone(), since.clone());
            wake_at = Some(wake_at.map_or(until, |earlier| earlier.min(until)));
        }
    }
    let healthy = |pod: &&Arc<Pod>| pod.is_ready() && !pod.is_terminating() && !granted.contains_key(pod.name());
    let healthy = count(seen.pods.iter().filter(healthy).count());
    let allowed = if expected > 0 { (healthy - desired).max(0) } else { 0 };
    let mut status = PodDisruptionBudgetStatus {
        observed_generation: budget.metadata.generation.unwrap_or(0),
        disruptions_allowed: allowed,
        current_healthy: healthy,
        desired_healthy: desired,
        expected_pods: expected,
        disrupted_pods: granted,
        conditions: before.conditions.clone(),
    };
    let (value, reason) = if allowed > 0 {
        ("True", "SufficientPods")
    } else {
        ("False", "InsufficientPods")
    };
    match status
        .conditions
        .iter_mut()
        .find(|condition| condition.type_ == "DisruptionAllowed")
    {
        Some(known) if known.status == value => known.reason = reason.to_owned(),
        Some(known) => {
            known.status = value.to_owned();
            known.reason = reason.to_owned();
            known.last_transition_time = Some(whole_seconds(now));
        }
        None => status.conditions.push(Condition {
            type_: "DisruptionAllowed".to_owned(),
            status: value.to_owned(),
            reason: reason.to_owned(),
            last_transition_time: Some(whole_seconds(now)),
            ..Condition::default()
        }),
    }
    (status, wake_at)
}

/// How many pods there should be, and how many of them healthy.
fn expected_and_desired(seen: &Observed<'_>) -> (i32, i32) {
    let spec = &seen.budget.spec;
    let present = count(seen.pods.len());
    let controlled = || {
        let owners: BTreeSet<&str> = seen
            .pods
            .iter()
            .filter_map(|pod| controller_of(&pod.metadata))
            .map(|owner| owner.uid.as_str())
            .collect();
        let alone = seen
            .pods
            .iter()
            .filter(|pod| controller_of(&pod.metadata).is_none())
            .count();
        owners
            .into_iter()
            .filter_map(|uid| seen.wanted.get(uid))
            .fold(count(alone), |sum, more| sum.saturating_add(*more))
    };
    match (&spec.max_unavailable, &spec.min_available) {
        (Some(most), _) => {
            let expected = controlled();
            (expected, (expected - scaled(most, expected, Round::Up)).max(0))
        }
        (None, Some(IntOrString::Int(least))) => (present, *least),
        (None, Some(percent)) => {
            let expected = controlled();
            (expected, scaled(percent, expected, Round::Up))
        }
        (None, None) => (present, 1),
    }
}

/// Runs the loop until shutdown.
pub(crate) async fn run(context: Context) -> Result<(), Error> {
    let queue = crate::queue::Queue::new();
    let caches = &context.caches;
    caches.budgets.ready().await;
    caches.pods.ready().await;
    caches.replica_sets.ready().await;
    caches.deployments.ready().await;
    queue.follow(&caches.budgets, |budget| Some(Key::of(&budget.metadata)));
    let budgets = caches.budgets.clone();
    queue.follow(&caches.pods, move |pod| selecting(&budgets, pod));
    let work = |key: Key| sync(&context, key);
    queue.run(context.shell.name, 4, &context.shutdown, work).await;
    Ok(())
}

fn selecting(budgets: &Cache<PodDisruptionBudget>, pod: &Pod) -> Vec<Key> {
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let budgets = budgets.by_index(&Index::Namespace(namespace));
    budgets
        .iter()
        .filter(|budget| selects(budget, pod))
        .map(|budget| Key::of(&budget.metadata))
        .collect()
}

/// No selector selects nothing, an empty one everything.
fn selects(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let labels = budget
        .spec
        .selector
        .as_ref()
        .and_then(|selector| Labels::parse(selector).ok());
    labels.is_some_and(|labels| labels.matches(pod.metadata.labels.as_ref()))
}

async fn sync(context: &Context, key: Key) -> Result<Option<Duration>, Error> {
    let (shell, caches) = (&context.shell, &context.caches);
    shell.settle(&key).await?;
    let Some(budget) = caches.budgets.get(&key) else {
        return Ok(None);
    };
    let all = caches.pods.by_index(&Index::Namespace(key.namespace.clone()));
    let pods: Vec<Arc<Pod>> = all
        .into_iter()
        .filter(|pod| selects(&budget, pod) && !pod.is_finished())
        .collect();
    let wanted = wanted(context, &key.namespace, &pods).await?;
    let now = Timestamp::now();
    let (status, wake_at) = plan(
        &Observed {
            budget: &budget,
            pods: &pods,
            wanted: &wanted,
        },
        now,
    );
    if status != budget.status {
        let patch = status_patch(&status, &budget.status);
        shell
            .patch(&key, &caches.budgets, &budget.metadata, Some("status"), patch)
            .await?;
    }
    Ok(wake_at.map(|at| until(at, now)))
}

fn status_patch(status: &PodDisruptionBudgetStatus, before: &PodDisruptionBudgetStatus) -> Value {
    let mut disrupted = serde_json::Map::new();
    for name in before
        .disrupted_pods
        .keys()
        .filter(|name| !status.disrupted_pods.contains_key(*name))
    {
        disrupted.insert(name.clone(), Value::Null);
    }
    for (name, since) in &status.disrupted_pods {
        disrupted.insert(name.clone(), json!(seconds(since.0)));
    }
    json!({"status": {
        "observedGeneration": status.observed_generation, "disruptionsAllowed": status.disruptions_allowed,
        "currentHealthy": status.current_healthy, "desiredHealthy": status.desired_healthy,
        "expectedPods": status.expected_pods, "disruptedPods": disrupted,
        "conditions": conditions_json(&status.conditions),
    }})
}

/// How many pods each controller of these pods wants: from the cache, or from its scale subresource. The ReplicaSets of one
/// Deployment together want what the Deployment wants: the first stands for all.
async fn wanted(context: &Context, namespace: &str, pods: &[Arc<Pod>]) -> Result<BTreeMap<String, i32>, Error> {
    let (mut wanted, mut deployments) = (BTreeMap::new(), BTreeSet::new());
    for pod in pods {
        let Some(owner) = controller_of(&pod.metadata) else {
            continue;
        };
        if wanted.contains_key(&owner.uid) {
            continue;
        }
        let known = if owner.kind == "ReplicaSet" {
            of_replica_set(context, namespace, owner)
        } else {
            None
        };
        let count = match known {
            Some((Some(deployment), _)) if !deployments.insert(deployment.clone()) => 0,
            Some((_, count)) => count,
            None => of_scale(context, namespace, owner).await?,
        };
        wanted.insert(owner.uid.clone(), count);
    }
    Ok(wanted)
}

/// The uid of the Deployment above, if any, and how many pods it or the ReplicaSet wants.
fn of_replica_set(context: &Context, namespace: &str, owner: &OwnerReference) -> Option<(Option<String>, i32)> {
    let set = context.caches.replica_sets.get(&Key::new(namespace, &owner.name))?;
    let Some(above) = controller_of(&set.metadata).filter(|above| above.kind == "Deployment") else {
        return Some((None, set.replicas()));
    };
    let deployment = context.caches.deployments.get(&Key::new(namespace, &above.name))?;
    Some((Some(above.uid.clone()), deployment.spec.replicas.unwrap_or(1)))
}

async fn of_scale(context: &Context, namespace: &str, owner: &OwnerReference) -> Result<i32, Error> {
    let client = &context.shell.client;
    let (group, version) = owner.api_version.split_once('/').unwrap_or(("", &owner.api_version));
    let kind = GroupVersionKind::gvk(group, version, &owner.kind);
    let (resource, _) = kube::discovery::pinned_kind(client, &kind).await?;
    match dynamic(client, &resource, namespace).get_scale(&owner.name).await {
        Ok(scale) => Ok(scale.spec.and_then(|spec| spec.replicas).unwrap_or(0)),
        // Gone, or a kind without a scale: it wants none.
        Err(error) if is_status(&error, 404) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods(ready: usize, unready: usize) -> Vec<Arc<Pod>> {
        let make = |(at, status): (usize, &str)| {
            Arc::new(
                serde_json::from_value(json!({
                    "metadata": {"name": format!("p{at}"), "uid": format!("p{at}"), "ownerReferences":
                        [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "s", "uid": "s", "controller": true}]},
                    "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": status}]},
                }))
                .unwrap(),
            )
        };
        let all = std::iter::repeat_n("True", ready).chain(std::iter::repeat_n("False", unready));
        all.enumerate().map(make).collect()
    }

    fn allowed(spec: Value, ready: usize, unready: usize, wanted: i32) -> i32 {
        let budget: PodDisruptionBudget = serde_json::from_value(json!({"spec": spec})).unwrap();
        let pods = pods(ready, unready);
        let wanted = BTreeMap::from([("s".to_owned(), wanted)]);
        plan(
            &Observed {
                budget: &budget,
                pods: &pods,
                wanted: &wanted,
            },
            Timestamp::UNIX_EPOCH,
        )
        .0
        .disruptions_allowed
    }

    #[test]
    fn budgets_follow_the_documentation() {
        assert_eq!(allowed(json!({"minAvailable": 2}), 3, 0, 3), 1);
        assert_eq!(allowed(json!({"minAvailable": "50%"}), 4, 1, 5), 1);
        assert_eq!(allowed(json!({"maxUnavailable": 1}), 3, 0, 3), 1);
        assert_eq!(allowed(json!({"maxUnavailable": 1}), 2, 1, 3), 0);
        assert_eq!(allowed(json!({"maxUnavailable": "30%"}), 10, 0, 10), 3);
        assert_eq!(allowed(json!({"minAvailable": 0}), 0, 0, 0), 0);
    }

    #[test]
    fn a_granted_eviction_counts_until_the_pod_goes_or_time_is_up() {
        let budget: PodDisruptionBudget = serde_json::from_value(json!({"spec": {"minAvailable": 2},
            "status": {"disruptedPods": {"p0": "1970-01-01T00:00:00Z", "gone": "1970-01-01T00:00:00Z"}}}))
        .unwrap();
        let (pods, wanted) = (pods(3, 0), BTreeMap::new());
        let seen = Observed {
            budget: &budget,
            pods: &pods,
            wanted: &wanted,
        };
        let (status, wake_at) = plan(&seen, Timestamp::from_second(10).unwrap());
        assert_eq!((status.disruptions_allowed, status.disrupted_pods.len()), (0, 1));
        assert_eq!(wake_at, Some(Timestamp::from_second(120).unwrap()));
        assert_eq!(
            plan(&seen, Timestamp::from_second(121).unwrap()).0.disruptions_allowed,
            1
        );
    }
}
