//! Whether a node is one that a pod or volume asks for, by its labels and its name (Kubernetes, "Assigning Pods to Nodes").

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeAffinity, NodeSelectorRequirement, NodeSelectorTerm};

/// A node, as far as selectors look at it.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its labels.
    pub labels: &'a BTreeMap<String, String>,
}

/// Whether a node selector (labels and their values) and what an affinity requires let a pod onto the node.
pub fn selected<'a>(
    node: Place<'_>,
    selector: impl IntoIterator<Item = (&'a String, &'a String)>,
    affinity: Option<&NodeAffinity>,
) -> bool {
    let mut wanted = selector.into_iter();
    if !wanted.all(|(name, value)| node.labels.get(name) == Some(value)) {
        return false;
    }
    match affinity.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref()) {
        Some(required) => required.node_selector_terms.iter().any(|term| matches(node, term)),
        None => true,
    }
}

/// All requirements of a term hold; a term without any matches nothing.
pub fn matches(node: Place<'_>, term: &NodeSelectorTerm) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let label = |key: &String| node.labels.get(key).map(String::as_str);
    expressions.iter().all(|asked| holds(asked, label(&asked.key)))
        && fields
            .iter()
            .all(|asked| asked.key == "metadata.name" && holds(asked, Some(node.name)))
}

fn holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let among = |value: &str| values.iter().any(|known| known == value);
    let compare = |check: fn(i64, i64) -> bool| {
        let left = value.and_then(|text| text.parse().ok());
        let right = values.first().and_then(|text| text.parse().ok());
        left.zip(right).is_some_and(|(left, right)| check(left, right))
    };
    match requirement.operator.as_str() {
        "In" => value.is_some_and(among),
        "NotIn" => value.is_none_or(|value| !among(value)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare(|left, right| left > right),
        "Lt" => compare(|left, right| left < right),
        _ => false,
    }
}
