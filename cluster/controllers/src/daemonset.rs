//! DaemonSets: one pod on every node that suits.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Error;
use crate::history::{self, HASH_LABEL};
use crate::objects::{Index, Key, Kind, Node, Pod, RollingUpdate, Round, partial_kind, scaled};
use crate::pod_control;
use crate::replicaset::{controlled_by, pod_from_template, unless_zero, until};
use crate::run::Context;
use crate::scheduler::suits;

/// A daemon stays through what drives other pods away: key, effect.
const TOLERATED: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];

/// A DaemonSet.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct DaemonSet {
    pub(crate) metadata: ObjectMeta,
    pub(crate) spec: Spec,
    pub(crate) status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Spec {
    min_ready_seconds: i32,
    revision_history_limit: Option<i32>,
    update_strategy: Strategy,
    template: Value,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Strategy {
    #[serde(rename = "type")]
    type_: String,
    rolling_update: Option<RollingUpdate>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Status {
    current_number_scheduled: i32,
    desired_number_scheduled: i32,
    number_misscheduled: i32,
    number_ready: i32,
    number_available: i32,
    number_unavailable: i32,
    updated_number_scheduled: i32,
    observed_generation: i64,
}

partial_kind!(DaemonSet, "apps", "DaemonSet", "daemonsets", NamespaceResourceScope);
impl Kind for DaemonSet {}

/// What a plan is made from.
pub(crate) struct Observed<'a> {
    pub(crate) set: &'a DaemonSet,
    pub(crate) nodes: &'a [Arc<Node>],
    pub(crate) pods: &'a [Arc<Pod>],
    /// Hash of the present template.
    pub(crate) hash: &'a str,
}

/// What to do next.
#[derive(Default)]
pub(crate) struct Plan {
    /// Names of nodes that get a pod.
    pub(crate) create: Vec<String>,
    pub(crate) delete: Vec<Arc<Pod>>,
    pub(crate) status: Status,
    pub(crate) wake_at: Option<Timestamp>,
}

/// The node that a daemon is for: where it is, or where its affinity wants it.
fn target(pod: &Pod) -> Option<&str> {
    let affinity = pod
        .spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    let terms = required.into_iter().flat_map(|required| &required.node_selector_terms);
    let mut fields = terms.filter_map(|term| term.match_fields.as_ref()).flatten();
    let wanted = fields
        .find(|field| field.key == "metadata.name")
        .and_then(|field| field.values.as_ref()?.first());
    pod.node().or(wanted.map(String::as_str))
}

/// The pod of the template with the tolerations that every daemon has.
fn template_pod(set: &DaemonSet) -> Value {
    let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
    let mut pod = pod_from_template(&set.spec.template, namespace, controlled_by::<DaemonSet>(&set.metadata));
    let mut tolerations = pod["spec"]["tolerations"].as_array().cloned().unwrap_or_default();
    let network =
        (pod["spec"]["hostNetwork"] == true).then_some(("node.kubernetes.io/network-unavailable", "NoSchedule"));
    for (key, effect) in TOLERATED.into_iter().chain(network) {
        tolerations.push(json!({"key": key, "operator": "Exists", "effect": effect}));
    }
    pod["spec"]["tolerations"] = json!(tolerations);
    pod
}

/// Decides.
///
/// # Errors
/// If the template is not one of a pod.
pub(crate) fn plan(seen: &Observed<'_>, now: Timestamp) -> Result<Plan, Error> {
    let set = seen.set;
    let sample: Pod = serde_json::from_value(template_pod(set))?;
    let mut by_node: BTreeMap<&str, Vec<&Arc<Pod>>> = BTreeMap::new();
    for pod in seen.pods {
        by_node.entry(target(pod).unwrap_or_default()).or_default().push(pod);
    }
    let mut plan = Plan::default();
    let mut kept: Vec<&Arc<Pod>> = Vec::new();
    for node in seen.nodes {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let (start, stay) = suits(node, &sample);
        let mut pods = by_node.remove(name).unwrap_or_default();
        plan.status.desired_number_scheduled += i32::from(start);
        pods.sort_by_key(|pod| {
            (
                !pod.is_ready(),
                pod.metadata.creation_timestamp.as_ref().map(|time| time.0),
            )
        });
        let active: Vec<&Arc<Pod>> = pods.iter().copied().filter(|pod| pod.is_active()).collect();
        // One that has ended is replaced.
        plan.delete.extend(
            pods.iter()
                .filter(|pod| pod.is_finished() && !pod.is_terminating())
                .map(|pod| (*pod).clone()),
        );
        if !stay {
            plan.delete.extend(active.iter().map(|pod| (*pod).clone()));
            plan.status.number_misscheduled += i32::from(!active.is_empty());
        } else if start && pods.is_empty() {
            plan.create.push(name.to_owned());
        } else if let Some((first, more)) = active.split_first() {
            plan.delete.extend(more.iter().map(|pod| (*pod).clone()));
            plan.status.current_number_scheduled += i32::from(start);
            plan.status.number_misscheduled += i32::from(!start);
            kept.push(first);
        }
    }
    // What is left is on nodes that do not exist: the pod garbage collector's.
    count_kept(seen, &kept, now, &mut plan);
    roll(seen, &kept, now, &mut plan);
    if set.metadata.deletion_timestamp.is_some() {
        plan.create.clear();
        plan.delete.clear();
    }
    Ok(plan)
}

fn is_updated(pod: &Pod, hash: &str) -> bool {
    pod.metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(HASH_LABEL))
        .is_some_and(|label| label == hash)
}

fn count_kept(seen: &Observed<'_>, kept: &[&Arc<Pod>], now: Timestamp, plan: &mut Plan) {
    let status = &mut plan.status;
    for pod in kept {
        status.number_ready += i32::from(pod.is_ready());
        status.updated_number_scheduled += i32::from(is_updated(pod, seen.hash));
        match pod.is_available(seen.set.spec.min_ready_seconds, now) {
            Ok(available) => status.number_available += i32::from(available),
            Err(at) => plan.wake_at = Some(plan.wake_at.map_or(at, |earlier| earlier.min(at))),
        }
    }
    status.number_unavailable = (status.desired_number_scheduled - status.number_available).max(0);
    status.observed_generation = seen.set.metadata.generation.unwrap_or(0);
}

/// Replaces old pods as far as maxUnavailable allows; those that are not available cost nothing.
fn roll(seen: &Observed<'_>, kept: &[&Arc<Pod>], now: Timestamp, plan: &mut Plan) {
    let strategy = &seen.set.spec.update_strategy;
    if strategy.type_ == "OnDelete" {
        return;
    }
    let most = strategy
        .rolling_update
        .as_ref()
        .and_then(|rolling| rolling.max_unavailable.clone());
    let desired = plan.status.desired_number_scheduled;
    let most = scaled(&most.unwrap_or(IntOrString::Int(1)), desired, Round::Up).max(1);
    let mut room = most - plan.status.number_unavailable;
    for pod in kept.iter().filter(|pod| !is_updated(pod, seen.hash)) {
        if pod.is_available(seen.set.spec.min_ready_seconds, now) != Ok(true) {
            plan.delete.push((*pod).clone());
        } else if room > 0 {
            room -= 1;
            plan.delete.push((*pod).clone());
        }
    }
}

/// Runs the loop until shutdown.
pub(crate) async fn run(context: Context) -> Result<(), Error> {
    let queue = crate::queue::Queue::new();
    let caches = &context.caches;
    caches.daemon_sets.ready().await;
    caches.revisions.ready().await;
    caches.nodes.ready().await;
    caches.pods.ready().await;
    queue.follow(&caches.daemon_sets, |set| Some(Key::of(&set.metadata)));
    queue.follow_pods_of(&caches.pods, "DaemonSet");
    let (sets, weak) = (caches.daemon_sets.clone(), Arc::downgrade(&queue));
    caches.nodes.subscribe(move |change| {
        let Some(queue) = weak.upgrade() else { return false };
        // A heartbeat moves no daemon.
        let same =
            |old: &Node, new: &Node| old.spec.taints == new.spec.taints && old.metadata.labels == new.metadata.labels;
        if !change.old.zip(change.new).is_some_and(|(old, new)| same(old, new)) {
            for set in sets.all() {
                queue.add(Key::of(&set.metadata));
            }
        }
        true
    });
    queue
        .run(context.shell.name, 8, &context.shutdown, |key| sync(&context, key))
        .await;
    Ok(())
}

async fn sync(context: &Context, key: Key) -> Result<Option<Duration>, Error> {
    let (shell, caches) = (&context.shell, &context.caches);
    shell.settle(&key).await?;
    let Some(set) = caches.daemon_sets.get(&key) else {
        return Ok(None);
    };
    if set.metadata.deletion_timestamp.is_some() {
        return Ok(None);
    }
    let name = history::record::<DaemonSet>(context, &key, &set.metadata, &set.spec.template).await?;
    let hash = name.rsplit_once('-').map_or("", |(_, hash)| hash).to_owned();
    let pods = caches
        .pods
        .by_index(&Index::Owner(set.metadata.uid.clone().unwrap_or_default()));
    let mut nodes = caches.nodes.all();
    nodes.sort_by(|one, other| one.metadata.name.cmp(&other.metadata.name));
    let now = Timestamp::now();
    let decided = plan(
        &Observed {
            set: &set,
            nodes: &nodes,
            pods: &pods,
            hash: &hash,
        },
        now,
    )?;
    for node in &decided.create {
        pod_control::create::<DaemonSet>(shell, &caches.pods, &set.metadata, pod(&set, node, &hash)).await?;
    }
    for pod in &decided.delete {
        pod_control::delete::<DaemonSet>(shell, &caches.pods, &set.metadata, pod).await?;
    }
    if decided.status != set.status {
        shell
            .patch(
                &key,
                &caches.daemon_sets,
                &set.metadata,
                Some("status"),
                status_patch(&decided.status),
            )
            .await?;
    }
    let label = |pod: &Arc<Pod>| {
        pod.metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get(HASH_LABEL))
            .cloned()
    };
    let mut used: BTreeSet<String> = pods
        .iter()
        .filter_map(label)
        .map(|hash| format!("{}-{hash}", key.name))
        .collect();
    used.insert(name);
    history::trim(context, &key, &set.metadata, &used, set.spec.revision_history_limit).await?;
    Ok(decided.wake_at.map(|at| until(at, now)))
}

/// A daemon for one node: the scheduler binds it, by an affinity that only this node meets.
fn pod(set: &DaemonSet, node: &str, hash: &str) -> Value {
    let mut pod = template_pod(set);
    pod["metadata"]["generateName"] = json!(format!("{}-", set.metadata.name.as_deref().unwrap_or_default()));
    pod["metadata"]["labels"][HASH_LABEL] = json!(hash);
    let only = json!([{"key": "metadata.name", "operator": "In", "values": [node]}]);
    let required = &mut pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    match required["nodeSelectorTerms"].as_array_mut() {
        Some(terms) => {
            for term in terms {
                term["matchFields"] = only.clone();
            }
        }
        None => *required = json!({"nodeSelectorTerms": [{"matchFields": only}]}),
    }
    pod
}

fn status_patch(status: &Status) -> Value {
    json!({"status": {
        "currentNumberScheduled": status.current_number_scheduled,
        "desiredNumberScheduled": status.desired_number_scheduled,
        "numberMisscheduled": status.number_misscheduled,
        "numberReady": status.number_ready,
        "numberAvailable": unless_zero(status.number_available),
        "numberUnavailable": unless_zero(status.number_unavailable),
        "updatedNumberScheduled": unless_zero(status.updated_number_scheduled),
        "observedGeneration": status.observed_generation,
    }})
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
        assert_eq!(decided.create, ["a", "c"]);
        assert_eq!(decided.delete.iter().map(|pod| pod.name()).collect::<Vec<_>>(), ["d"]);
        assert_eq!(
            (
                decided.status.desired_number_scheduled,
                decided.status.number_misscheduled
            ),
            (2, 2)
        );
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
        assert_eq!(decided.delete.len(), 1);
        let seen = Observed {
            set: &set,
            nodes: &nodes,
            pods: &pods[1..],
            hash: "new",
        };
        assert!(plan(&seen, Timestamp::UNIX_EPOCH).unwrap().delete.is_empty());
    }
}
