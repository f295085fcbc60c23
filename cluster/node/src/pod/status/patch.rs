//! The status write: only the agent's own fields and conditions, only what differs, as a strategic merge patch (which
//! merges conditions by type, so a condition that somebody else sets at the same moment stays). Pure.

use k8s_openapi::api::core::v1::{Pod, PodCondition, PodStatus};
use serde_json::{Map, Value, json};

use crate::pod::{progress, resize, spec};

const OWN_FIELDS: [&str; 12] = [
    "observedGeneration",
    "phase",
    "reason",
    "message",
    "hostIP",
    "hostIPs",
    "podIP",
    "qosClass",
    "startTime",
    "containerStatuses",
    "initContainerStatuses",
    "ephemeralContainerStatuses",
];

/// A patch that makes the object's status say `wanted`; None: it does.
pub(crate) fn status_patch(pod: &Pod, wanted: &PodStatus) -> Option<Value> {
    let mut patch = Map::new();
    let (Value::Object(old), Value::Object(new)) = (object(pod.status.as_ref()), object(Some(wanted))) else {
        return None;
    };
    for field in OWN_FIELDS {
        let (before, after) = (old.get(field), new.get(field));
        if before != after {
            patch.insert(field.to_owned(), after.cloned().unwrap_or(Value::Null));
        }
    }
    if old.get("podIPs") != new.get("podIPs")
        && let Some(Value::Array(ips)) = new.get("podIPs")
    {
        // Merged by address by default: without the directive an old address would stay.
        let directive = old.contains_key("podIPs").then(|| json!({"$patch": "replace"}));
        patch.insert(
            "podIPs".to_owned(),
            directive.into_iter().chain(ips.iter().cloned()).collect(),
        );
    }
    let mut conditions: Vec<Value> = wanted
        .conditions
        .iter()
        .flatten()
        .filter_map(|c| condition_patch(pod, c))
        .collect();
    conditions.extend(over(pod, wanted));
    if !conditions.is_empty() {
        patch.insert("conditions".to_owned(), conditions.into());
    }
    // The uid makes it fail on another pod of the same name. No resourceVersion: nobody else writes these fields.
    (!patch.is_empty()).then(|| json!({"metadata": {"uid": spec::uid(pod)}, "status": patch}))
}

fn object(status: Option<&PodStatus>) -> Value {
    status
        .and_then(|status| serde_json::to_value(status).ok())
        .unwrap_or_else(|| json!({}))
}

fn condition_patch(pod: &Pod, wanted: &PodCondition) -> Option<Value> {
    let old = progress::condition(pod, &wanted.type_);
    let same = |c: &PodCondition| c.status == wanted.status && c.reason == wanted.reason && c.message == wanted.message;
    if old.is_some_and(same) {
        return None;
    }
    let mut patch =
        json!({"type": wanted.type_, "status": wanted.status, "lastTransitionTime": wanted.last_transition_time});
    for (field, new, had) in [
        ("reason", &wanted.reason, old.is_some_and(|c| c.reason.is_some())),
        ("message", &wanted.message, old.is_some_and(|c| c.message.is_some())),
    ] {
        if new.is_some() || had {
            patch[field] = json!(new);
        }
    }
    Some(patch)
}

/// Conditions that are there only while a resize waits or goes on.
fn over<'a>(pod: &'a Pod, wanted: &'a PodStatus) -> impl Iterator<Item = Value> + 'a {
    let lasts = |type_: &str| wanted.conditions.iter().flatten().any(|c| c.type_ == type_);
    resize::CONDITIONS
        .into_iter()
        .filter(move |type_| !lasts(type_) && progress::condition(pod, type_).is_some())
        .map(|type_| json!({"$patch": "delete", "type": type_}))
}

/// The pod leaves its Services by this write.
pub(crate) fn loses_readiness(pod: &Pod, wanted: &PodStatus) -> bool {
    let ready = |c: &&PodCondition| c.type_ == "Ready";
    let will = wanted
        .conditions
        .iter()
        .flatten()
        .find(ready)
        .is_some_and(|c| c.status == "True");
    !will && progress::condition(pod, "Ready").is_some_and(|c| c.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_differences_and_only_own_conditions_are_written() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "uid": "u"},
            "status": {"phase": "Pending", "podIP": "1.1.1.1", "podIPs": [{"ip": "1.1.1.1"}], "conditions": [
                {"type": "InPlaceUpdateReady", "status": "False"},
                {"type": "Ready", "status": "False", "reason": "x", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}))
        .unwrap();
        let mut wanted = pod.status.clone().unwrap();
        wanted.conditions = wanted
            .conditions
            .map(|list| list.into_iter().filter(|c| c.type_ == "Ready").collect());
        assert_eq!(status_patch(&pod, &wanted), None);
        wanted.phase = Some("Running".into());
        wanted.pod_ips = Some(vec![k8s_openapi::api::core::v1::PodIP { ip: "2.2.2.2".into() }]);
        for condition in wanted.conditions.iter_mut().flatten() {
            condition.status = "True".into();
            condition.reason = None;
        }
        let time = json!("2026-01-01T00:00:00Z");
        assert_eq!(
            status_patch(&pod, &wanted).unwrap(),
            json!({"metadata": {"uid": "u"}, "status": {"phase": "Running",
                "podIPs": [{"$patch": "replace"}, {"ip": "2.2.2.2"}],
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": time, "reason": null}]}})
        );
    }
}
