//! Which nodes can take a pod, and which of them is best.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::objects::{Pod, Taint, tolerates};

use super::affinity::{selected, term_matches};
use super::cluster::Cluster;
use super::node::{NodeState, Share, weight};
use super::refusal::{Misfit, Refusal};

/// The index of the best node for the pod.
///
/// # Errors
/// Why there is none.
pub(super) fn place(cluster: &Cluster, pod: &Pod, share: &Share) -> Result<usize, Refusal> {
    let nodes = cluster.nodes.iter().filter(|node| node.known).count();
    let claims = cluster.storage.needs(pod);
    let needs = claims.map_err(|why| Refusal::Claim { nodes, why })?;
    let mut misfits: BTreeMap<Misfit, usize> = BTreeMap::new();
    let mut best: Option<(Score, usize)> = None;
    for (at, node) in cluster.nodes.iter().enumerate().filter(|(_, node)| node.known) {
        let mut found = misfits_of(node, pod, share);
        if found.is_empty() {
            found.extend(needs.misfit(node));
        }
        if found.is_empty() {
            let score = score(node, pod, share);
            if best.as_ref().is_none_or(|(least, _)| score < *least) {
                best = Some((score, at));
            }
        }
        for misfit in found {
            *misfits.entry(misfit).or_default() += 1;
        }
    }
    best.map(|(_, at)| at).ok_or(Refusal::Nowhere { nodes, misfits })
}

/// Why the node cannot take the pod; none if it can. The cheap and lasting reasons hide the passing ones, as in Kubernetes.
fn misfits_of(node: &NodeState, pod: &Pod, share: &Share) -> Vec<Misfit> {
    let spec = &pod.spec;
    let shielded = Taint {
        key: "node.kubernetes.io/unschedulable".into(),
        effect: "NoSchedule".into(),
        ..Taint::default()
    };
    if node.unschedulable && !tolerates(&spec.tolerations, &shielded) {
        return vec![Misfit::Unschedulable];
    }
    let blocks = |taint: &&Taint| {
        matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute") && !tolerates(&spec.tolerations, taint)
    };
    if let Some(taint) = node.taints.iter().find(blocks) {
        let (key, value) = (taint.key.clone(), taint.value.clone());
        return vec![Misfit::Taint { key, value }];
    }
    if !selected(node, pod) {
        return vec![Misfit::Affinity];
    }
    let clash = |wanted: &(String, String, u16)| {
        node.used.host_ports.iter().any(|used| {
            used.0 == wanted.0 && used.2 == wanted.2 && (used.1 == wanted.1 || used.1.is_empty() || wanted.1.is_empty())
        })
    };
    if share.requests.host_ports.iter().any(clash) {
        return vec![Misfit::HostPorts];
    }
    missing(node, share)
}

/// What the node has too little of.
fn missing(node: &NodeState, share: &Share) -> Vec<Misfit> {
    let mut missing = Vec::new();
    if node.pods + 1 > node.most_pods {
        missing.push(Misfit::TooManyPods);
    }
    let requests = &share.requests;
    if requests.cpu > 0 && requests.cpu > node.allocatable.cpu.saturating_sub(node.used.cpu) {
        missing.push(Misfit::Insufficient("cpu".to_owned()));
    }
    if requests.memory > 0 && requests.memory > node.allocatable.memory.saturating_sub(node.used.memory) {
        missing.push(Misfit::Insufficient("memory".to_owned()));
    }
    for (name, amount) in requests.other.iter().filter(|(_, amount)| **amount > 0) {
        let free =
            node.allocatable.other.get(name).copied().unwrap_or(0) - node.used.other.get(name).copied().unwrap_or(0);
        if *amount > free {
            missing.push(Misfit::Insufficient(name.clone()));
        }
    }
    missing
}

/// Lower is better: discouraging taints, preferences not met, pods of the same owner, load in thousandths, pods, name.
type Score = (usize, Reverse<i32>, u32, i64, i64, String);

fn score(node: &NodeState, pod: &Pod, share: &Share) -> Score {
    let discouraging = |taint: &&Taint| taint.effect == "PreferNoSchedule" && !tolerates(&pod.spec.tolerations, taint);
    let siblings = share
        .owner
        .as_ref()
        .and_then(|owner| node.owners.get(owner))
        .copied()
        .unwrap_or(0);
    let (cpu, memory) = weight(&share.requests);
    let part = |used: i64, all: i64| {
        if all <= 0 {
            1000
        } else {
            (i128::from(used) * 1000 / i128::from(all)).min(1000) as i64
        }
    };
    let load = i64::midpoint(
        part(node.weight.0.saturating_add(cpu), node.allocatable.cpu),
        part(node.weight.1.saturating_add(memory), node.allocatable.memory),
    );
    let taints = node.taints.iter().filter(discouraging).count();
    (
        taints,
        Reverse(preference(node, pod)),
        siblings,
        load,
        node.pods,
        node.name.clone(),
    )
}

/// Weights of the preferred node affinities that the node meets.
fn preference(node: &NodeState, pod: &Pod) -> i32 {
    let affinity = pod
        .spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref());
    let preferred =
        affinity.and_then(|affinity| affinity.preferred_during_scheduling_ignored_during_execution.as_ref());
    let met = preferred
        .into_iter()
        .flatten()
        .filter(|term| term_matches(node, &term.preference));
    met.fold(0, |sum, term| sum.saturating_add(term.weight))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::{Kind, Node};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn node(name: &str, cpu: &str, extra: Value) -> Node {
        let mut object = json!({"metadata": {"name": name, "labels": {"zone": name}}, "spec": {},
            "status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "10"}}});
        object["spec"] = extra;
        serde_json::from_value(object).unwrap()
    }

    fn pod(name: &str, cpu: &str, extra: Value) -> Pod {
        let mut object = json!({"metadata": {"name": name, "uid": name, "namespace": "d",
                "ownerReferences": [{"apiVersion": "v1", "kind": "X", "name": "x", "uid": "owner", "controller": true}]},
            "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}});
        for (field, value) in extra.as_object().unwrap() {
            object["spec"][field] = value.clone();
        }
        let mut pod: Pod = serde_json::from_value(object).unwrap();
        pod.trim();
        pod
    }

    fn cluster(nodes: &[Node]) -> Cluster {
        let mut cluster = Cluster::default();
        for node in nodes {
            cluster.set_node(node.metadata.name.as_deref().unwrap(), Some(node));
        }
        cluster
    }

    fn put(cluster: &mut Cluster, pod: &Pod) -> Result<String, String> {
        let share = Share::of(pod);
        let at = place(cluster, pod, &share).map_err(|refusal| refusal.to_string())?;
        cluster.assume(pod.uid(), at, share);
        Ok(cluster.nodes[at].name.clone())
    }

    #[test]
    fn spreads_siblings_over_nodes() {
        let mut cluster = cluster(&[
            node("a", "4", json!({})),
            node("b", "4", json!({})),
            node("c", "4", json!({})),
        ]);
        let mut names: Vec<String> = (0..3)
            .map(|i| put(&mut cluster, &pod(&format!("p{i}"), "100m", json!({}))).unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["a", "b", "c"]);
    }

    #[test]
    fn filters_say_why() {
        let taint = json!({"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]});
        let mut cluster = cluster(&[
            node("a", "1", json!({})),
            node("b", "4", taint),
            node("c", "9", json!({"unschedulable": true})),
        ]);
        let refused = put(&mut cluster, &pod("p", "2", json!({}))).unwrap_err();
        assert_eq!(
            refused,
            "0/3 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint {k: v}, 1 node(s) were unschedulable."
        );
        let tolerant = pod("q", "2", json!({"tolerations": [{"key": "k", "operator": "Exists"}]}));
        assert_eq!(put(&mut cluster, &tolerant).unwrap(), "b");
        let picky = pod("r", "100m", json!({"nodeSelector": {"zone": "z"}}));
        assert!(put(&mut cluster, &picky).unwrap_err().contains("3 nodes"));
        let affine = pod(
            "s",
            "100m",
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
            {"nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}]}}}}),
        );
        assert_eq!(put(&mut cluster, &affine).unwrap(), "a");
    }

    proptest! {
        /// Whatever comes and goes, no node is given more than it has.
        #[test]
        fn never_overcommits(moves in proptest::collection::vec((0..20_usize, 0..2500_u32, 0..3_u8), 1..120)) {
            let mut cluster = cluster(&[node("a", "4", json!({})), node("b", "2", json!({})), node("c", "1", json!({}))]);
            for (id, cpu, what) in moves {
                let mut one = pod(&format!("p{id}"), &format!("{cpu}m"), json!({}));
                match what {
                    0 => { cluster.set_pod(one.uid(), None); }
                    _ if cluster.has(one.uid()) => {}
                    1 => { let _ = put(&mut cluster, &one); }
                    _ => {
                        if let Ok(name) = put(&mut cluster, &one) {
                            one.spec.node_name = Some(name);
                            cluster.set_pod(one.uid(), Some(&one));
                        }
                    }
                }
                for node in &cluster.nodes {
                    prop_assert!(node.used.cpu <= node.allocatable.cpu && node.used.cpu >= 0);
                    prop_assert!(node.pods <= node.most_pods && node.pods >= 0);
                }
            }
        }
    }

    #[test]
    fn a_burst_of_a_thousand_pods_is_decided_quickly() {
        let nodes: Vec<Node> = (0..100).map(|i| node(&format!("n{i}"), "64", json!({}))).collect();
        let mut cluster = cluster(&nodes);
        let started = std::time::Instant::now();
        for i in 0..1000 {
            put(&mut cluster, &pod(&format!("p{i}"), "10m", json!({}))).unwrap();
        }
        assert!(
            started.elapsed() < std::time::Duration::from_secs(5),
            "{:?}",
            started.elapsed()
        );
    }
}
