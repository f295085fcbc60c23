//! Container launch priority (spec/kruise-behaviour.md §10): containers with a higher number start earlier.
//!
//! A container that has to wait gets a variable out of a key of a ConfigMap that is not there yet, which keeps the
//! kubelet from creating it. Once all containers of higher priority are Ready, the key is added. In OpenKruise a pod
//! webhook puts the variable in; here it is there when the pod is created, as the controller that creates it knows its
//! name.

use std::collections::BTreeMap;

use afloat_api::names;
use serde_json::{Value, json};

use crate::action::patch::PodPatch;
use crate::action::{Action, Why};
use crate::pod::object::{ContainerStatus, Pod};

/// The lowest priority that was let start, by pod uid, as far as it is known. What is not known is done once more.
pub type Opened = BTreeMap<String, i32>;

/// Name of the ConfigMap that a pod's containers wait for.
pub fn config_map_name(pod: &str) -> String {
    format!("{pod}-barrier")
}

/// The ConfigMap with the key of one priority.
pub fn config_map(pod: &str, namespace: &str, uid: &str, priority: i32) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {
            "name": config_map_name(pod), "namespace": namespace,
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid}],
        },
        "data": {format!("p_{priority}"): "true"},
    })
}

/// Puts the barriers into the spec of a new pod, if its template asks for an order; gives whether it does.
///
/// # Errors
/// A priority that is no number.
pub(crate) fn put_barriers(template: &Value, spec: &mut Value, pod: &str) -> Result<bool, String> {
    let annotation = template
        .pointer("/metadata/annotations")
        .and_then(|annotations| annotations.get(names::LAUNCH_PRIORITY));
    let ordered = annotation.is_some_and(|value| value == names::LAUNCH_ORDERED);
    let Some(containers) = spec.get_mut("containers").and_then(Value::as_array_mut) else {
        return Ok(false);
    };
    if containers.len() < 2 {
        return Ok(false);
    }
    let mut priorities = Vec::with_capacity(containers.len());
    for (index, container) in containers.iter().enumerate() {
        let mut variables = container.get("env").and_then(Value::as_array).into_iter().flatten();
        let stated = variables.find(|variable| variable["name"] == names::LAUNCH_VARIABLE);
        let priority = match stated
            .and_then(|variable| variable.get("value"))
            .and_then(Value::as_str)
        {
            _ if ordered => -i32::try_from(index).unwrap_or(i32::MAX),
            None => 0,
            Some(text) => text.parse().map_err(|_| {
                let name = container["name"].as_str().unwrap_or_default();
                format!(
                    "{} of container {name} must be a number, not {text:?}",
                    names::LAUNCH_VARIABLE
                )
            })?,
        };
        priorities.push(priority);
    }
    if priorities.windows(2).all(|pair| pair[0] == pair[1]) {
        return Ok(false);
    }
    for (container, priority) in containers.iter_mut().zip(priorities) {
        let reference = json!({"name": config_map_name(pod), "key": format!("p_{priority}")});
        let barrier = json!({"name": names::LAUNCH_BARRIER, "valueFrom": {"configMapKeyRef": reference}});
        match container.get_mut("env").and_then(Value::as_array_mut) {
            Some(environment) => environment.push(barrier),
            None => container["env"] = json!([barrier]),
        }
    }
    Ok(true)
}

/// What lets the next containers of a new pod start: the key of the highest priority that is not all Ready, and at the
/// end the note that nothing is left to do.
pub(crate) fn next(pod: &Pod, opened: &Opened) -> Vec<Action> {
    let with_barrier = || {
        pod.spec
            .containers
            .iter()
            .filter(|container| container.environment.priority.is_some())
    };
    if pod.annotations.contains_key(names::LAUNCH_COMPLETED) || with_barrier().next().is_none() {
        return Vec::new();
    }
    let ready = |name: &str| pod.container_status(name).is_some_and(ContainerStatus::steady);
    let waiting = with_barrier().filter(|container| !ready(&container.name));
    let Some(priority) = waiting.filter_map(|container| container.environment.priority).max() else {
        return vec![completed(pod)];
    };
    let lowest = with_barrier()
        .filter_map(|container| container.environment.priority)
        .min();
    let mut actions = Vec::new();
    if opened.get(&*pod.metadata.uid).is_none_or(|before| *before > priority) {
        actions.push(Action::OpenBarrier {
            pod: pod.name().to_owned(),
            namespace: pod.metadata.namespace.to_string(),
            uid: pod.metadata.uid.to_string(),
            priority,
        });
    } else if Some(priority) == lowest {
        // With the last key in place nothing is left to do.
        actions.push(completed(pod));
    }
    actions
}

/// Notes that nothing is left to do.
fn completed(pod: &Pod) -> Action {
    Action::PatchPod {
        at: pod.at(),
        patch: PodPatch {
            annotations: [(names::LAUNCH_COMPLETED.to_owned(), Some("true".to_owned()))].into(),
            ..PodPatch::default()
        },
        why: Why::Launch,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> Value {
        json!({"containers": [{"name": "app", "image": "a"}, {"name": "log", "image": "l", "env": [{"name": "X"}]}]})
    }

    #[test]
    fn barriers_follow_the_order_or_the_numbers() {
        let keys = |template: Value, mut spec: Value| {
            put_barriers(&template, &mut spec, "web-1").unwrap();
            let pod: Pod = serde_json::from_value(json!({"spec": spec})).unwrap();
            pod.spec
                .containers
                .iter()
                .map(|container| container.environment.priority)
                .collect::<Vec<_>>()
        };
        let ordered = json!({"metadata": {"annotations": {names::LAUNCH_PRIORITY: names::LAUNCH_ORDERED}}});
        assert_eq!(keys(ordered, spec()), [Some(0), Some(-1)]);
        assert_eq!(keys(json!({}), spec()), [None, None]);
        let mut numbers = spec();
        numbers["containers"][1]["env"] = json!([{"name": names::LAUNCH_VARIABLE, "value": "5"}]);
        assert_eq!(keys(json!({}), numbers.clone()), [Some(0), Some(5)]);
        numbers["containers"][1]["env"][0]["value"] = json!("soon");
        let why = put_barriers(&json!({}), &mut numbers, "web-1").unwrap_err();
        assert!(why.contains("KRUISE_CONTAINER_PRIORITY of container log"), "{why}");
    }

    #[test]
    fn the_next_starts_when_the_one_before_is_ready() {
        let mut body = spec();
        let ordered = json!({"metadata": {"annotations": {names::LAUNCH_PRIORITY: names::LAUNCH_ORDERED}}});
        put_barriers(&ordered, &mut body, "web-1").unwrap();
        let pod = |app: bool, log: bool| -> Pod {
            serde_json::from_value(json!({
                "metadata": {"name": "web-1", "uid": "u", "resourceVersion": "1"}, "spec": body,
                "status": {"containerStatuses": [{"name": "app", "ready": app}, {"name": "log", "ready": log}]},
            }))
            .unwrap()
        };
        let opens = |pod: &Pod, opened: &Opened| match next(pod, opened).as_slice() {
            [Action::OpenBarrier { priority, .. }] => Some(*priority),
            [Action::PatchPod { .. }] => None,
            other => panic!("{other:?}"),
        };
        assert_eq!(opens(&pod(false, false), &Opened::new()), Some(0));
        let first = [("u".to_owned(), 0)].into();
        assert!(next(&pod(false, false), &first).is_empty(), "app starts");
        assert_eq!(opens(&pod(true, false), &first), Some(-1));
        assert_eq!(
            opens(&pod(true, false), &[("u".to_owned(), -1)].into()),
            None,
            "completed"
        );
    }

    #[test]
    fn a_barrier_goes_with_its_pod() {
        let body = config_map("web-1", "n", "u", -1);
        assert_eq!(body["metadata"]["name"], config_map_name("web-1"));
        assert_eq!(
            (&body["metadata"]["namespace"], &body["data"]),
            (&json!("n"), &json!({"p_-1": "true"}))
        );
        assert_eq!(
            body["metadata"]["ownerReferences"],
            json!([{"apiVersion": "v1", "kind": "Pod", "name": "web-1", "uid": "u"}])
        );
    }
}
