//! A pod's way out of service and back: its readiness gates, as patches of its status.

use afloat_api::names;
use jiff::{SignedDuration, Timestamp};

use crate::action::patch::{ConditionPatch, Edit, PodPatch};
use crate::action::{Action, Why};
use crate::pod::drain::Drain;
use crate::pod::lifecycle::{keyed, pod_ready};
use crate::pod::object::Pod;

/// First write: out of service. `observed`: until the nodes' proxies have let go, not for a time.
pub fn leave_service(pod: &Pod, revision: &str, observed: bool, now: Timestamp) -> Action {
    let drain = Drain::begin(pod, revision, observed, now);
    let mut conditions = vec![ConditionPatch {
        kind: names::INPLACE_READY,
        status: false,
        reason: Edit::Set(names::START_INPLACE_UPDATE.to_owned()),
        message: Edit::Set(drain.to_string()),
        since: now,
    }];
    conditions.extend(not_ready(pod, names::INPLACE_READY, now));
    status_patch(pod, conditions, Why::Drain)
}

/// The gates as they have to be, in one write: [`names::INPLACE_READY`] True if `in_place`, [`names::KRUISE_POD_READY`]
/// held by just these keys of ours. None: they are. `Ready` is left to the node's agent where a pod returns.
pub fn serve(pod: &Pod, in_place: bool, keys: &[&str], now: Timestamp) -> Option<Action> {
    let conditions = gates(pod, in_place, keys, now);
    let why = if in_place || keys.is_empty() {
        Why::Return
    } else {
        Why::Lifecycle
    };
    (!conditions.is_empty()).then(|| status_patch(pod, conditions, why))
}

/// The same together with another state of the pod's life, `life`. An API server takes labels and annotations of a pod
/// with its status (`podStatusStrategy` of Kubernetes: only spec and owners are kept from it), so it is one write, and
/// nobody sees the one without the other.
pub fn live(pod: &Pod, life: PodPatch, in_place: bool, keys: &[&str], now: Timestamp) -> Action {
    let conditions = gates(pod, in_place, keys, now);
    if conditions.is_empty() {
        return Action::PatchPod {
            at: pod.at(),
            patch: life,
            why: Why::Lifecycle,
        };
    }
    Action::PatchPodStatus {
        at: pod.at(),
        patch: PodPatch { conditions, ..life },
        why: if in_place { Why::Return } else { Why::Lifecycle },
    }
}

/// Takes a pod out of service by a writer's key in [`names::KRUISE_POD_READY`], or lets it return as far as that key goes. None:
/// it is so, or the pod has no such gate.
pub fn hold(pod: &Pod, writer: (&str, &str), hold: bool, now: Timestamp) -> Option<Action> {
    let condition = keyed(pod, writer, hold, now)?;
    let ready = hold.then(|| not_ready(pod, names::KRUISE_POD_READY, now)).flatten();
    let conditions = ready.into_iter().chain([condition]).collect();
    Some(status_patch(
        pod,
        conditions,
        if hold { Why::Drain } else { Why::Return },
    ))
}

/// So long a pod stays out of service that left for the shutdown of its node. The node's agent lets it return before, when the node is back
/// or does not go down after all; this is for nodes that have lost their agent.
pub const SHUTDOWN: SignedDuration = SignedDuration::from_mins(10);

/// Until when a pod stays out of service for the shutdown of its node. None: it did not leave for one.
pub fn out_for_shutdown(pod: &Pod) -> Option<Timestamp> {
    let gate = pod.condition(names::INPLACE_READY)?;
    let left = gate.status == "False" && gate.reason.as_deref() == Some(names::NODE_SHUTDOWN);
    let since = gate.last_transition_time.as_ref().filter(|_| left)?;
    since.0.checked_add(SHUTDOWN).ok()
}

fn gates(pod: &Pod, in_place: bool, keys: &[&str], now: Timestamp) -> Vec<ConditionPatch> {
    let mut conditions = Vec::new();
    if in_place {
        conditions.push(open_gate(pod, now));
    }
    if let Some(condition) = pod_ready(pod, keys, now) {
        if !condition.status {
            conditions.extend(not_ready(pod, names::KRUISE_POD_READY, now));
        }
        conditions.push(condition);
    }
    conditions
}

/// What stood beside False goes.
fn open_gate(pod: &Pod, now: Timestamp) -> ConditionPatch {
    let present = pod.condition(names::INPLACE_READY);
    let gone = |there: bool| if there { Edit::Remove } else { Edit::Keep };
    ConditionPatch {
        kind: names::INPLACE_READY,
        status: true,
        reason: gone(present.is_some_and(|present| present.reason.is_some())),
        message: gone(present.is_some_and(|present| present.message.is_some())),
        since: now,
    }
}

/// The node's agent would turn Ready False anyway; writing it here takes the pod out of its Services at once.
fn not_ready(pod: &Pod, gate: &str, now: Timestamp) -> Option<ConditionPatch> {
    let ready = pod.condition("Ready").is_some_and(|ready| ready.status == "True");
    ready.then(|| ConditionPatch {
        kind: "Ready",
        status: false,
        reason: Edit::Set(names::READINESS_GATES_NOT_READY.to_owned()),
        message: Edit::Set(format!("the readiness gate {gate:?} is False")),
        since: now,
    })
}

fn status_patch(pod: &Pod, conditions: Vec<ConditionPatch>, why: Why) -> Action {
    Action::PatchPodStatus {
        at: pod.at(),
        patch: PodPatch::conditions(conditions),
        why,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_message_carries_the_drain() {
        let now: Timestamp = "2026-01-01T00:00:00.25Z".parse().unwrap();
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "web-1", "uid": "u", "resourceVersion": "7"},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        }))
        .unwrap();
        let Action::PatchPodStatus { at, patch, .. } = leave_service(&pod, "web-new", true, now) else {
            panic!()
        };
        let patch = patch.json(&at);
        assert_eq!(patch["metadata"], json!({"uid": "u", "resourceVersion": "7"}));
        assert_eq!(patch["status"]["conditions"][1]["type"], "Ready");
        let mut drained = pod;
        drained.status.conditions = serde_json::from_value(patch["status"]["conditions"].clone()).unwrap();
        assert_eq!(
            Drain::of(&drained),
            Some(Drain {
                revision: "web-new".into(),
                since: now,
                ready_at: Some(7),
            })
        );
        let Some(Action::PatchPodStatus { at, patch, .. }) = serve(&drained, true, &[], now) else {
            panic!()
        };
        assert_eq!(
            patch.json(&at)["status"]["conditions"],
            json!([{"type": "InPlaceUpdateReady", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z",
                "reason": null, "message": null}])
        );
    }
}
