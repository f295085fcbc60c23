//! Nodes as `kubectl get` shows them (Kubernetes' `printNode`).

use serde_json::Value;

use super::age::since_creation;
use super::read::{list, truthy};
use crate::json::text;

pub(crate) fn cells(node: &Value, now: &str) -> Vec<Value> {
    let or = |value: &str, other: &str| {
        if value.is_empty() {
            other.to_owned()
        } else {
            value.to_owned()
        }
    };
    let info = |key: &str| text(node.pointer("/status/nodeInfo").and_then(|i| i.get(key)));
    vec![
        status(node).into(),
        or(&roles(node), "<none>").into(),
        since_creation(node, now).into(),
        info("kubeletVersion").into(),
        or(address(node, "InternalIP"), "<none>").into(),
        or(address(node, "ExternalIP"), "<none>").into(),
        or(info("osImage"), "<unknown>").into(),
        or(info("kernelVersion"), "<unknown>").into(),
        or(info("containerRuntimeVersion"), "<unknown>").into(),
    ]
}

fn status(node: &Value) -> String {
    let ready = list(node.pointer("/status/conditions"))
        .iter()
        .find(|c| text(c.get("type")) == "Ready");
    let word = match ready.map(|c| text(c.get("status"))) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    let cordoned = truthy(node.pointer("/spec/unschedulable"));
    if cordoned {
        format!("{word},SchedulingDisabled")
    } else {
        word.to_owned()
    }
}

fn roles(node: &Value) -> String {
    let labels = node
        .pointer("/metadata/labels")
        .and_then(Value::as_object)
        .into_iter()
        .flatten();
    let roles = labels.filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
        Some(role) if !role.is_empty() => Some(role),
        _ if key == "kubernetes.io/role" => value.as_str().filter(|r| !r.is_empty()),
        _ => None,
    });
    roles
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .collect::<Vec<_>>()
        .join(",")
}

fn address<'a>(node: &'a Value, kind: &str) -> &'a str {
    let found = list(node.pointer("/status/addresses"))
        .iter()
        .find(|a| text(a.get("type")) == kind);
    text(found.and_then(|a| a.get("address")))
}
