//! Which pods leave for a shutdown of their node, and return; and when proxies have let go of them. Pure.

use std::collections::BTreeSet;

use afloat_api::{NodeTraffic, names};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use serde_json::{Value, json};

/// The patch of a pod's status that takes it out of its Services. None: it has no gate of ours, is out already, or ends anyway.
pub(super) fn leave(pod: &Pod, now: Timestamp) -> Option<Value> {
    let gates = pod.spec.as_ref()?.readiness_gates.as_deref().unwrap_or_default();
    let gated = gates.iter().any(|gate| gate.condition_type == names::INPLACE_READY);
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let ends = pod.metadata.deletion_timestamp.is_some() || matches!(phase, Some("Succeeded" | "Failed"));
    let out = condition(pod, names::INPLACE_READY).is_some_and(|gate| gate.status == "False");
    if !gated || ends || out {
        return None;
    }
    let since = seconds(now);
    let mut conditions = vec![json!({
        "type": names::INPLACE_READY, "status": "False", "reason": names::NODE_SHUTDOWN,
        "message": "its node goes down", "lastTransitionTime": since,
    })];
    // The kubelet would say so anyway; written here it is so at once.
    if condition(pod, "Ready").is_some_and(|ready| ready.status == "True") {
        conditions.push(json!({
            "type": "Ready", "status": "False", "reason": names::READINESS_GATES_NOT_READY,
            "message": format!("the readiness gate {:?} is False", names::INPLACE_READY), "lastTransitionTime": since,
        }));
    }
    Some(patch(pod, &json!(conditions)))
}

/// The patch that lets a pod return which left for a shutdown. None: it did not.
pub(super) fn back(pod: &Pod, now: Timestamp) -> Option<Value> {
    let gate = condition(pod, names::INPLACE_READY)?;
    let ours = gate.status == "False" && gate.reason.as_deref() == Some(names::NODE_SHUTDOWN);
    ours.then(|| {
        let open = json!([{
            "type": names::INPLACE_READY, "status": "True", "reason": null, "message": null,
            "lastTransitionTime": seconds(now),
        }]);
        patch(pod, &open)
    })
}

fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_deref().unwrap_or_default();
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// On what it was decided on, and nothing newer.
fn patch(pod: &Pod, conditions: &Value) -> Value {
    let at = &pod.metadata;
    json!({"metadata": {"uid": at.uid, "resourceVersion": at.resource_version}, "status": {"conditions": conditions}})
}

/// As Kubernetes writes times.
fn seconds(now: Timestamp) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Whether all nodes that can see their proxy say that they send nothing new to any of these pods. False where none can.
pub(super) fn let_go(reports: &[NodeTraffic], left: &BTreeSet<String>) -> bool {
    let mut seeing = reports
        .iter()
        .map(|report| &report.status)
        .filter(|status| status.synced)
        .peekable();
    let gone = |uid: &String, pods: &std::collections::BTreeMap<String, afloat_api::PodTraffic>| {
        // A pod that takes new connections, and nothing has happened to, is not told of.
        pods.get(uid).is_some_and(|pod| !pod.ready && !pod.routed)
    };
    seeing.peek().is_some() && seeing.all(|status| left.iter().all(|uid| gone(uid, &status.pods)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(gates: &[&str], status: Value) -> Pod {
        let gates: Vec<_> = gates.iter().map(|gate| json!({"conditionType": gate})).collect();
        serde_json::from_value(json!({
            "metadata": {"name": "web-0", "uid": "u", "resourceVersion": "7"},
            "spec": {"containers": [], "readinessGates": gates},
            "status": status,
        }))
        .unwrap()
    }

    fn now() -> Timestamp {
        "2026-01-01T00:00:00.75Z".parse().unwrap()
    }

    #[test]
    fn pods_with_our_gate_leave_and_return() {
        let gates = [names::INPLACE_READY];
        let serving = json!({"phase": "Running", "conditions": [
            {"type": names::INPLACE_READY, "status": "True"}, {"type": "Ready", "status": "True"}]});
        let left = leave(&pod(&gates, serving.clone()), now()).unwrap();
        assert_eq!(left["metadata"], json!({"uid": "u", "resourceVersion": "7"}));
        let conditions = &left["status"]["conditions"];
        assert_eq!(conditions[0]["reason"], names::NODE_SHUTDOWN);
        assert_eq!(conditions[1]["type"], "Ready");
        assert_eq!(conditions[0]["lastTransitionTime"], "2026-01-01T00:00:00Z");
        let out = pod(&gates, json!({"phase": "Running", "conditions": conditions}));
        assert_eq!(leave(&out, now()), None, "once is enough");
        let returned = back(&out, now()).unwrap();
        assert_eq!(returned["status"]["conditions"][0]["status"], "True");
        assert_eq!(returned["status"]["conditions"][0]["reason"], Value::Null);
        assert_eq!(back(&pod(&gates, serving.clone()), now()), None);

        let updated = json!({"conditions": [
            {"type": names::INPLACE_READY, "status": "False", "reason": names::START_INPLACE_UPDATE}]});
        assert_eq!(leave(&pod(&gates, updated.clone()), now()), None, "the operator's");
        assert_eq!(back(&pod(&gates, updated), now()), None, "the operator's");
        assert_eq!(leave(&pod(&[], serving), now()), None, "no gate");
        assert_eq!(leave(&pod(&gates, json!({"phase": "Failed"})), now()), None);
        let unready = leave(&pod(&gates, json!({"phase": "Running"})), now()).unwrap();
        assert_eq!(
            unready["status"]["conditions"].as_array().map(Vec::len),
            Some(1),
            "the gate alone"
        );
    }

    #[test]
    fn all_who_see_must_have_let_go() {
        let left = BTreeSet::from(["u".to_owned()]);
        let report = |synced: bool, pods: Value| -> NodeTraffic {
            serde_json::from_value(json!({"metadata": {"name": "n"}, "status": {"synced": synced, "pods": pods}}))
                .unwrap()
        };
        let gone = || report(true, json!({"u": {"ready": false, "routed": false}}));
        assert!(!let_go(&[], &left), "nobody tells");
        assert!(!let_go(&[report(false, json!({}))], &left), "nobody sees");
        assert!(let_go(&[gone(), report(false, json!({}))], &left));
        assert!(
            !let_go(&[gone(), report(true, json!({}))], &left),
            "it serves there and is not told of"
        );
        assert!(!let_go(
            &[gone(), report(true, json!({"u": {"ready": false, "routed": true}}))],
            &left
        ));
    }
}
