//! What to do about one node. Pure.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::objects::time::{wake, whole_seconds};
use crate::objects::{Condition, Node, Pod, Taint, covers};

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// Taints that follow from conditions: condition, status, key.
const PRESSURES: [(&str, &str, &str); 4] = [
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
];
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// What a plan is made from.
pub(super) struct Observed<'a> {
    pub(super) node: &'a Node,
    /// Whether it gave no sign of life for the grace period.
    pub(super) silent: bool,
    pub(super) pods: &'a [Arc<Pod>],
    /// When a taint was first seen, for those that do not say when they were added.
    pub(super) tainted_since: &'a dyn Fn(&Taint) -> Timestamp,
}

/// What to do next.
#[derive(Default)]
pub(super) struct Plan {
    /// New conditions with status Unknown.
    pub(super) unknown: Vec<Condition>,
    /// All taints, if they must change.
    pub(super) taints: Option<Vec<Taint>>,
    /// Pods of a silent node: nobody else can say that they are not ready.
    pub(super) not_ready: Vec<Arc<Pod>>,
    pub(super) evict: Vec<Arc<Pod>>,
    pub(super) wake_at: Option<Timestamp>,
}

/// Decides for one node.
pub(super) fn plan(seen: &Observed<'_>, now: Timestamp) -> Plan {
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

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
