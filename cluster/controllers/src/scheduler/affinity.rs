//! Node selectors and node affinity.

use afloat_words::affinity::{self, Place};
use k8s_openapi::api::core::v1::NodeSelectorTerm;

use crate::objects::Pod;

use super::node::NodeState;

fn place(node: &NodeState) -> Place<'_> {
    Place {
        name: &node.name,
        labels: &node.labels,
    }
}

/// Whether the pod's selector and required affinity let it onto the node.
pub(super) fn selected(node: &NodeState, pod: &Pod) -> bool {
    let affinity = pod.spec.affinity.as_ref();
    let affinity = affinity.and_then(|affinity| affinity.node_affinity.as_ref());
    affinity::selected(place(node), &pod.spec.node_selector, affinity)
}

/// All requirements of a term hold; a term without any matches nothing.
pub(super) fn term_matches(node: &NodeState, term: &NodeSelectorTerm) -> bool {
    affinity::matches(place(node), term)
}
