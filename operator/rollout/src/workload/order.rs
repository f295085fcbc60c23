//! Which first: the order of updates and of deletions (spec/kruise-behaviour.md §15).

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeMap;

use afloat_api::{Matcher, PriorityStrategy, Rollout, ScatterTerm, names};
use jiff::{SignedDuration, Timestamp};

use crate::pod::images::Nodes;
use crate::pod::object::Pod;

/// The worst pod first: unassigned, Pending, not ready, shorter ready, more restarts, newer. Less is worse. Among equals
/// the name decides, so that two looks at the same pods agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Standing {
    assigned: bool,
    phase: u8,
    ready: bool,
    youth: Youth,
}

impl Standing {
    pub(crate) fn of(pod: &Pod) -> Self {
        Self {
            assigned: assigned(pod),
            phase: phase(pod),
            ready: pod.ready(),
            youth: youth(pod),
        }
    }
}

/// Whether an order has rules of its own beside the standing of each pod.
pub(crate) fn has_rules(rollout: &Rollout) -> bool {
    let priority = &rollout.priority;
    !(priority.weight_priority.is_empty() && priority.order_priority.is_empty() && rollout.scatter.is_empty())
}

/// The pods that wait for an update, in the order in which they get it: the worst first, then by priority, then
/// scattered. `all` are the pods of the workload, the waiting ones among them.
pub fn update_sequence<'a>(mut waiting: Vec<&'a Pod>, all: &[&Pod], rollout: &Rollout) -> Vec<&'a Pod> {
    // Each pod is read once: there may be thousands, in as many places of the memory.
    waiting.sort_by_cached_key(|pod| (Standing::of(pod), pod.name()));
    prioritise(&mut waiting, &rollout.priority);
    for term in scatter_terms(&waiting, &rollout.scatter) {
        waiting = scatter(waiting, all, &term);
    }
    waiting
}

/// Weights win over orders, as in OpenKruise.
pub(crate) fn prioritise(pods: &mut [&Pod], strategy: &PriorityStrategy) {
    if strategy.weight_priority.is_empty() {
        let keys = &strategy.order_priority;
        // A pod without any of the keys comes first; OpenKruise's comments say otherwise, its code does this.
        let order = |pod: &&Pod| {
            let found = keys
                .iter()
                .enumerate()
                .find_map(|(level, term)| Some((level, pod.labels.get(&term.ordered_key)?)));
            found.map(|(level, value)| (level, Reverse(trailing_number(value))))
        };
        if !keys.is_empty() {
            pods.sort_by_key(order);
        }
        return;
    }
    let terms: Vec<_> = strategy
        .weight_priority
        .iter()
        .map(|term| (i64::from(term.weight), Matcher::new(&term.match_selector)))
        .collect();
    pods.sort_by_key(|pod| {
        let matching = terms.iter().filter(|(_, matcher)| matcher.selects(&pod.labels));
        Reverse(matching.map(|(weight, _)| weight).sum::<i64>())
    });
}

/// The number at the end of a text; 0 if there is none.
fn trailing_number(text: &str) -> u64 {
    let digits = text.len() - text.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    text[text.len() - digits..].parse().unwrap_or(0)
}

/// The terms, those that match most of the waiting pods first; terms that match none are left out.
fn scatter_terms(waiting: &[&Pod], terms: &[ScatterTerm]) -> Vec<ScatterTerm> {
    let mut found: Vec<(usize, ScatterTerm)> = Vec::new();
    for term in terms {
        let count = waiting
            .iter()
            .filter(|pod| pod.labels.get(&term.key) == Some(&term.value))
            .count();
        if (count > 0 || terms.len() == 1) && !found.iter().any(|(_, other)| other == term) {
            found.push((count, term.clone()));
        }
    }
    found.sort_by_key(|(count, _)| Reverse(*count));
    found.into_iter().map(|(_, term)| term).collect()
}

/// Spreads the pods that match between those that do not, in groups of equal shape, the last matching pod at the end.
/// Where the workload as a whole has more matching pods than those that wait (some are updated already), its density
/// decides.
fn scatter<'a>(waiting: Vec<&'a Pod>, all: &[&Pod], term: &ScatterTerm) -> Vec<&'a Pod> {
    let matches = |pod: &Pod| pod.labels.get(&term.key).unwrap_or_default() == term.value;
    let (mut with, without): (Vec<_>, Vec<_>) = waiting.iter().copied().partition(|pod| matches(pod));
    if with.len() <= 1 || without.len() <= 1 {
        return waiting;
    }
    let last = with.pop();
    let all_with = all.iter().filter(|pod| matches(pod)).count().saturating_sub(1).max(1);
    let all_without = all.iter().filter(|pod| !matches(pod)).count();
    let round = |number: usize, groups: usize| (2 * number + groups) / (2 * groups);
    let (groups, with_size, without_size, lead) = if all_without * with.len() >= without.len() * all_with {
        let groups = with.len().min(without.len());
        (groups, round(with.len(), groups), round(without.len(), groups), 0)
    } else {
        let groups = all_with.min(all_without).max(1);
        let (with_size, without_size) = (round(all_with, groups).max(1), round(all_without, groups).max(1));
        let groups = (with.len() / with_size).min(without.len() / without_size);
        (groups, with_size, without_size, without.len() - groups * without_size)
    };
    let (mut with, mut without) = (with.into_iter(), without.into_iter());
    let mut out: Vec<&Pod> = without.by_ref().take(lead).collect();
    for _ in 0..groups {
        out.extend(with.by_ref().take(with_size));
        out.extend(without.by_ref().take(without_size));
    }
    out.extend(with);
    out.extend(without);
    out.extend(last);
    out
}

/// Who is deleted first: unassigned, Pending, not available, not ready, cheaper, more crowded, ready later, more
/// restarts, newer.
#[derive(Clone, Debug)]
pub struct Deletion {
    /// Seconds a pod must be Ready to count as available.
    pub min_ready: SignedDuration,
    /// The time.
    pub now: Timestamp,
    /// How crowded it is where a pod runs, by name; see [`crowds`].
    pub crowd: BTreeMap<String, usize>,
}

impl Deletion {
    /// Less is deleted first.
    pub fn order(&self, a: &Pod, b: &Pod) -> Ordering {
        let available = |pod: &Pod| pod.available(self.min_ready, self.now);
        let crowd = |pod: &Pod| self.crowd.get(pod.name()).copied().unwrap_or(0);
        assigned(a)
            .cmp(&assigned(b))
            .then(phase(a).cmp(&phase(b)))
            .then(available(a).cmp(&available(b)))
            .then(a.ready().cmp(&b.ready()))
            .then(cost(a).cmp(&cost(b)))
            .then(crowd(b).cmp(&crowd(a)))
            .then_with(|| youth(a).cmp(&youth(b)))
            .then_with(|| a.name().cmp(b.name()))
    }
}

/// How many of the pods share the place of each: its node, or with `topology` (the keys of the template's
/// topologySpreadConstraints) the sum over the domains that it belongs to.
pub fn crowds(pods: &[&Pod], topology: &[String], nodes: &Nodes) -> BTreeMap<String, usize> {
    let places = |pod: &Pod| -> Vec<String> {
        let Some(node) = pod.spec.node_name.as_ref() else {
            return Vec::new();
        };
        if topology.is_empty() {
            return vec![node.to_string()];
        }
        let labels = nodes
            .get(node.as_str())
            .and_then(|known| known.node.metadata.labels.as_ref());
        let domain = |key: &String| Some(format!("{key}={}", labels?.get(key)?));
        topology.iter().filter_map(domain).collect()
    };
    let mut population: BTreeMap<String, usize> = BTreeMap::new();
    for place in pods.iter().flat_map(|pod| places(pod)) {
        *population.entry(place).or_default() += 1;
    }
    let crowd = |pod: &Pod| places(pod).iter().filter_map(|place| population.get(place)).sum();
    pods.iter().map(|pod| (pod.name().to_owned(), crowd(pod))).collect()
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

/// Ready since, restarts, creation.
type Youth = Reverse<(Option<Timestamp>, i32, Option<Timestamp>)>;

/// Ready later, more restarts, newer: first.
fn youth(pod: &Pod) -> Youth {
    let since = if pod.ready() { pod.ready_since() } else { None };
    let containers = pod.status.container_statuses.iter().filter(|status| !status.sidecar);
    let restarts = containers.map(|status| status.restart_count);
    Reverse((since, restarts.max().unwrap_or(0), pod.metadata.created))
}

/// Text that is no plain int32 costs nothing, as in Kubernetes ("+10" and "008" are such).
fn cost(pod: &Pod) -> i32 {
    let text = pod.annotations.get(names::POD_DELETION_COST).unwrap_or("0");
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
        sorted.sort_by_cached_key(|pod| (Standing::of(pod), pod.name()));
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
            let deletion = Deletion {
                min_ready: SignedDuration::ZERO,
                now,
                crowd: BTreeMap::new(),
            };
            deletion.order(
                &pod("a", "Running", "True", time, a),
                &pod("b", "Running", "True", time, b),
            )
        };
        assert_eq!(order("5", "-5"), Ordering::Greater);
        assert_eq!(
            order("+10", "0"),
            Ordering::Less,
            "an invalid cost is 0, then the name decides"
        );
    }

    /// Pods named by position, with these labels ("a=1,b=2").
    fn labelled(labels: &[&str]) -> Vec<Pod> {
        let one = |(index, text): (usize, &&str)| {
            let labels: BTreeMap<_, _> = text.split(',').filter_map(|pair| pair.split_once('=')).collect();
            serde_json::from_value(json!({"metadata": {"name": index.to_string(), "labels": labels}})).unwrap()
        };
        labels.iter().enumerate().map(one).collect()
    }

    fn sequence(labels: &[&str], waiting: &[usize], rolling: &serde_json::Value) -> String {
        let spec: afloat_api::CloneSetSpec =
            serde_json::from_value(json!({"updateStrategy": {"rollingUpdate": rolling}})).unwrap();
        let pods = labelled(labels);
        let all: Vec<_> = pods.iter().collect();
        let waiting = waiting.iter().map(|index| all[*index]).collect();
        let order = update_sequence(waiting, &all, &spec.rollout());
        order.iter().map(|pod| pod.name()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn by_priority() {
        let weights = json!({"priorityStrategy": {"weightPriority": [
            {"weight": 20, "matchSelector": {"matchLabels": {"tier": "canary"}}},
            {"weight": 5, "matchSelector": {"matchExpressions": [{"key": "zone", "operator": "Exists"}]}},
        ], "orderPriority": [{"orderedKey": "zone"}]}});
        let orders = json!({"priorityStrategy": {"orderPriority": [{"orderedKey": "first"}, {"orderedKey": "next"}]}});
        for (what, labels, rolling, order) in [
            (
                "heavier first, weights add up",
                ["", "zone=a", "tier=canary", "tier=canary,zone=a"],
                &weights,
                "3 2 1 0",
            ),
            (
                "equal weights keep the usual order",
                ["", "", "zone=a", "zone=b"],
                &weights,
                "2 3 0 1",
            ),
            (
                "no key first, then by key, then the higher number",
                ["next=9", "first=a2", "first=b10", ""],
                &orders,
                "3 2 1 0",
            ),
            (
                "no number is 0",
                ["first=x", "first=x1", "next=5", "next=x"],
                &orders,
                "1 0 2 3",
            ),
        ] {
            assert_eq!(sequence(&labels, &[0, 1, 2, 3], rolling), order, "{what}");
        }
    }

    #[test]
    fn scattered() {
        let one = json!({"scatterStrategy": [{"key": "s", "value": "x"}]});
        let two = json!({"scatterStrategy": [{"key": "s", "value": "x"}, {"key": "t", "value": "y"}]});
        for (what, labels, rolling, order) in [
            ("one match is left alone", &["", "s=x", ""][..], &one, "0 1 2"),
            ("one without is left alone", &["s=x", "", "s=x"], &one, "0 1 2"),
            ("first and last", &["", "", "", "s=x", "s=x"], &one, "3 0 1 2 4"),
            (
                "evenly between",
                &["", "", "", "", "s=x", "s=x", "s=x"],
                &one,
                "4 0 1 5 2 3 6",
            ),
            (
                "more with than without",
                &["", "", "s=x", "s=x", "s=x", "s=x", "s=x"],
                &one,
                "2 3 0 4 5 1 6",
            ),
            ("another value is no match", &["s=z", "", "s=x", "s=x"], &one, "2 0 1 3"),
            (
                "two terms, the one with more matches first",
                &["", "", "t=y", "t=y", "s=x", "s=x", "s=x"],
                &two,
                "2 4 0 1 5 6 3",
            ),
        ] {
            let all: Vec<_> = (0..labels.len()).collect();
            assert_eq!(sequence(labels, &all, rolling), order, "{what}");
        }
        // Two of six matching pods wait, one is updated: the waiting ones are denser than the whole, so some others lead.
        let labels = ["", "", "", "", "", "", "s=x", "s=x"];
        assert_eq!(sequence(&labels, &[2, 3, 6, 7], &one), "6 2 3 7");
    }

    #[test]
    fn the_crowded_node_is_thinned_first() {
        let on = |name: &str, node: &str| -> Pod {
            serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"nodeName": node}})).unwrap()
        };
        let pods = [on("a", "n1"), on("b", "n2"), on("c", "n2"), on("d", "n3")];
        let pods: Vec<_> = pods.iter().collect();
        let deletion = Deletion {
            min_ready: SignedDuration::ZERO,
            now: "2026-01-01T00:00:00Z".parse().unwrap(),
            crowd: crowds(&pods, &[], &Nodes::new()),
        };
        let mut sorted = pods.clone();
        sorted.sort_by(|a, b| deletion.order(a, b));
        assert_eq!(sorted.iter().map(|pod| pod.name()).collect::<String>(), "bcad");
        let zone = |zone: &str| serde_json::from_value(json!({"metadata": {"labels": {"zone": zone}}})).unwrap();
        let nodes: Nodes = [("n1", "east"), ("n2", "west"), ("n3", "east")]
            .map(|(name, place)| {
                let node = std::sync::Arc::new(zone(place));
                (name.to_owned(), crate::pod::images::Known { node, report: None })
            })
            .into();
        let crowd = crowds(&pods, &["zone".to_owned()], &nodes);
        assert_eq!(crowd.values().copied().collect::<Vec<_>>(), [2, 2, 2, 2]);
    }
}
