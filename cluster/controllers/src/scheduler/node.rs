//! A node as the scheduler counts it, and what a pod takes away from it.

use std::collections::{BTreeMap, HashMap};

use crate::objects::{Pod, Requests, Taint, controller_of};

/// Assumed for scoring when a pod asks for nothing: otherwise such pods would all land on one node.
const ASSUMED_CPU: i64 = 100;
const ASSUMED_MEMORY: i64 = 200 * 1024 * 1024;

/// What a pod takes away from its node.
#[derive(Clone, Debug, Default)]
pub(super) struct Share {
    pub(super) requests: Requests,
    /// uid of its controller, for spreading.
    pub(super) owner: Option<String>,
}

impl Share {
    pub(super) fn of(pod: &Pod) -> Self {
        Self {
            requests: pod.spec.requests.clone(),
            owner: controller_of(&pod.metadata).map(|owner| owner.uid.clone()),
        }
    }
}

/// A node with the sum of its pods.
#[derive(Clone, Debug, Default)]
pub(super) struct NodeState {
    pub(super) name: String,
    pub(super) known: bool,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) taints: Vec<Taint>,
    pub(super) unschedulable: bool,
    pub(super) allocatable: Requests,
    pub(super) most_pods: i64,
    pub(super) used: Requests,
    /// Like `used`, with Kubernetes' assumed 100m and 200 MB for containers that ask for nothing (scoring only).
    pub(super) weight: (i64, i64),
    pub(super) pods: i64,
    pub(super) owners: HashMap<String, u32>,
}

/// CPU (thousandths) and memory (bytes) for scoring.
pub(super) fn weight(requests: &Requests) -> (i64, i64) {
    let or = |value: i64, assumed: i64| if value == 0 { assumed } else { value };
    (or(requests.cpu, ASSUMED_CPU), or(requests.memory, ASSUMED_MEMORY))
}

impl NodeState {
    /// Adds what a pod takes (`sign` 1), or gives it back (-1).
    pub(super) fn change(&mut self, share: &Share, sign: i64) {
        let requests = &share.requests;
        self.used.cpu += sign * requests.cpu;
        self.used.memory += sign * requests.memory;
        for (name, amount) in &requests.other {
            *self.used.other.entry(name.clone()).or_default() += sign * amount;
        }
        let (cpu, memory) = weight(requests);
        self.weight.0 += sign * cpu;
        self.weight.1 += sign * memory;
        self.pods += sign;
        for port in &requests.host_ports {
            if sign > 0 {
                self.used.host_ports.push(port.clone());
            } else if let Some(at) = self.used.host_ports.iter().position(|used| used == port) {
                self.used.host_ports.swap_remove(at);
            }
        }
        if let Some(owner) = &share.owner {
            let count = self.owners.entry(owner.clone()).or_default();
            *count = if sign > 0 { *count + 1 } else { count.saturating_sub(1) };
            if *count == 0 {
                self.owners.remove(owner);
            }
        }
    }
}
