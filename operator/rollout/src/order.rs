//! Which first: the order of updates and of deletions (spec/kruise-behaviour.md §15). Priority and scatter come with
//! the settings that ask for them.

use std::cmp::Ordering;

use afloat_api::names;
use jiff::{SignedDuration, Timestamp};

use crate::pod::Pod;

/// The worst pod first: unassigned, Pending, not ready, shorter ready, more restarts, newer. The name decides last, so
/// that two looks at the same pods agree.
pub fn update_order(a: &Pod, b: &Pod) -> Ordering {
    assigned(a)
        .cmp(&assigned(b))
        .then(phase(a).cmp(&phase(b)))
        .then(a.ready().cmp(&b.ready()))
        .then_with(|| youth(a, b))
        .then_with(|| a.name().cmp(b.name()))
}

/// Who is deleted first: unassigned, Pending, not available, not ready, cheaper, ready later, more restarts, newer.
pub fn deletion_order(a: &Pod, b: &Pod, min_ready: SignedDuration, now: Timestamp) -> Ordering {
    assigned(a)
        .cmp(&assigned(b))
        .then(phase(a).cmp(&phase(b)))
        .then(a.available(min_ready, now).cmp(&b.available(min_ready, now)))
        .then(a.ready().cmp(&b.ready()))
        .then(cost(a).cmp(&cost(b)))
        .then_with(|| youth(a, b))
        .then_with(|| a.name().cmp(b.name()))
}

fn assigned(pod: &Pod) -> bool {
    pod.spec.node_name.is_some()
}

fn phase(pod: &Pod) -> u8 {
    match pod.status.phase.as_str() {
        "Pending" | "" => 0,
        "Running" => 2,
        _ => 1,
    }
}

/// Ready later, more restarts, newer: first.
fn youth(a: &Pod, b: &Pod) -> Ordering {
    let since = |pod: &Pod| if pod.ready() { pod.ready_since() } else { None };
    let created = |pod: &Pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let restarts = |pod: &Pod| {
        pod.status
            .container_statuses
            .iter()
            .map(|c| c.restart_count)
            .max()
            .unwrap_or(0)
    };
    since(b)
        .cmp(&since(a))
        .then(restarts(b).cmp(&restarts(a)))
        .then(created(b).cmp(&created(a)))
}

/// Text that is no plain int32 costs nothing, as in Kubernetes ("+10" and "008" are such).
fn cost(pod: &Pod) -> i32 {
    let text = pod
        .annotations()
        .get(names::POD_DELETION_COST)
        .map_or("0", String::as_str);
    match text.parse::<i32>() {
        Ok(number) if number.to_string() == text => number,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(name: &str, phase: &str, ready: &str, since: &str, cost: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": name, "annotations": {names::POD_DELETION_COST: cost}},
            "spec": {"nodeName": "n"},
            "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": since}]}
        }))
        .unwrap()
    }

    #[test]
    fn worst_first() {
        let early = "2026-01-01T00:00:00Z";
        let late = "2026-01-02T00:00:00Z";
        let pods = [
            pod("d-old", "Running", "True", early, "0"),
            pod("c-young", "Running", "True", late, "0"),
            pod("b-unready", "Running", "False", early, "0"),
            pod("a-pending", "Pending", "False", early, "0"),
        ];
        let mut sorted: Vec<_> = pods.iter().collect();
        sorted.sort_by(|a, b| update_order(a, b));
        assert_eq!(
            sorted.iter().map(|p| p.name()).collect::<Vec<_>>(),
            ["a-pending", "b-unready", "c-young", "d-old"]
        );
    }

    #[test]
    fn cheap_pods_are_deleted_first() {
        let time = "2026-01-01T00:00:00Z";
        let now = "2026-02-01T00:00:00Z".parse().unwrap();
        let order = |a: &str, b: &str| {
            deletion_order(
                &pod("a", "Running", "True", time, a),
                &pod("b", "Running", "True", time, b),
                SignedDuration::ZERO,
                now,
            )
        };
        assert_eq!(order("5", "-5"), Ordering::Greater);
        assert_eq!(
            order("+10", "0"),
            Ordering::Less,
            "an invalid cost is 0, then the name decides"
        );
    }
}
