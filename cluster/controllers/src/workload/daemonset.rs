//! DaemonSets: one pod on every node that suits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use afloat_watching::{Cache, Queue, Urgency};
use afloat_words::affinity::Place;
use afloat_words::daemon::{self, Asked, Suits};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::NodeAffinity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};

use crate::Error;
use crate::context::Caches;
use crate::objects::counts::{Round, scaled};
use crate::objects::time::wake;
use crate::objects::{DaemonSet, DaemonSetStatus, Key, Node, Pod, Taint, controlled_by};

use super::history::{HASH_LABEL, History, record_of};
use super::ownership::follow_pods_of;
use super::template::pod_from_template;
use super::{Decision, Look, Plan, PlanOf, Turn, Workload};

/// What a plan is made from.
pub(crate) struct Observed<'a> {
    pub(crate) set: &'a DaemonSet,
    pub(crate) nodes: &'a [Arc<Node>],
    pub(crate) pods: &'a [Arc<Pod>],
    /// Hash of the present template.
    pub(crate) hash: &'a str,
}

/// What to do about its pods.
#[derive(Default)]
pub(crate) struct Steps {
    /// Names of nodes that get a pod.
    pub(crate) create: Vec<String>,
    pub(crate) delete: Vec<Arc<Pod>>,
    /// Hash of the template that new pods are of.
    hash: String,
    history: History,
}

/// The node that a daemon is for: where it is, or where its affinity wants it.
fn target(pod: &Pod) -> Option<&str> {
    pod.node().or_else(|| daemon::pinned_to(node_affinity(pod)?))
}

fn node_affinity(pod: &Pod) -> Option<&NodeAffinity> {
    pod.spec.affinity.as_ref()?.node_affinity.as_ref()
}

/// Whether a pod may be placed on the node, and whether it may stay there, resources aside.
fn suits(node: &Node, pod: &Pod) -> Suits {
    let none = BTreeMap::new();
    let place = Place {
        name: node.metadata.name.as_deref().unwrap_or_default(),
        labels: node.metadata.labels.as_ref().unwrap_or(&none),
    };
    let asked = Asked {
        node_name: pod.node().unwrap_or_default(),
        affinity: node_affinity(pod),
        tolerations: &pod.spec.tolerations,
    };
    daemon::suits(
        place,
        node.spec.taints.iter().map(Taint::words),
        &pod.spec.node_selector,
        asked,
    )
}

/// The pod of the template with the tolerations that every daemon has.
fn template_pod(set: &DaemonSet) -> Value {
    let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
    let mut pod = pod_from_template(&set.spec.template, namespace, controlled_by::<DaemonSet>(&set.metadata));
    daemon::tolerate(&mut pod["spec"]);
    pod
}

/// Decides.
///
/// # Errors
/// If the template is not one of a pod.
pub(crate) fn plan(seen: &Observed<'_>, now: Timestamp) -> Result<Plan<Steps, DaemonSetStatus>, Error> {
    let set = seen.set;
    let mut status = DaemonSetStatus {
        observed_generation: set.metadata.generation.unwrap_or(0),
        ..DaemonSetStatus::default()
    };
    let mut steps = Steps {
        hash: seen.hash.to_owned(),
        ..Steps::default()
    };
    let kept = place(seen, &mut steps, &mut status)?;
    let wake_at = count_kept(seen, &kept, now, &mut status);
    steps.delete.extend(outdated(seen, &kept, now, &status));
    if set.metadata.deletion_timestamp.is_some() {
        steps.create.clear();
        steps.delete.clear();
    }
    Ok(Plan {
        steps,
        status: (status != set.status).then_some(status),
        wake_at,
    })
}

/// Node by node: who gets a pod, who loses one. Returns the pods that stay where they are.
fn place<'a>(seen: &Observed<'a>, steps: &mut Steps, status: &mut DaemonSetStatus) -> Result<Vec<&'a Arc<Pod>>, Error> {
    let sample: Pod = serde_json::from_value(template_pod(seen.set))?;
    let mut by_node: BTreeMap<&str, Vec<&Arc<Pod>>> = BTreeMap::new();
    for pod in seen.pods {
        by_node.entry(target(pod).unwrap_or_default()).or_default().push(pod);
    }
    let mut kept: Vec<&Arc<Pod>> = Vec::new();
    for node in seen.nodes {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let Suits { start, stay } = suits(node, &sample);
        let mut pods = by_node.remove(name).unwrap_or_default();
        status.desired_number_scheduled += i32::from(start);
        let created = |pod: &Pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
        pods.sort_by_key(|pod| (!pod.is_ready(), created(pod)));
        // One that has ended is replaced.
        let ended = pods.iter().filter(|pod| pod.is_finished() && !pod.is_terminating());
        steps.delete.extend(ended.map(|pod| (*pod).clone()));
        let active: Vec<&Arc<Pod>> = pods.iter().copied().filter(|pod| pod.is_active()).collect();
        if !stay {
            steps.delete.extend(active.iter().map(|pod| (*pod).clone()));
            status.number_misscheduled += i32::from(!active.is_empty());
        } else if start && pods.is_empty() {
            steps.create.push(name.to_owned());
        } else if let Some((first, more)) = active.split_first() {
            steps.delete.extend(more.iter().map(|pod| (*pod).clone()));
            status.current_number_scheduled += i32::from(start);
            status.number_misscheduled += i32::from(!start);
            kept.push(first);
        }
    }
    // What is left is on nodes that do not exist: the pod garbage collector's.
    Ok(kept)
}

fn hash_of(pod: &Pod) -> Option<&str> {
    pod.metadata.labels.as_ref()?.get(HASH_LABEL).map(String::as_str)
}

/// Counts the pods that stay; returns when one of them becomes available although nothing happens.
fn count_kept(
    seen: &Observed<'_>,
    kept: &[&Arc<Pod>],
    now: Timestamp,
    status: &mut DaemonSetStatus,
) -> Option<Timestamp> {
    let mut wake_at = None;
    for pod in kept {
        status.number_ready += i32::from(pod.is_ready());
        status.updated_number_scheduled += i32::from(hash_of(pod) == Some(seen.hash));
        match pod.is_available(seen.set.spec.min_ready_seconds, now) {
            Ok(available) => status.number_available += i32::from(available),
            Err(at) => wake(&mut wake_at, at),
        }
    }
    status.number_unavailable = (status.desired_number_scheduled - status.number_available).max(0);
    wake_at
}

/// The pods of old templates that are replaced now, as far as maxUnavailable allows; those that are not available cost
/// nothing.
fn outdated(seen: &Observed<'_>, kept: &[&Arc<Pod>], now: Timestamp, status: &DaemonSetStatus) -> Vec<Arc<Pod>> {
    let strategy = &seen.set.spec.update_strategy;
    if strategy.type_ == "OnDelete" {
        return Vec::new();
    }
    let rolling = strategy.rolling_update.as_ref();
    let most = rolling.and_then(|rolling| rolling.max_unavailable.clone());
    let most = scaled(
        &most.unwrap_or(IntOrString::Int(1)),
        status.desired_number_scheduled,
        Round::Up,
    )
    .max(1);
    let mut room = most - status.number_unavailable;
    let mut outdated = Vec::new();
    for pod in kept.iter().filter(|pod| hash_of(pod) != Some(seen.hash)) {
        if pod.is_available(seen.set.spec.min_ready_seconds, now) != Ok(true) {
            outdated.push((*pod).clone());
        } else if room > 0 {
            room -= 1;
            outdated.push((*pod).clone());
        }
    }
    outdated
}

impl Workload for DaemonSet {
    type Steps = Steps;
    type Status = DaemonSetStatus;

    fn cache(caches: &Caches) -> &Arc<Cache<Self>> {
        &caches.daemon_sets
    }

    async fn watch(caches: &Caches, queue: &Arc<Queue>) {
        caches.revisions.ready().await;
        caches.nodes.ready().await;
        caches.pods.ready().await;
        follow_pods_of::<Self>(queue, &caches.pods);
        let (sets, weak) = (caches.daemon_sets.clone(), Arc::downgrade(queue));
        caches.nodes.subscribe(move |change| {
            let Some(queue) = weak.upgrade() else { return false };
            // A heartbeat moves no daemon.
            let same = |old: &Node, new: &Node| {
                old.spec.taints == new.spec.taints && old.metadata.labels == new.metadata.labels
            };
            if !change
                .old
                .as_ref()
                .zip(change.new.as_ref())
                .is_some_and(|(old, new)| same(old, new))
            {
                for set in sets.peek_all() {
                    queue.add(Key::of(&set.metadata), Urgency::Now);
                }
            }
            true
        });
    }

    async fn decide(look: &Look<'_, Self>) -> Decision<Self> {
        let set = &look.object;
        if set.metadata.deletion_timestamp.is_some() {
            return Ok(None);
        }
        let revisions = look.owned(&look.context.caches.revisions);
        let (revision, record) = record_of::<Self>(&set.metadata, &revisions, &set.spec.template);
        let mut nodes = look.at(&look.context.caches.nodes).all().to_vec();
        nodes.sort_by(|one, other| one.metadata.name.cmp(&other.metadata.name));
        let pods = look.owned(&look.context.caches.pods);
        let seen = Observed {
            set,
            nodes: &nodes,
            pods: &pods,
            hash: revision.rsplit_once('-').map_or("", |(_, hash)| hash),
        };
        let mut plan = plan(&seen, look.now)?;
        let hashes = pods.iter().filter_map(|pod| hash_of(pod));
        let mut used: BTreeSet<String> = hashes.map(|hash| format!("{}-{hash}", look.key.name)).collect();
        used.insert(revision);
        plan.steps.history = History::new(record, &revisions, &used, set.spec.revision_history_limit);
        Ok(Some(plan))
    }

    async fn act(turn: &mut Turn<'_, Self>, steps: &Steps) -> Result<(), Error> {
        turn.record_revision(&steps.history).await?;
        for node in &steps.create {
            turn.create_pod(pod(&turn.object, node, &steps.hash)).await?;
        }
        for pod in &steps.delete {
            turn.delete_pod(pod).await?;
        }
        Ok(())
    }

    fn status_patch(&self, status: &DaemonSetStatus) -> Value {
        status.patch()
    }

    async fn finish(turn: &Turn<'_, Self>, plan: &PlanOf<Self>, _: bool) -> Result<(), Error> {
        turn.trim_revisions(&plan.steps.history).await
    }
}

/// A daemon for one node: the scheduler binds it, by an affinity that only this node meets.
fn pod(set: &DaemonSet, node: &str, hash: &str) -> Value {
    let mut pod = template_pod(set);
    pod["metadata"]["generateName"] = json!(format!("{}-", set.metadata.name.as_deref().unwrap_or_default()));
    pod["metadata"]["labels"][HASH_LABEL] = json!(hash);
    daemon::pin(&mut pod["spec"], node);
    pod
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, taints: Value) -> Arc<Node> {
        Arc::new(serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"taints": taints}})).unwrap())
    }

    fn pod(node: &str, hash: &str) -> Arc<Pod> {
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": node, "uid": node, "labels": {HASH_LABEL: hash}}, "spec": {"nodeName": node},
                "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
            }))
            .unwrap(),
        )
    }

    #[test]
    fn one_pod_on_every_node_that_suits() {
        let set: DaemonSet = serde_json::from_value(json!({"metadata": {"name": "d", "namespace": "n", "uid": "u"},
            "spec": {"template": {"spec": {"containers": []}}}}))
        .unwrap();
        let nodes = [
            node("a", json!([])),
            node("b", json!([{"key": "mine", "effect": "NoSchedule"}])),
            node(
                "c",
                json!([{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}]),
            ),
            node("d", json!([{"key": "out", "effect": "NoExecute"}])),
        ];
        let pods = [pod("b", "x"), pod("d", "x")];
        let seen = Observed {
            set: &set,
            nodes: &nodes,
            pods: &pods,
            hash: "x",
        };
        let decided = plan(&seen, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(decided.steps.create, ["a", "c"]);
        assert_eq!(
            decided.steps.delete.iter().map(|pod| pod.name()).collect::<Vec<_>>(),
            ["d"]
        );
        let status = decided.status.unwrap();
        assert_eq!((status.desired_number_scheduled, status.number_misscheduled), (2, 2));
    }

    #[test]
    fn an_update_takes_one_at_a_time() {
        let set: DaemonSet = serde_json::from_value(json!({"metadata": {"name": "d"}})).unwrap();
        let nodes = [node("a", json!([])), node("b", json!([])), node("c", json!([]))];
        let pods = [pod("a", "old"), pod("b", "old"), pod("c", "new")];
        let decided = plan(
            &Observed {
                set: &set,
                nodes: &nodes,
                pods: &pods,
                hash: "new",
            },
            Timestamp::UNIX_EPOCH,
        )
        .unwrap();
        assert_eq!(decided.steps.delete.len(), 1);
        let seen = Observed {
            set: &set,
            nodes: &nodes,
            pods: &pods[1..],
            hash: "new",
        };
        assert!(plan(&seen, Timestamp::UNIX_EPOCH).unwrap().steps.delete.is_empty());
    }
}
