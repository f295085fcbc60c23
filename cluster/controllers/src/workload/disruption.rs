//! PodDisruptionBudgets: how many pods may be evicted now. The eviction subresource spends what this loop allows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use afloat_watching::{Cache, Queue};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::GroupVersionKind;
use serde_json::{Value, json};

use crate::Error;
use crate::context::Caches;
use crate::loops::answer::is_status;
use crate::loops::shell::dynamic;
use crate::objects::condition::conditions_json;
use crate::objects::counts::{Round, count, scaled};
use crate::objects::selector::Labels;
use crate::objects::time::{seconds, wake, whole_seconds};
use crate::objects::{Condition, Index, Key, Pod, PodDisruptionBudget, PodDisruptionBudgetStatus, controller_of};

use super::{Decision, Look, Plan, Turn, Workload};

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

/// Decides. There is nothing to do but to write the status.
pub(crate) fn plan(seen: &Observed<'_>, now: Timestamp) -> Plan<(), PodDisruptionBudgetStatus> {
    let before = &seen.budget.status;
    let mut wake_at: Option<Timestamp> = None;
    let mut granted = BTreeMap::new();
    for (name, since) in &before.disrupted_pods {
        let until = since.0.checked_add(GRANTED).unwrap_or(Timestamp::MAX);
        let waits = seen.pods.iter().any(|pod| pod.name() == name && !pod.is_terminating());
        if waits && until > now {
            granted.insert(name.clone(), since.clone());
            wake(&mut wake_at, until);
        }
    }
    let (expected, desired) = expected_and_desired(seen);
    let healthy = |pod: &&Arc<Pod>| pod.is_ready() && !pod.is_terminating() && !granted.contains_key(pod.name());
    let healthy = count(seen.pods.iter().filter(healthy).count());
    let allowed = if expected > 0 { (healthy - desired).max(0) } else { 0 };
    let status = PodDisruptionBudgetStatus {
        observed_generation: seen.budget.metadata.generation.unwrap_or(0),
        disruptions_allowed: allowed,
        current_healthy: healthy,
        desired_healthy: desired,
        expected_pods: expected,
        disrupted_pods: granted,
        conditions: conditions(&before.conditions, allowed > 0, now),
    };
    Plan {
        steps: (),
        status: (status != *before).then_some(status),
        wake_at,
    }
}

/// The conditions, with what they say about disruptions.
fn conditions(before: &[Condition], allowed: bool, now: Timestamp) -> Vec<Condition> {
    let mut conditions = before.to_vec();
    let (value, reason) = if allowed {
        ("True", "SufficientPods")
    } else {
        ("False", "InsufficientPods")
    };
    match conditions
        .iter_mut()
        .find(|condition| condition.type_ == "DisruptionAllowed")
    {
        Some(known) => {
            if known.status != value {
                known.last_transition_time = Some(whole_seconds(now));
            }
            known.status = value.to_owned();
            known.reason = reason.to_owned();
        }
        None => conditions.push(Condition {
            type_: "DisruptionAllowed".to_owned(),
            status: value.to_owned(),
            reason: reason.to_owned(),
            last_transition_time: Some(whole_seconds(now)),
            ..Condition::default()
        }),
    }
    conditions
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

impl Workload for PodDisruptionBudget {
    type Steps = ();
    type Status = PodDisruptionBudgetStatus;
    const WIDTH: usize = 4;

    fn cache(caches: &Caches) -> &Arc<Cache<Self>> {
        &caches.budgets
    }

    async fn watch(caches: &Caches, queue: &Arc<Queue>) {
        caches.pods.ready().await;
        caches.replica_sets.ready().await;
        caches.deployments.ready().await;
        let budgets = caches.budgets.clone();
        queue.follow(&caches.pods, move |pod| selecting(&budgets, pod));
    }

    async fn decide(look: &Look<'_, Self>) -> Decision<Self> {
        let (budget, namespace) = (&look.object, &look.key.namespace);
        let all = look
            .at(&look.context.caches.pods)
            .group(&Index::Namespace(namespace.clone()));
        let counts = |pod: &&Arc<Pod>| selects(budget, pod) && !pod.is_finished();
        let pods: Vec<Arc<Pod>> = all.iter().filter(counts).cloned().collect();
        let seen = Observed {
            budget,
            pods: &pods,
            wanted: &wanted(look, &pods).await?,
        };
        Ok(Some(plan(&seen, look.now)))
    }

    async fn act(_: &mut Turn<'_, Self>, (): &()) -> Result<(), Error> {
        Ok(())
    }

    fn status_patch(&self, status: &PodDisruptionBudgetStatus) -> Value {
        status_patch(status, &self.status)
    }
}

fn selecting(budgets: &Cache<PodDisruptionBudget>, pod: &Pod) -> Vec<Key> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let budgets = budgets.peek_group(&Index::Namespace(namespace.into()));
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

/// How many pods each controller of these pods wants: from the cache, or from its scale subresource. The ReplicaSets of one
/// Deployment together want what the Deployment wants: the first stands for all.
async fn wanted(look: &Look<'_, PodDisruptionBudget>, pods: &[Arc<Pod>]) -> Result<BTreeMap<String, i32>, Error> {
    let (mut wanted, mut deployments) = (BTreeMap::new(), BTreeSet::new());
    for pod in pods {
        let Some(owner) = controller_of(&pod.metadata) else {
            continue;
        };
        if wanted.contains_key(&owner.uid) {
            continue;
        }
        let known = if owner.kind == "ReplicaSet" {
            of_replica_set(look, owner)
        } else {
            None
        };
        let count = match known {
            Some((Some(deployment), _)) if !deployments.insert(deployment.clone()) => 0,
            Some((_, count)) => count,
            None => of_scale(look, owner).await?,
        };
        wanted.insert(owner.uid.clone(), count);
    }
    Ok(wanted)
}

/// The uid of the Deployment above, if any, and how many pods it or the ReplicaSet wants.
fn of_replica_set(look: &Look<'_, PodDisruptionBudget>, owner: &OwnerReference) -> Option<(Option<String>, i32)> {
    let (caches, namespace) = (&look.context.caches, &look.key.namespace);
    let set = look
        .at(&caches.replica_sets)
        .get(&Key::new(namespace.clone(), owner.name.as_str()))?;
    let Some(above) = controller_of(&set.metadata).filter(|above| above.kind == "Deployment") else {
        return Some((None, set.replicas()));
    };
    let deployment = look
        .at(&caches.deployments)
        .get(&Key::new(namespace.clone(), above.name.as_str()))?;
    Some((Some(above.uid.clone()), deployment.spec.replicas.unwrap_or(1)))
}

async fn of_scale(look: &Look<'_, PodDisruptionBudget>, owner: &OwnerReference) -> Result<i32, Error> {
    let client = &look.context.shell.client;
    let (group, version) = owner.api_version.split_once('/').unwrap_or(("", &owner.api_version));
    let kind = GroupVersionKind::gvk(group, version, &owner.kind);
    let (resource, _) = kube::discovery::pinned_kind(client, &kind).await?;
    match dynamic(client, &resource, &look.key.namespace)
        .get_scale(&owner.name)
        .await
    {
        Ok(scale) => Ok(scale.spec.and_then(|spec| spec.replicas).unwrap_or(0)),
        // Gone, or a kind without a scale: it wants none.
        Err(error) if is_status(&error, 404) => Ok(0),
        Err(error) => Err(error.into()),
    }
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
        .status
        .unwrap_or_default()
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
        let decided = plan(&seen, Timestamp::from_second(10).unwrap());
        let status = decided.status.unwrap();
        assert_eq!((status.disruptions_allowed, status.disrupted_pods.len()), (0, 1));
        assert_eq!(decided.wake_at, Some(Timestamp::from_second(120).unwrap()));
        assert_eq!(
            plan(&seen, Timestamp::from_second(121).unwrap())
                .status
                .unwrap()
                .disruptions_allowed,
            1
        );
    }
}
