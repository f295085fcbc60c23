//! Whether the node takes a pod that it has not run before: what the kubelet asks itself when a pod is new to it
//! (`pkg/kubelet/lifecycle/predicate.go`), whoever has bound the pod to it. Pure.

use std::collections::BTreeMap;

use afloat_words::affinity::{Place, selected};
use k8s_openapi::api::core::v1::{NodeAffinity, Pod};

use super::spec;
use crate::options::Capacity;

/// Reason and message of a pod that is not taken.
pub(crate) type Refusal = (&'static str, String);

/// How the message in a pod's status begins.
pub(crate) const REJECTED: &str = "Pod was rejected: ";

/// A port of the node that a pod takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    /// Empty: all addresses.
    ip: String,
    protocol: String,
    number: i32,
}

impl Port {
    fn collides(&self, other: &Self) -> bool {
        let same_place = self.ip == other.ip || self.ip.is_empty() || other.ip.is_empty();
        same_place && self.protocol == other.protocol && self.number == other.number
    }
}

/// What pods on the node take of it together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Taken {
    pods: u64,
    cpu_millis: u64,
    memory_bytes: u64,
    ports: Vec<Port>,
}

impl Taken {
    /// One more pod, that requests so many thousandths of a CPU and bytes.
    pub(crate) fn add(&mut self, pod: &Pod, (cpu, memory): (u64, u64)) {
        self.pods += 1;
        self.cpu_millis = self.cpu_millis.saturating_add(cpu);
        self.memory_bytes = self.memory_bytes.saturating_add(memory);
        self.ports.extend(ports(pod));
    }
}

/// The node, as pods select it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Labelled {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
}

fn affinity(pod: &Pod) -> Option<&NodeAffinity> {
    pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()
}

/// Whether the node's labels have to be known to say whether the pod fits.
pub(crate) fn asks_for_labels(pod: &Pod) -> bool {
    let selector = pod.spec.as_ref().and_then(|spec| spec.node_selector.as_ref());
    let required =
        affinity(pod).and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    let terms = required.map(|required| required.node_selector_terms.as_slice());
    let mut terms = terms.unwrap_or_default().iter();
    selector.is_some_and(|selector| !selector.is_empty())
        || terms.any(|term| term.match_expressions.as_ref().is_some_and(|list| !list.is_empty()))
}

/// Why the node does not take the pod beside what it has. None: it does.
pub(crate) fn refusal(
    pod: &Pod,
    (cpu, memory): (u64, u64),
    node: &Labelled,
    capacity: &Capacity,
    taken: &Taken,
) -> Option<Refusal> {
    let each = [
        ("OutOfpods", "pods", 1, taken.pods, u64::from(capacity.pods)),
        ("OutOfcpu", "cpu", cpu, taken.cpu_millis, capacity.cpu_millis),
        (
            "OutOfmemory",
            "memory",
            memory,
            taken.memory_bytes,
            capacity.memory_bytes,
        ),
    ];
    for (reason, name, requested, used, capacity) in each {
        if requested > 0 && used.saturating_add(requested) > capacity {
            let what = format!("{name}, requested: {requested}, used: {used}, capacity: {capacity}");
            return Some((reason, format!("Node didn't have enough resource: {what}")));
        }
    }
    let place = Place {
        name: &node.name,
        labels: &node.labels,
    };
    let selector = pod.spec.iter().flat_map(|spec| spec.node_selector.iter().flatten());
    if !selected(place, selector, affinity(pod)) {
        let message = "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector";
        return Some(("NodeAffinity", message.to_owned()));
    }
    let busy = |port: &Port| taken.ports.iter().any(|other| other.collides(port));
    ports(pod).any(|port| busy(&port)).then(|| {
        let message = "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";
        ("NodePorts", message.to_owned())
    })
}

/// Those of containers and sidecars.
fn ports(pod: &Pod) -> impl Iterator<Item = Port> {
    let containers = spec::all_containers(pod).filter(|c| !spec::is_init(pod, &c.name) || spec::is_sidecar(pod, c));
    let all = containers.flat_map(|container| container.ports.iter().flatten());
    all.filter_map(|port| {
        let any = ["", "0.0.0.0", "::"];
        let ip = port.host_ip.clone().unwrap_or_default();
        Some(Port {
            ip: if any.contains(&ip.as_str()) { String::new() } else { ip },
            protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
            number: port.host_port.filter(|number| *number > 0)?,
        })
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(more: Value) -> Pod {
        let mut spec = json!({"containers": [{"name": "c"}]});
        if let (Some(spec), Value::Object(more)) = (spec.as_object_mut(), more) {
            spec.extend(more);
        }
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    }

    fn port(number: i32, more: Value) -> Value {
        let mut port = json!({"containerPort": 80, "hostPort": number});
        for (key, value) in more.as_object().into_iter().flatten() {
            port[key] = value.clone();
        }
        json!({"containers": [{"name": "c", "ports": [port]}]})
    }

    fn node() -> Labelled {
        Labelled {
            name: "node-1".into(),
            labels: [("disk".to_owned(), "ssd".to_owned())].into(),
        }
    }

    const SMALL: Capacity = Capacity {
        cpu_millis: 1000,
        memory_bytes: 1024,
        pods: 2,
    };

    fn told(pod: &Pod, requests: (u64, u64), taken: &Taken) -> String {
        let refusal = refusal(pod, requests, &node(), &SMALL, taken);
        refusal
            .map(|(reason, message)| format!("{reason}: {message}"))
            .unwrap_or_default()
    }

    #[test]
    fn what_is_too_much_for_the_node_is_refused_in_the_kubelets_words() {
        let (plain, mut taken) = (pod(json!({})), Taken::default());
        assert_eq!(told(&plain, (1000, 1024), &taken), "");
        taken.add(&plain, (600, 1000));
        let enough = "Node didn't have enough resource:";
        assert_eq!(told(&plain, (400, 24), &taken), "");
        assert_eq!(
            told(&plain, (401, 24), &taken),
            format!("OutOfcpu: {enough} cpu, requested: 401, used: 600, capacity: 1000")
        );
        assert_eq!(
            told(&plain, (0, 25), &taken),
            format!("OutOfmemory: {enough} memory, requested: 25, used: 1000, capacity: 1024")
        );
        taken.add(&plain, (600, 0));
        assert_eq!(
            told(&plain, (0, 0), &taken),
            format!("OutOfpods: {enough} pods, requested: 1, used: 2, capacity: 2")
        );
    }

    #[test]
    fn what_has_all_it_wants_counts_although_the_node_has_too_much_already() {
        let (plain, mut taken) = (pod(json!({})), Taken::default());
        taken.add(&plain, (2000, 5000));
        assert_eq!(told(&plain, (0, 0), &taken), "");
    }

    #[test]
    fn ports_of_the_node_are_one_pods() {
        let mut taken = Taken::default();
        taken.add(&pod(port(8080, json!({"hostIP": "10.0.0.1"}))), (0, 0));
        let refused =
            "NodePorts: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";
        for (more, expected) in [
            (json!({}), refused),
            (json!({"hostIP": "0.0.0.0"}), refused),
            (json!({"hostIP": "10.0.0.1"}), refused),
            (json!({"hostIP": "10.0.0.2"}), ""),
            (json!({"protocol": "UDP"}), ""),
        ] {
            assert_eq!(told(&pod(port(8080, more.clone())), (0, 0), &taken), expected, "{more}");
        }
        assert_eq!(told(&pod(port(8081, json!({}))), (0, 0), &taken), "");
    }

    #[test]
    fn whoever_asks_for_another_node_is_refused() {
        let taken = Taken::default();
        let refused = "NodeAffinity: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector";
        let required = |term: Value| {
            let terms = json!({"nodeSelectorTerms": [term]});
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}})
        };
        let by = |list: &str, key: &str, value: &str| {
            required(json!({list: [{"key": key, "operator": "In", "values": [value]}]}))
        };
        for (more, labels, expected) in [
            (json!({"nodeSelector": {"disk": "ssd"}}), true, ""),
            (json!({"nodeSelector": {"disk": "hdd"}}), true, refused),
            (by("matchExpressions", "disk", "ssd"), true, ""),
            (by("matchExpressions", "disk", "hdd"), true, refused),
            (by("matchFields", "metadata.name", "node-1"), false, ""),
            (by("matchFields", "metadata.name", "node-2"), false, refused),
            (json!({}), false, ""),
        ] {
            let pod = pod(more.clone());
            assert_eq!(
                (asks_for_labels(&pod), told(&pod, (0, 0), &taken).as_str()),
                (labels, expected),
                "{more}"
            );
        }
    }
}
