//! What the loops know of a Pod: about a tenth of it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Affinity, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::Deserialize;

use super::kind::{Index, Kind, default_indexes, partial_kind};
use super::requests::{Container, Requests, Resize, named_ports, sum_of};

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

impl PodSpec {
    /// Sums the requests up, keeps the named ports, and lets the containers go.
    fn sum_up(&mut self, resize: &Resize) {
        let containers = std::mem::take(&mut self.containers);
        let init_containers = std::mem::take(&mut self.init_containers);
        if containers.is_empty() && init_containers.is_empty() {
            return;
        }
        self.requests = sum_of(&containers, &init_containers, &self.overhead, resize);
        self.named_ports = named_ports(&containers, &init_containers);
    }
}

/// Takes what of a pod's resources is not as its spec says out of the status, where nobody else looks for it.
fn take_resize(status: &mut PodStatus) -> Resize {
    let mut resize = Resize::default();
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

partial_kind!(Pod, "", "Pod", "pods", NamespaceResourceScope);

impl Kind for Pod {
    fn trim(&mut self) {
        self.spec.sum_up(&take_resize(&mut self.status));
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

    fn found_under(&self) -> Vec<Index> {
        let mut indexes = default_indexes(&self.metadata);
        if let Some(node) = self.node() {
            indexes.push(Index::Node(node.into()));
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

    /// When its readiness last changed.
    pub(crate) fn ready_changed_at(&self) -> Option<Timestamp> {
        let ready = self.condition("Ready")?;
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
