//! Node selectors and node affinity.

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm};

use crate::objects::Pod;

use super::node::NodeState;

/// Whether the pod's selector and required affinity let it onto the node.
pub(super) fn selected(node: &NodeState, pod: &Pod) -> bool {
    if !pod
        .spec
        .node_selector
        .iter()
        .all(|(name, value)| node.labels.get(name) == Some(value))
    {
        return false;
    }
    let affinity = pod
        .spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref());
    match affinity.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref()) {
        Some(required) => required.node_selector_terms.iter().any(|term| term_matches(node, term)),
        None => true,
    }
}

/// All requirements of a term hold; a term without any matches nothing.
pub(super) fn term_matches(node: &NodeState, term: &NodeSelectorTerm) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    expressions
        .iter()
        .all(|requirement| holds(requirement, node.labels.get(&requirement.key)))
        && fields
            .iter()
            .all(|requirement| requirement.key == "metadata.name" && holds(requirement, Some(&node.name)))
}

fn holds(requirement: &NodeSelectorRequirement, value: Option<&String>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let compare = |check: fn(i64, i64) -> bool| {
        let left = value.and_then(|text| text.parse().ok());
        let right = values.first().and_then(|text| text.parse().ok());
        left.zip(right).is_some_and(|(left, right)| check(left, right))
    };
    match requirement.operator.as_str() {
        "In" => value.is_some_and(|value| values.contains(value)),
        "NotIn" => value.is_none_or(|value| !values.contains(value)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare(|left, right| left > right),
        "Lt" => compare(|left, right| left < right),
        _ => false,
    }
}
