//! Nodes that say nothing any more: marked, tainted, and left by their pods after the time these tolerate.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::Error;
use crate::context::Context;
use crate::loops::answer::is_status;
use crate::loops::cache::{Written, revision_of};
use crate::loops::events::Tone;
use crate::objects::condition::conditions_json;
use crate::objects::time::{seconds, until, wake, whole_seconds};
use crate::objects::{Condition, Index, Key, Node, Pod, Taint, covers};

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const LEASES: &str = "kube-node-lease";
/// Taints that follow from conditions: condition, status, key.
const PRESSURES: [(&str, &str, &str); 4] = [
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
];
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// What a plan is made from.
pub(crate) struct Observed<'a> {
    pub(crate) node: &'a Node,
    /// Whether it gave no sign of life for the grace period.
    pub(crate) silent: bool,
    pub(crate) pods: &'a [Arc<Pod>],
    /// When a taint was first seen, for those that do not say when they were added.
    pub(crate) tainted_since: &'a dyn Fn(&Taint) -> Timestamp,
}

/// What to do next.
#[derive(Default)]
pub(crate) struct Plan {
    /// New conditions with status Unknown.
    pub(crate) unknown: Vec<Condition>,
    /// All taints, if they must change.
    pub(crate) taints: Option<Vec<Taint>>,
    /// Pods of a silent node: nobody else can say that they are not ready.
    pub(crate) not_ready: Vec<Arc<Pod>>,
    pub(crate) evict: Vec<Arc<Pod>>,
    pub(crate) wake_at: Option<Timestamp>,
}

/// Decides for one node.
pub(crate) fn plan(seen: &Observed<'_>, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let node = seen.node;
    let mut ready = node
        .status
        .conditions
        .iter()
        .find(|condition| condition.type_ == "Ready")
        .map(|ready| ready.status.as_str());
    if seen.silent {
        plan.unknown = unknown(node, now);
        ready = Some("Unknown");
        plan.not_ready = seen
            .pods
            .iter()
            .filter(|pod| pod.is_ready() && !pod.is_finished())
            .cloned()
            .collect();
    }
    let taints = taints(node, ready, now);
    let evicting = if taints == node.spec.taints {
        &node.spec.taints
    } else {
        &taints
    };
    for pod in seen.pods.iter().filter(|pod| !pod.is_terminating()) {
        match leaves_at(pod, evicting, seen.tainted_since) {
            Some(at) if at <= now => plan.evict.push(pod.clone()),
            Some(at) => wake(&mut plan.wake_at, at),
            None => {}
        }
    }
    plan.taints = (taints != node.spec.taints).then_some(taints);
    plan
}

/// The conditions of a silent node that must become Unknown.
fn unknown(node: &Node, now: Timestamp) -> Vec<Condition> {
    let known = &node.status.conditions;
    let make = |type_: &str, reason: &str, message: &str| Condition {
        type_: type_.to_owned(),
        status: "Unknown".to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        last_transition_time: Some(whole_seconds(now)),
        ..Condition::default()
    };
    let mut changed: Vec<Condition> = known
        .iter()
        .filter(|condition| condition.status != "Unknown" && condition.type_ != "NetworkUnavailable")
        .map(|condition| {
            make(
                &condition.type_,
                "NodeStatusUnknown",
                "Kubelet stopped posting node status.",
            )
        })
        .collect();
    if !known.iter().any(|condition| condition.type_ == "Ready") {
        changed.push(make(
            "Ready",
            "NodeStatusNeverUpdated",
            "Kubelet never posted node status.",
        ));
    }
    changed
}

/// The taints it should have: those of others, and ours by its conditions.
fn taints(node: &Node, ready: Option<&str>, now: Timestamp) -> Vec<Taint> {
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    match ready {
        Some("False") => wanted.extend([(NOT_READY, "NoSchedule"), (NOT_READY, "NoExecute")]),
        Some("Unknown") => wanted.extend([(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")]),
        _ => {}
    }
    for (condition, status, key) in PRESSURES {
        if node
            .status
            .conditions
            .iter()
            .any(|found| found.type_ == condition && found.status == status)
        {
            wanted.push((key, "NoSchedule"));
        }
    }
    if node.spec.unschedulable {
        wanted.push((UNSCHEDULABLE, "NoSchedule"));
    }
    let ours = |key: &str| {
        [NOT_READY, UNREACHABLE, UNSCHEDULABLE].contains(&key) || PRESSURES.iter().any(|(_, _, ours)| *ours == key)
    };
    let keep = |taint: &&Taint| !ours(&taint.key) || wanted.contains(&(taint.key.as_str(), taint.effect.as_str()));
    let mut taints: Vec<Taint> = node.spec.taints.iter().filter(keep).cloned().collect();
    for (key, effect) in wanted {
        if !taints.iter().any(|taint| taint.key == key && taint.effect == effect) {
            taints.push(Taint {
                key: key.to_owned(),
                value: String::new(),
                effect: effect.to_owned(),
                time_added: Some(whole_seconds(now)),
            });
        }
    }
    taints
}

/// When the pod has to leave a node with these taints: the earliest of what its tolerations allow; never if none asks.
fn leaves_at(pod: &Pod, taints: &[Taint], since: &dyn Fn(&Taint) -> Timestamp) -> Option<Timestamp> {
    let mut leaves: Option<Timestamp> = None;
    for taint in taints.iter().filter(|taint| taint.effect == "NoExecute") {
        let from = taint.time_added.as_ref().map_or_else(|| since(taint), |time| time.0);
        let covering: Vec<_> = pod
            .spec
            .tolerations
            .iter()
            .filter(|toleration| covers(toleration, taint))
            .collect();
        let at = if covering.is_empty() {
            Some(from)
        } else {
            let least = covering
                .iter()
                .filter_map(|toleration| toleration.toleration_seconds)
                .min();
            least.map(|least| {
                from.checked_add(SignedDuration::from_secs(least.max(0)))
                    .unwrap_or(Timestamp::MAX)
            })
        };
        leaves = [leaves, at].into_iter().flatten().min();
    }
    leaves
}

/// The last sign of life of a node, by our own clock: clocks of nodes are not compared with ours.
struct Sign {
    lease: Option<String>,
    heartbeat: Option<Timestamp>,
    at: Instant,
}

#[derive(Default)]
struct Memory {
    signs: HashMap<String, Sign>,
    taints: HashMap<(String, String, String), Timestamp>,
}

impl Memory {
    /// Time since the node's Lease or status last changed.
    fn silence(&mut self, node: &str, lease: Option<String>, heartbeat: Option<Timestamp>) -> Duration {
        let now = Instant::now();
        let sign = self.signs.entry(node.to_owned()).or_insert_with(|| Sign {
            lease: None,
            heartbeat: None,
            at: now,
        });
        if sign.lease != lease || sign.heartbeat != heartbeat {
            *sign = Sign {
                lease,
                heartbeat,
                at: now,
            };
        }
        now.duration_since(sign.at)
    }
}

/// Runs the loop until shutdown.
pub(crate) async fn run(context: Context) -> Result<(), Error> {
    let queue = crate::loops::queue::Queue::new();
    let caches = &context.caches;
    caches.nodes.ready().await;
    caches.leases.ready().await;
    caches.pods.ready().await;
    queue.follow(&caches.nodes, |node| Some(Key::of(&node.metadata)));
    let nodes = caches.nodes.clone();
    queue.follow(&caches.pods, move |pod| {
        // Pods matter only where they may have to leave.
        let key = Key::new("", pod.node()?);
        nodes
            .get(&key)
            .filter(|node| node.spec.taints.iter().any(|taint| taint.effect == "NoExecute"))
            .map(|_| key)
    });
    let memory = Mutex::new(Memory::default());
    queue
        .run(context.shell.name, 8, &context.shutdown, |key| {
            sync(&context, &memory, key)
        })
        .await;
    Ok(())
}

async fn sync(context: &Context, memory: &Mutex<Memory>, key: Key) -> Result<Option<Duration>, Error> {
    let (shell, caches) = (&context.shell, &context.caches);
    shell.settle(&key).await?;
    let Some(node) = caches.nodes.get(&key) else {
        let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.signs.remove(&key.name);
        memory.taints.retain(|(name, _, _), _| *name != key.name);
        return Ok(None);
    };
    let lease = caches
        .leases
        .get(&Key::new(LEASES, &key.name))
        .and_then(|lease| lease.spec.renew_time.clone());
    let ready = node
        .status
        .conditions
        .iter()
        .find(|condition| condition.type_ == "Ready");
    let heartbeat = ready
        .and_then(|ready| ready.last_heartbeat_time.as_ref())
        .map(|time| time.0);
    let now = Timestamp::now();
    let pods = caches.pods.by_index(&Index::Node(key.name.clone()));
    let decided = {
        let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
        let silent = memory.silence(&key.name, lease, heartbeat) > context.options.node_monitor_grace;
        for taint in &node.spec.taints {
            let entry = (key.name.clone(), taint.key.clone(), taint.effect.clone());
            memory.taints.entry(entry).or_insert(now);
        }
        let known = |taint: &Taint| {
            node.spec
                .taints
                .iter()
                .any(|one| one.key == taint.key && one.effect == taint.effect)
        };
        memory.taints.retain(|(name, taint, effect), _| {
            *name != key.name
                || known(&Taint {
                    key: taint.clone(),
                    effect: effect.clone(),
                    ..Taint::default()
                })
        });
        let since = |taint: &Taint| {
            memory
                .taints
                .get(&(key.name.clone(), taint.key.clone(), taint.effect.clone()))
                .copied()
                .unwrap_or(now)
        };
        plan(
            &Observed {
                node: &node,
                silent,
                pods: &pods,
                tainted_since: &since,
            },
            now,
        )
    };
    act(context, &key, &node, &decided, now).await?;
    let period = context.options.node_monitor_period;
    Ok(Some(decided.wake_at.map_or(period, |at| until(at, now).min(period))))
}

async fn act(context: &Context, key: &Key, node: &Node, plan: &Plan, now: Timestamp) -> Result<(), Error> {
    let (shell, caches) = (&context.shell, &context.caches);
    let mut meta = node.metadata.clone();
    if !plan.unknown.is_empty() {
        let conditions = conditions_json(&plan.unknown);
        let patch = json!({"status": {"conditions": conditions}});
        meta = shell
            .patch_strategic(key, &caches.nodes, &meta, Some("status"), patch)
            .await?;
        let message = format!("Node {} status is now: NodeNotReady", key.name);
        shell.event::<Node>(&meta, Tone::Normal, "NodeNotReady", message);
    }
    if let Some(taints) = &plan.taints {
        shell
            .patch(
                key,
                &caches.nodes,
                &meta,
                None,
                json!({"spec": {"taints": taints_json(taints)}}),
            )
            .await?;
    }
    for pod in &plan.not_ready {
        let patch = json!({
            "metadata": {"uid": pod.uid()},
            "status": {"conditions": [{"type": "Ready", "status": "False", "reason": "NodeNotReady",
                "lastTransitionTime": seconds(now)}]},
        });
        let api = shell.api::<Pod>(pod.metadata.namespace.as_deref().unwrap_or_default());
        match api
            .patch_status(pod.name(), &PatchParams::default(), &Patch::Strategic(patch))
            .await
        {
            Ok(patched) => shell.expect(key, &caches.pods, Written::Revision(revision_of(&patched.metadata))),
            Err(error) if is_status(&error, 404) || is_status(&error, 409) => {}
            Err(error) => return Err(error.into()),
        }
    }
    for pod in &plan.evict {
        let message = format!(
            "Marking for deletion Pod {}/{}",
            pod.metadata.namespace.as_deref().unwrap_or_default(),
            pod.name()
        );
        shell.event::<Pod>(&pod.metadata, Tone::Normal, "TaintManagerEviction", message);
        match shell.delete(key, &caches.pods, &pod.metadata, None).await {
            Err(error) if !error.is_conflict() => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn taints_json(taints: &[Taint]) -> Value {
    let one = |taint: &Taint| {
        let mut entry = json!({"key": taint.key, "effect": taint.effect});
        if !taint.value.is_empty() {
            entry["value"] = json!(taint.value);
        }
        if let Some(added) = &taint.time_added {
            entry["timeAdded"] = json!(seconds(added.0));
        }
        entry
    };
    if taints.is_empty() {
        Value::Null
    } else {
        taints.iter().map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(ready: &str) -> Node {
        serde_json::from_value(json!({
            "metadata": {"name": "a"},
            "spec": {"taints": [{"key": "theirs", "effect": "NoSchedule"}]},
            "status": {"conditions": [{"type": "Ready", "status": ready}]},
        }))
        .unwrap()
    }

    fn pod(tolerations: Value) -> Arc<Pod> {
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": "p", "uid": "p"}, "spec": {"nodeName": "a", "tolerations": tolerations},
                "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
            }))
            .unwrap(),
        )
    }

    fn decide(node: &Node, silent: bool, pods: &[Arc<Pod>], now: i64) -> Plan {
        let seen = Observed {
            node,
            silent,
            pods,
            tainted_since: &|_| Timestamp::UNIX_EPOCH,
        };
        plan(&seen, Timestamp::from_second(now).unwrap())
    }

    #[test]
    fn a_healthy_node_needs_nothing() {
        let decided = decide(&node("True"), false, &[pod(json!([]))], 100);
        assert!(
            decided.unknown.is_empty()
                && decided.taints.is_none()
                && decided.evict.is_empty()
                && decided.wake_at.is_none()
        );
    }

    #[test]
    fn a_silent_node_is_marked_and_its_pods_leave_when_they_must() {
        let patient =
            json!([{"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}]);
        let loyal = json!([{"operator": "Exists"}]);
        let pods = [pod(json!([])), pod(patient), pod(loyal)];
        let mut node = node("True");
        let decided = decide(&node, true, &pods, 1000);
        assert_eq!(decided.unknown.len(), 1);
        assert_eq!(decided.not_ready.len(), 3);
        let taints = decided.taints.unwrap();
        assert_eq!(taints.iter().filter(|taint| taint.key == UNREACHABLE).count(), 2);
        assert!(taints.iter().any(|taint| taint.key == "theirs"));
        assert_eq!(decided.evict.len(), 1);
        assert_eq!(decided.wake_at, Some(Timestamp::from_second(1300).unwrap()));
        node.spec.taints = taints;
        node.status.conditions = decided.unknown;
        assert_eq!(decide(&node, true, &pods[1..], 1300).evict.len(), 1);
        // It is back.
        node.status.conditions[0].status = "True".into();
        let back = decide(&node, false, &pods[1..], 1301);
        assert_eq!(back.taints.unwrap().len(), 1);
        assert!(back.evict.is_empty());
    }

    #[test]
    fn cordoned_nodes_are_tainted() {
        let mut node = node("True");
        node.spec.unschedulable = true;
        let decided = decide(&node, false, &[], 1);
        assert!(decided.taints.unwrap().iter().any(|taint| taint.key == UNSCHEDULABLE));
    }
}
