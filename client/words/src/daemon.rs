//! One pod on every node that suits: what a DaemonSet's pods have that others do not, and which nodes suit. Kubernetes' DaemonSet and
//! OpenKruise's have this in common.
//!
//! Source: `pkg/controller/daemon/daemon_controller.go` and `pkg/controller/daemon/util` of Kubernetes 1.32.

use k8s_openapi::api::core::v1::{NodeAffinity, Toleration};
use serde_json::{Value, json};

use crate::affinity::{Place, selected};
use crate::taint::{Taint, tolerated};

/// A daemon stays through what drives other pods away: key, effect.
const TOLERATED: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];

/// The one of those who use the node's network.
const HOST_NETWORK: (&str, &str) = ("node.kubernetes.io/network-unavailable", "NoSchedule");

/// Adds the tolerations that every daemon has to the spec of a pod. One for a limited time becomes one for ever.
pub fn tolerate(spec: &mut Value) {
    let network = (spec["hostNetwork"] == true).then_some(HOST_NETWORK);
    let mut all = spec["tolerations"].as_array().cloned().unwrap_or_default();
    for (key, effect) in TOLERATED.into_iter().chain(network) {
        let wanted = json!({"key": key, "operator": "Exists", "effect": effect});
        let same = |one: &&mut Value| {
            let text = |field: &str| one[field].as_str().unwrap_or_default();
            text("key") == key && text("effect") == effect && text("operator") == "Exists" && text("value").is_empty()
        };
        match all.iter_mut().find(same) {
            Some(known) => *known = wanted,
            None => all.push(wanted),
        }
    }
    spec["tolerations"] = Value::Array(all);
}

/// Has the spec of a pod ask for just this node. What it asks of nodes is known to be met, and makes way.
pub fn pin(spec: &mut Value, node: &str) {
    let only = json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}]);
    spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"] = only;
}

/// The node that a pod is pinned to.
pub fn pinned_to(affinity: &NodeAffinity) -> Option<&str> {
    let required = affinity.required_during_scheduling_ignored_during_execution.as_ref()?;
    let terms = required.node_selector_terms.iter();
    let mut fields = terms.filter_map(|term| term.match_fields.as_ref()).flatten();
    let name = fields.find(|field| field.key == "metadata.name" && field.operator == "In")?;
    match name.values.as_deref() {
        Some([one]) => Some(one),
        _ => None,
    }
}

/// Whether a node suits a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Suits {
    /// The pod may come.
    pub start: bool,
    /// The pod may stay if it is there.
    pub stay: bool,
}

/// What a pod, daemons' tolerations included, asks of nodes and bears of them.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The one node that it names; empty if none.
    pub node_name: &'a str,
    /// What it requires of nodes beside its selector.
    pub affinity: Option<&'a NodeAffinity>,
    /// What it bears.
    pub tolerations: &'a [Toleration],
}

/// Whether a node suits, resources aside; `selector` is labels with their values. A taint keeps pods from coming, but drives those away
/// only that are there if its effect is NoExecute.
pub fn suits<'a, 'n>(
    node: Place<'_>,
    taints: impl IntoIterator<Item = Taint<'n>>,
    selector: impl IntoIterator<Item = (&'a String, &'a String)>,
    asked: Asked<'_>,
) -> Suits {
    let named = asked.node_name.is_empty() || asked.node_name == node.name;
    if !named || !selected(node, selector, asked.affinity) {
        return Suits::default();
    }
    let mut suits = Suits {
        start: true,
        stay: true,
    };
    for taint in taints.into_iter().filter(|taint| !tolerated(asked.tolerations, *taint)) {
        match taint.effect {
            "NoSchedule" => suits.start = false,
            "NoExecute" => suits = Suits::default(),
            _ => {}
        }
    }
    suits
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn asked(spec: &Value, place: Place<'_>, taints: &[(&str, &str)]) -> Suits {
        let mut spec = spec.clone();
        tolerate(&mut spec);
        let tolerations: Vec<Toleration> = serde_json::from_value(spec["tolerations"].clone()).unwrap();
        let affinity: Option<NodeAffinity> = serde_json::from_value(spec["affinity"]["nodeAffinity"].clone()).unwrap();
        let selector: BTreeMap<String, String> =
            serde_json::from_value(spec["nodeSelector"].clone()).unwrap_or_default();
        let asked = Asked {
            node_name: spec["nodeName"].as_str().unwrap_or_default(),
            affinity: affinity.as_ref(),
            tolerations: &tolerations,
        };
        let taints = taints.iter().map(|(key, effect)| Taint { key, value: "", effect });
        suits(place, taints, &selector, asked)
    }

    #[test]
    fn who_may_come_and_who_may_stay() {
        let labels = [("zone".to_owned(), "a".to_owned())].into();
        let node = Place {
            name: "n1",
            labels: &labels,
        };
        let affine = |operator: &str| {
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "zone", "operator": operator, "values": ["a"]}]}]}}}})
        };
        let bears = json!({"tolerations": [{"key": "mine", "operator": "Exists"}]});
        let (all, none) = (
            Suits {
                start: true,
                stay: true,
            },
            Suits::default(),
        );
        let stays = Suits {
            start: false,
            stay: true,
        };
        for (spec, taints, wanted) in [
            (json!({}), vec![], all),
            (json!({"nodeName": "n2"}), vec![], none),
            (json!({"nodeName": "n1"}), vec![], all),
            (json!({"nodeSelector": {"zone": "b"}}), vec![], none),
            (json!({"nodeSelector": {"zone": "a"}}), vec![], all),
            (affine("In"), vec![], all),
            (affine("NotIn"), vec![], none),
            (json!({}), vec![("mine", "NoSchedule")], stays),
            (json!({}), vec![("mine", "PreferNoSchedule")], all),
            (json!({}), vec![("mine", "NoExecute")], none),
            (json!({}), vec![("mine", "NoExecute"), ("other", "NoSchedule")], none),
            (bears, vec![("mine", "NoExecute")], all),
            (json!({}), vec![("node.kubernetes.io/unschedulable", "NoSchedule")], all),
            (json!({}), vec![("node.kubernetes.io/unreachable", "NoExecute")], all),
            (
                json!({}),
                vec![("node.kubernetes.io/network-unavailable", "NoSchedule")],
                stays,
            ),
            (
                json!({"hostNetwork": true}),
                vec![("node.kubernetes.io/network-unavailable", "NoSchedule")],
                all,
            ),
        ] {
            assert_eq!(asked(&spec, node, &taints), wanted, "{spec} {taints:?}");
        }
    }

    #[test]
    fn a_limited_toleration_becomes_one_for_ever() {
        let mut spec = json!({"tolerations": [
            {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
            {"key": "mine", "operator": "Exists", "tolerationSeconds": 5}]});
        tolerate(&mut spec);
        let all = spec["tolerations"].as_array().unwrap();
        assert_eq!(all.len(), 7);
        assert_eq!(
            all[0],
            json!({"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"})
        );
        assert_eq!(all[1]["tolerationSeconds"], 5);
        let before = spec.clone();
        tolerate(&mut spec);
        assert_eq!(spec, before);
    }

    #[test]
    fn a_pod_is_pinned_to_one_node() {
        let preferred = json!([{"weight": 1, "preference": {}}]);
        let mut spec = json!({"affinity": {"nodeAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": preferred,
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "zone", "operator": "Exists"}]}, {"matchExpressions": []}]}}}});
        for node in ["n1", "n2"] {
            pin(&mut spec, node);
            let affinity: NodeAffinity = serde_json::from_value(spec["affinity"]["nodeAffinity"].clone()).unwrap();
            assert_eq!(pinned_to(&affinity), Some(node));
            let required = affinity.required_during_scheduling_ignored_during_execution.unwrap();
            assert_eq!(required.node_selector_terms.len(), 1);
            assert!(affinity.preferred_during_scheduling_ignored_during_execution.is_some());
        }
        let mut bare = json!({});
        pin(&mut bare, "n1");
        assert!(bare["affinity"]["nodeAffinity"].is_object());
        assert_eq!(pinned_to(&NodeAffinity::default()), None);
    }
}
