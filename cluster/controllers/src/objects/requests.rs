//! What a pod asks of a node.

use std::collections::BTreeMap;

use afloat_words::quantity::Quantity;
use serde::Deserialize;

/// A container, as far as it takes something from a node.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Container {
    pub(super) name: String,
    pub(super) resources: Resources,
    pub(super) ports: Vec<Port>,
    pub(super) restart_policy: Option<String>,
}

/// Its requests and limits, as quantities.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Resources {
    pub(super) requests: BTreeMap<String, String>,
    pub(super) limits: BTreeMap<String, String>,
}

/// One of its ports.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Port {
    pub(super) name: String,
    pub(super) container_port: u16,
    pub(super) host_port: u16,
    #[serde(rename = "hostIP")]
    pub(super) host_ip: String,
    pub(super) protocol: String,
}

impl Port {
    fn protocol(&self) -> &str {
        if self.protocol.is_empty() {
            "TCP"
        } else {
            &self.protocol
        }
    }
}

/// What a pod asks of a node: the documented sum (containers and sidecars, or the largest init container if that is more).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Requests {
    /// Thousandths of a CPU.
    pub(crate) cpu: i64,
    /// Bytes.
    pub(crate) memory: i64,
    /// Every other resource, in thousandths of its unit.
    pub(crate) other: BTreeMap<String, i64>,
    /// Ports on the node: protocol, address ("" for all), port.
    pub(crate) host_ports: Vec<(String, String, u16)>,
}

/// Thousandths. What is no quantity is nothing; the API server refuses it.
pub(crate) fn milli(text: &str) -> i64 {
    text.parse().map_or(0, Quantity::milli)
}

/// Whole units.
pub(crate) fn whole(text: &str) -> i64 {
    text.parse().map_or(0, Quantity::value)
}

impl Requests {
    fn of(container: &Container) -> Self {
        let mut sum = Self::default();
        // A limit without a request counts as a request: the API server's default.
        let implied = container
            .resources
            .limits
            .iter()
            .filter(|(name, _)| !container.resources.requests.contains_key(*name));
        for (name, text) in container.resources.requests.iter().chain(implied) {
            sum.add_one(name, text);
        }
        sum
    }

    /// With what the node has granted already: the larger counts, as a resize may still be under way (KEP-1287).
    fn of_resized(container: &Container, resize: &Resize) -> Self {
        let mut own = Self::of(container);
        if let Some(granted) = resize.granted.get(&container.name) {
            if resize.infeasible {
                (own.cpu, own.memory) = (granted.cpu, granted.memory);
            } else {
                own.cpu = own.cpu.max(granted.cpu);
                own.memory = own.memory.max(granted.memory);
            }
        }
        own
    }

    /// Adds an amount of one resource.
    pub(super) fn add_one(&mut self, name: &str, text: &str) {
        match name {
            "cpu" => self.cpu = self.cpu.saturating_add(milli(text)),
            "memory" => self.memory = self.memory.saturating_add(whole(text)),
            _ => {
                let entry = self.other.entry(name.to_owned()).or_default();
                *entry = entry.saturating_add(milli(text));
            }
        }
    }

    fn add(&mut self, more: &Self) {
        self.cpu = self.cpu.saturating_add(more.cpu);
        self.memory = self.memory.saturating_add(more.memory);
        for (name, amount) in &more.other {
            let entry = self.other.entry(name.clone()).or_default();
            *entry = entry.saturating_add(*amount);
        }
    }

    fn raise_to(&mut self, floor: &Self) {
        self.cpu = self.cpu.max(floor.cpu);
        self.memory = self.memory.max(floor.memory);
        for (name, amount) in &floor.other {
            let entry = self.other.entry(name.clone()).or_default();
            *entry = (*entry).max(*amount);
        }
    }
}

/// What of a pod's resources is not as its spec says.
#[derive(Default)]
pub(super) struct Resize {
    /// By container.
    pub(super) granted: BTreeMap<String, Requests>,
    /// What the spec asks for will never be.
    pub(super) infeasible: bool,
}

/// The documented sum of a pod's containers and its overhead.
pub(super) fn sum_of(
    containers: &[Container],
    init_containers: &[Container],
    overhead: &BTreeMap<String, String>,
    resize: &Resize,
) -> Requests {
    let mut running = Requests::default();
    for container in containers {
        running.add(&Requests::of_resized(container, resize));
    }
    // Sidecars run beside everything that starts after them (KEP-753).
    let mut sidecars = Requests::default();
    let mut peak = Requests::default();
    for container in init_containers {
        let own = Requests::of_resized(container, resize);
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars.add(&own);
            peak.raise_to(&sidecars);
        } else {
            let mut now = sidecars.clone();
            now.add(&own);
            peak.raise_to(&now);
        }
    }
    running.add(&sidecars);
    running.raise_to(&peak);
    for (name, text) in overhead {
        running.add_one(name, text);
    }
    running.host_ports = containers
        .iter()
        .chain(init_containers)
        .flat_map(|container| &container.ports)
        .filter(|port| port.host_port != 0)
        .map(|port| {
            let address = if port.host_ip == "0.0.0.0" { "" } else { &port.host_ip };
            (port.protocol().to_owned(), address.to_owned(), port.host_port)
        })
        .collect();
    running
}

/// Named ports of containers that keep running: name, protocol, number.
pub(super) fn named_ports(containers: &[Container], init_containers: &[Container]) -> Vec<(String, String, u16)> {
    let sidecar = |container: &&Container| container.restart_policy.as_deref() == Some("Always");
    containers
        .iter()
        .chain(init_containers.iter().filter(sidecar))
        .flat_map(|container| &container.ports)
        .filter(|port| !port.name.is_empty())
        .map(|port| (port.name.clone(), port.protocol().to_owned(), port.container_port))
        .collect()
}
