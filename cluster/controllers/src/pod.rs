//! What the loops know of a Pod: about a tenth of it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use afloat_words::quantity::Quantity;
use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Affinity, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::Deserialize;

use crate::objects::{Index, Kind, default_indexes, partial_kind, trim_metadata};

/// Annotation by which a user says which pods of a ReplicaSet go first; lower goes first.
pub(crate) const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// A Pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Pod {
    pub(crate) metadata: ObjectMeta,
    pub(crate) spec: PodSpec,
    pub(crate) status: PodStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodSpec {
    pub(crate) node_name: Option<String>,
    pub(crate) scheduler_name: Option<String>,
    pub(crate) node_selector: BTreeMap<String, String>,
    pub(crate) affinity: Option<Box<Affinity>>,
    pub(crate) tolerations: Vec<Toleration>,
    pub(crate) scheduling_gates: Vec<Named>,
    pub(crate) priority: Option<i32>,
    pub(crate) overhead: BTreeMap<String, String>,
    pub(crate) hostname: Option<String>,
    pub(crate) subdomain: Option<String>,
    /// Emptied by [`Kind::trim`].
    volumes: Vec<PodVolume>,
    /// Claims among its volumes.
    #[serde(skip)]
    pub(crate) claims: Vec<PodClaim>,
    /// Emptied by [`Kind::trim`], after [`PodSpec::requests`] has been summed up from it.
    containers: Vec<Container>,
    init_containers: Vec<Container>,
    /// What the pod takes from a node.
    #[serde(skip)]
    pub(crate) requests: Requests,
    /// Named ports of containers that keep running: name, protocol, number.
    #[serde(skip)]
    pub(crate) named_ports: Vec<(String, String, u16)>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodVolume {
    name: String,
    persistent_volume_claim: Option<ClaimSource>,
    ephemeral: Option<serde::de::IgnoredAny>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ClaimSource {
    claim_name: String,
}

/// A claim that a pod mounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodClaim {
    pub(crate) name: String,
    /// Made for this pod alone, from a template in its volume.
    pub(crate) ephemeral: bool,
}

/// An entry that is only a name.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Named {
    pub(crate) name: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Container {
    name: String,
    resources: Resources,
    ports: Vec<Port>,
    restart_policy: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Resources {
    requests: BTreeMap<String, String>,
    limits: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Port {
    name: String,
    container_port: u16,
    host_port: u16,
    #[serde(rename = "hostIP")]
    host_ip: String,
    protocol: String,
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

    fn add_one(&mut self, name: &str, text: &str) {
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
struct Resize {
    /// By container.
    granted: BTreeMap<String, Requests>,
    /// What the spec asks for will never be.
    infeasible: bool,
}

impl Resize {
    /// Takes it out of the status, where nobody else looks for it.
    fn take(status: &mut PodStatus) -> Self {
        let mut resize = Self::default();
        let pending = |c: &PodCondition| c.type_ == "PodResizePending" && c.reason.as_deref() == Some("Infeasible");
        resize.infeasible = status.conditions.iter().any(pending);
        let init = std::mem::take(&mut status.init_container_statuses);
        let entries = status.container_statuses.iter_mut().map(|entry| {
            let granted = std::mem::take(&mut entry.allocated_resources);
            (std::mem::take(&mut entry.name), granted)
        });
        let init = init.into_iter().map(|entry| (entry.name, entry.allocated_resources));
        for (name, amounts) in entries.chain(init).filter(|(_, amounts)| !amounts.is_empty()) {
            let mut granted = Requests::default();
            for (name, text) in &amounts {
                granted.add_one(name, text);
            }
            resize.granted.insert(name, granted);
        }
        resize
    }
}

impl PodSpec {
    /// Sums the requests up, keeps the named ports, and lets the containers go.
    fn sum_up(&mut self, resize: &Resize) {
        let containers = std::mem::take(&mut self.containers);
        let init_containers = std::mem::take(&mut self.init_containers);
        if containers.is_empty() && init_containers.is_empty() {
            return;
        }
        let mut running = Requests::default();
        for container in &containers {
            running.add(&Requests::of_resized(container, resize));
        }
        // Sidecars run beside everything that starts after them (KEP-753).
        let mut sidecars = Requests::default();
        let mut peak = Requests::default();
        for container in &init_containers {
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
        for (name, text) in &self.overhead {
            running.add_one(name, text);
        }
        running.host_ports = containers
            .iter()
            .chain(&init_containers)
            .flat_map(|container| &container.ports)
            .filter(|port| port.host_port != 0)
            .map(|port| {
                let address = if port.host_ip == "0.0.0.0" { "" } else { &port.host_ip };
                (port.protocol().to_owned(), address.to_owned(), port.host_port)
            })
            .collect();
        let sidecar = |container: &&Container| container.restart_policy.as_deref() == Some("Always");
        self.named_ports = containers
            .iter()
            .chain(init_containers.iter().filter(sidecar))
            .flat_map(|container| &container.ports)
            .filter(|port| !port.name.is_empty())
            .map(|port| (port.name.clone(), port.protocol().to_owned(), port.container_port))
            .collect();
        self.requests = running;
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodStatus {
    pub(crate) phase: String,
    pub(crate) reason: String,
    #[serde(rename = "podIP")]
    pub(crate) pod_ip: String,
    pub(crate) conditions: Vec<PodCondition>,
    pub(crate) container_statuses: Vec<ContainerStatus>,
    /// Emptied by [`Kind::trim`].
    init_container_statuses: Vec<ContainerStatus>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodCondition {
    #[serde(rename = "type")]
    pub(crate) type_: String,
    pub(crate) status: String,
    pub(crate) reason: Option<String>,
    pub(crate) message: Option<String>,
    pub(crate) last_transition_time: Option<Time>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ContainerStatus {
    pub(crate) restart_count: i32,
    /// Emptied by [`Kind::trim`], as the next one.
    name: String,
    allocated_resources: BTreeMap<String, String>,
}

partial_kind!(Pod, "", "Pod", "pods", NamespaceResourceScope);

impl Kind for Pod {
    fn trim(&mut self) {
        self.spec.sum_up(&Resize::take(&mut self.status));
        let name = self.metadata.name.as_deref().unwrap_or_default();
        let volumes = std::mem::take(&mut self.spec.volumes);
        let claims = volumes.into_iter().filter_map(|volume| {
            let ephemeral = volume.ephemeral.is_some();
            let own = || ephemeral.then(|| format!("{name}-{}", volume.name));
            let claim = volume.persistent_volume_claim.map(|source| source.claim_name);
            let name = claim.or_else(own)?;
            Some(PodClaim { name, ephemeral })
        });
        self.spec.claims = claims.collect();
        let meta = &mut self.metadata;
        trim_metadata(meta);
        meta.generate_name = None;
        if let Some(annotations) = &mut meta.annotations {
            annotations.retain(|name, _| name == DELETION_COST);
            if annotations.is_empty() {
                meta.annotations = None;
            }
        }
        self.status
            .conditions
            .retain(|condition| matches!(condition.type_.as_str(), "Ready" | "PodScheduled"));
        self.status.conditions.shrink_to_fit();
        self.status.container_statuses.shrink_to_fit();
    }

    fn indexes(&self) -> Vec<Index> {
        let mut indexes = default_indexes(&self.metadata);
        if let Some(node) = self.node() {
            indexes.push(Index::Node(node.to_owned()));
        }
        indexes
    }
}

impl Pod {
    pub(crate) fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    pub(crate) fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }

    /// The node it is bound to.
    pub(crate) fn node(&self) -> Option<&str> {
        self.spec.node_name.as_deref().filter(|name| !name.is_empty())
    }

    pub(crate) fn condition(&self, type_: &str) -> Option<&PodCondition> {
        self.status.conditions.iter().find(|condition| condition.type_ == type_)
    }

    pub(crate) fn is_terminating(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// Succeeded or Failed: its containers will not run again.
    pub(crate) fn is_finished(&self) -> bool {
        matches!(self.status.phase.as_str(), "Succeeded" | "Failed")
    }

    /// Neither finished nor being deleted.
    pub(crate) fn is_active(&self) -> bool {
        !self.is_finished() && !self.is_terminating()
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.condition("Ready")
            .is_some_and(|condition| condition.status == "True")
    }

    /// When it last became ready.
    pub(crate) fn ready_since(&self) -> Option<Timestamp> {
        let ready = self.condition("Ready").filter(|condition| condition.status == "True")?;
        ready.last_transition_time.as_ref().map(|time| time.0)
    }

    /// Ready for at least `min_ready_seconds`. `Err(when)` if it is ready and will be available then.
    pub(crate) fn is_available(&self, min_ready_seconds: i32, now: Timestamp) -> Result<bool, Timestamp> {
        if !self.is_ready() {
            return Ok(false);
        }
        if min_ready_seconds <= 0 {
            return Ok(true);
        }
        let Some(since) = self.ready_since() else {
            return Ok(false);
        };
        let at = Timestamp::from_second(since.as_second() + i64::from(min_ready_seconds)).unwrap_or(Timestamp::MAX);
        if at <= now { Ok(true) } else { Err(at) }
    }

    /// The most restarts of one of its containers.
    pub(crate) fn restarts(&self) -> i32 {
        self.status
            .container_statuses
            .iter()
            .map(|status| status.restart_count)
            .max()
            .unwrap_or(0)
    }

    /// The user's deletion cost, 0 if absent or unreadable.
    pub(crate) fn deletion_cost(&self) -> i32 {
        let annotations = self.metadata.annotations.as_ref();
        annotations
            .and_then(|all| all.get(DELETION_COST))
            .and_then(|text| text.parse().ok())
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn requests_follow_the_documented_sum() {
        let mut pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "a"},
            "spec": {
                "initContainers": [
                    {"name": "side", "restartPolicy": "Always", "resources": {"requests": {"cpu": "100m"}}},
                    {"name": "init", "resources": {"requests": {"cpu": "2", "memory": "10Mi"}}}
                ],
                "containers": [
                    {"name": "a", "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}}, "ports": [{"name": "http", "containerPort": 8080, "hostPort": 80}]},
                    {"name": "b", "resources": {"limits": {"cpu": "250m", "example.com/gpu": "1"}}}
                ],
                "overhead": {"cpu": "10m"}
            }
        }))
        .unwrap();
        pod.trim();
        assert_eq!(pod.spec.requests.cpu, 2110);
        assert_eq!(pod.spec.requests.memory, 1 << 30);
        assert_eq!(pod.spec.requests.other.get("example.com/gpu"), Some(&1000));
        assert_eq!(
            pod.spec.requests.host_ports,
            vec![("TCP".to_owned(), String::new(), 80)]
        );
        assert_eq!(pod.spec.named_ports, vec![("http".to_owned(), "TCP".to_owned(), 8080)]);
    }

    #[test]
    fn a_resize_under_way_counts_with_the_larger_figure() {
        let requests = |reason: Option<&str>| {
            let condition =
                reason.map(|reason| json!({"type": "PodResizePending", "status": "True", "reason": reason}));
            let mut pod: Pod = serde_json::from_value(json!({
                "metadata": {"name": "p", "namespace": "n"},
                "spec": {"containers": [{"name": "a", "resources": {"requests": {"cpu": "1", "memory": "1Mi"}}}, {"name": "b"}]},
                "status": {"conditions": Vec::from_iter(condition), "containerStatuses": [
                    {"name": "a", "allocatedResources": {"cpu": "500m", "memory": "2Mi"}}, {"name": "b"}]},
            }))
            .unwrap();
            pod.trim();
            (pod.spec.requests.cpu, pod.spec.requests.memory)
        };
        assert_eq!(requests(None), (1000, 2 << 20));
        assert_eq!(requests(Some("Deferred")), (1000, 2 << 20));
        assert_eq!(requests(Some("Infeasible")), (500, 2 << 20));
    }
}
