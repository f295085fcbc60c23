//! What an agent has to be told, and the limits that all of its parts keep to.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::core::v1::Taint;

use crate::clock::Clock;
use crate::pod::back_off::BackOffLimits;

/// Longest wait for one API call.
pub(crate) const API_LIMIT: Duration = Duration::from_secs(15);

/// What a node can carry.
#[derive(Clone, Debug)]
pub struct Capacity {
    /// Cores, in thousandths.
    pub cpu_millis: u64,
    /// Bytes.
    pub memory_bytes: u64,
    /// Number of pods.
    pub pods: u32,
}

impl Default for Capacity {
    fn default() -> Self {
        Self {
            cpu_millis: 4000,
            memory_bytes: 8 << 30,
            pods: 110,
        }
    }
}

impl Capacity {
    /// As the API has it.
    pub(crate) fn quantities(&self) -> BTreeMap<String, String> {
        let cpu = if self.cpu_millis.is_multiple_of(1000) {
            (self.cpu_millis / 1000).to_string()
        } else {
            format!("{}m", self.cpu_millis)
        };
        let memory = format!("{}Ki", self.memory_bytes / 1024);
        [("cpu", cpu), ("memory", memory), ("pods", self.pods.to_string())]
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }
}

/// Everything that an agent has to be told.
#[derive(Clone, Debug)]
pub struct AgentOptions {
    /// Name of the Node object.
    pub node_name: String,
    /// The node's InternalIP.
    pub node_ip: IpAddr,
    /// Where pod addresses come from, `10.244.1.0/24`.
    pub pod_cidr: String,
    /// For volumes, logs and generated files of this node alone.
    pub dir: PathBuf,
    /// Labels beside the well-known ones.
    pub labels: BTreeMap<String, String>,
    /// Taints that the node registers with.
    pub taints: Vec<Taint>,
    /// What it can carry.
    pub capacity: Capacity,
    /// The cluster's DNS server; None: pods use the host's.
    pub cluster_dns: Option<IpAddr>,
    /// The node's own `resolv.conf`, as text: what pods with `dnsPolicy: Default` get.
    pub resolv_conf: String,
    /// `cluster.local`.
    pub cluster_domain: String,
    /// How often the lease is renewed; it is good for 40 s.
    pub lease_interval: Duration,
    /// Back-off of containers that crash and of images that are missing.
    pub restart_back_off: BackOffLimits,
    /// Longest wait for the runtime; then the call counts as failed, whatever may still come of it.
    pub runtime_limit: Duration,
    /// Where the time comes from.
    pub clock: Clock,
}

impl AgentOptions {
    /// Options with Kubernetes' defaults.
    pub fn new(node_name: impl Into<String>, node_ip: IpAddr, dir: impl Into<PathBuf>) -> Self {
        Self {
            node_name: node_name.into(),
            node_ip,
            pod_cidr: String::new(),
            dir: dir.into(),
            labels: BTreeMap::new(),
            taints: vec![],
            capacity: Capacity::default(),
            cluster_dns: None,
            resolv_conf: String::new(),
            cluster_domain: "cluster.local".to_owned(),
            lease_interval: Duration::from_secs(10),
            restart_back_off: BackOffLimits::default(),
            runtime_limit: Duration::from_secs(60),
            clock: Clock::System,
        }
    }
}
