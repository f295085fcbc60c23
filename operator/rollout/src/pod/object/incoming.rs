//! A pod as it comes from the API server: thousands come every minute, and of their ten kilobytes a tenth is read. Who set which
//! field (`managedFields`) alone is hundreds of texts that nobody asks for, so the general type of metadata is not for here.

use afloat_words::daemon::pinned_to;
use k8s_openapi::api::core::v1::Affinity;
use std::sync::Arc;

use afloat_api::names;
use afloat_words::annotation::LAST_APPLIED;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

use super::{Container, ContainerStatus, Controller, Metadata, Pod, PodCondition, PodSpec, PodStatus, ReadinessGate};
use crate::texts::{Entries, Text};

/// A pod as a watch reads it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(from = "Pod")]
pub struct Wire {
    /// What a watch asks for, which is the version only.
    metadata: ObjectMeta,
    pod: Pod,
}

/// Reads a pod's text. It is compiled here, where the plan is, for speed: elsewhere it would be for size.
///
/// # Errors
/// It is no pod.
pub fn read(text: &str) -> serde_json::Result<Wire> {
    serde_json::from_str(text)
}

afloat_api::kind!(Wire, "v1", "Pod", "pods", NamespaceResourceScope);

impl From<Pod> for Wire {
    fn from(pod: Pod) -> Self {
        let metadata = ObjectMeta {
            resource_version: Some(pod.metadata.resource_version.to_string()),
            ..ObjectMeta::default()
        };
        Self { metadata, pod }
    }
}

impl From<Wire> for Pod {
    fn from(wire: Wire) -> Self {
        wire.pod
    }
}

/// What is read of a pod.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Incoming {
    metadata: Meta,
    spec: Spec,
    status: Status,
}

/// What is read of its spec.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    node_name: Option<Text>,
    affinity: Option<Affinity>,
    containers: Vec<Container>,
    init_containers: Vec<Container>,
    readiness_gates: Vec<ReadinessGate>,
}

/// What is read of its status.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    phase: Text,
    conditions: Vec<PodCondition>,
    container_statuses: Vec<ContainerStatus>,
    init_container_statuses: Vec<ContainerStatus>,
    observed_generation: Option<i64>,
    resize: Option<Text>,
}

impl From<Spec> for PodSpec {
    fn from(spec: Spec) -> Self {
        let mut containers = spec.containers;
        for container in &mut containers {
            // Since Kubernetes 1.34 these may have a policy of their own, too.
            container.sidecar = false;
        }
        let nodes = spec.affinity.and_then(|affinity| affinity.node_affinity);
        containers.extend(spec.init_containers.into_iter().filter(|container| container.sidecar));
        Self {
            node_name: spec.node_name,
            pinned_to: nodes.as_ref().and_then(pinned_to).map(Text::from),
            containers: Arc::new(exact(containers)),
            readiness_gates: Arc::new(exact(spec.readiness_gates)),
        }
    }
}

impl Status {
    /// Of init containers only sidecars have a say once the pod runs.
    fn of(self, spec: &PodSpec) -> PodStatus {
        let sidecar = |status: &ContainerStatus| {
            let mut all = spec.containers.iter();
            all.any(|container| container.sidecar && container.name == status.name)
        };
        let mut container_statuses = self.container_statuses;
        for mut status in self.init_container_statuses.into_iter().filter(sidecar) {
            status.sidecar = true;
            container_statuses.push(status);
        }
        PodStatus {
            phase: self.phase,
            conditions: known(self.conditions),
            container_statuses: exact(container_statuses),
            observed_generation: self.observed_generation,
            resize: self.resize,
        }
    }
}

/// A list without room to grow: there are thousands of them.
fn exact<T>(mut all: Vec<T>) -> Vec<T> {
    all.shrink_to_fit();
    all
}

/// Conditions without those that nobody asks for. That all containers are ready says something only where the pod is not.
fn known(mut all: Vec<PodCondition>) -> Vec<PodCondition> {
    let ready = all.iter().any(|one| one.kind == "Ready" && one.status == "True");
    all.retain(|condition| {
        let kind = condition.kind.as_str();
        kind == "ContainersReady" && !ready
            || matches!(kind, "Ready" | names::INPLACE_READY | names::KRUISE_POD_READY)
            || kind.starts_with("PodResize")
    });
    exact(all)
}

/// What is read of its metadata.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Meta {
    namespace: Option<Text>,
    name: Option<Text>,
    uid: Option<Text>,
    resource_version: Option<Text>,
    generation: Option<i64>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<IgnoredAny>,
    finalizers: Option<Vec<Text>>,
    #[serde(deserialize_with = "present")]
    labels: Entries,
    #[serde(deserialize_with = "present")]
    annotations: Entries,
    owner_references: Option<Vec<Owner>>,
}

/// What is read of an owner.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Owner {
    api_version: Text,
    kind: Text,
    name: Text,
    uid: Text,
    controller: Option<bool>,
}

/// None at all where it says `null`.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Entries, D::Error> {
    Ok(Option::<Entries>::deserialize(deserializer)?.unwrap_or_default())
}

impl<'de> Deserialize<'de> for Pod {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Incoming::deserialize(deserializer).map(Self::from)
    }
}

impl From<Incoming> for Pod {
    fn from(incoming: Incoming) -> Self {
        let meta = incoming.metadata;
        let mut owners = meta.owner_references.into_iter().flatten();
        let controller = owners.find(|owner| owner.controller == Some(true));
        let spec = PodSpec::from(incoming.spec);
        let status = incoming.status.of(&spec);
        Self {
            controller: controller.map(|owner| Controller {
                api_version: owner.api_version,
                kind: owner.kind,
                name: owner.name,
                uid: owner.uid,
            }),
            labels: meta.labels,
            // The second is another text for each pod, and decides nothing.
            annotations: meta
                .annotations
                .without(LAST_APPLIED)
                .without(names::LIFECYCLE_TIMESTAMP),
            metadata: Metadata {
                namespace: meta.namespace.unwrap_or_default(),
                name: meta.name.unwrap_or_default(),
                uid: meta.uid.unwrap_or_default(),
                resource_version: meta.resource_version.unwrap_or_default(),
                generation: meta.generation,
                created: meta.creation_timestamp.map(|time| time.0),
                terminating: meta.deletion_timestamp.is_some(),
                finalizers: meta.finalizers.unwrap_or_default().into(),
            },
            spec,
            status,
        }
    }
}

#[cfg(test)]
mod tests {
    use afloat_words::texts::Pool;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_read_and_what_is_not() {
        let text = json!({
            "metadata": {"namespace": "n", "name": "web", "uid": "u", "resourceVersion": "7", "generation": 2,
                "creationTimestamp": "2026-01-01T00:00:00Z", "deletionTimestamp": "2026-01-02T00:00:00Z",
                "finalizers": ["a/b"], "labels": {"b": "2", "a": "1"}, "annotations": {LAST_APPLIED: "{}", "x": "y\n"},
                "managedFields": [{"manager": "kubelet", "fieldsV1": {"f:status": {}}}],
                "ownerReferences": [{"apiVersion": "v1", "kind": "Other", "name": "o", "uid": "1"},
                    {"apiVersion": "apps.kruise.io/v1beta1", "kind": "CloneSet", "name": "c", "uid": "2", "controller": true}]},
            "spec": {"containers": [{"name": "app", "image": "app:1"}]},
        })
        .to_string();
        let pod: Pod = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (pod.name(), &*pod.metadata.uid, pod.metadata.generation),
            ("web", "u", Some(2))
        );
        assert!(pod.metadata.terminating && pod.metadata.created.is_some());
        assert_eq!(pod.metadata.finalizers.len(), 1);
        assert_eq!((pod.labels.get("a"), pod.labels.get("b")), (Some("1"), Some("2")));
        assert_eq!(
            (pod.annotations.get(LAST_APPLIED), pod.annotations.get("x")),
            (None, Some("y\n"))
        );
        assert_eq!(pod.controller.as_ref().map(|owner| &*owner.name), Some("c"));
        let wire: Wire = serde_json::from_str(&text).unwrap();
        assert_eq!(wire.metadata.resource_version.as_deref(), Some("7"));
        assert_eq!(Pod::from(wire).name(), "web");
    }

    #[test]
    fn sidecars_are_containers_and_other_init_containers_are_not() {
        let pod: Pod = serde_json::from_value(json!({
            "spec": {"containers": [{"name": "app", "restartPolicy": "Always"}],
                "initContainers": [{"name": "setup", "image": "s:1"}, {"name": "mesh", "image": "m:1", "restartPolicy": "Always"},
                    {"name": "once", "restartPolicy": "OnFailure"}]},
            "status": {"containerStatuses": [{"name": "app", "ready": true}],
                "initContainerStatuses": [{"name": "setup", "state": {"terminated": {}}}, {"name": "mesh", "ready": true}]},
        }))
        .unwrap();
        let all = pod.spec.containers.iter();
        let all: Vec<_> = all
            .map(|container| (container.name.as_str(), container.sidecar))
            .collect();
        assert_eq!(all, [("app", false), ("mesh", true)]);
        assert!(
            pod.steady(),
            "an init container that is over is nothing that does not run"
        );
        assert!(pod.container_status("mesh").unwrap().sidecar);
        let late = json!({"spec": {"containers": [{"name": "app"}], "initContainers": [{"name": "mesh", "restartPolicy": "Always"}]},
            "status": {"initContainerStatuses": [{"name": "mesh", "ready": false}]}});
        assert!(!serde_json::from_value::<Pod>(late).unwrap().steady());
    }

    #[test]
    fn nothing_is_needed() {
        let bare = json!({"metadata": {"labels": null, "annotations": null, "creationTimestamp": null, "ownerReferences": null}});
        let pod: Pod = serde_json::from_value(bare).unwrap();
        assert!(pod.controller.is_none() && pod.labels.get("a").is_none() && pod.name().is_empty());
    }

    #[test]
    fn another_version_alone_reads_the_same() {
        let pod = |version: &str, status: &str| -> Pod {
            serde_json::from_value(json!({"metadata": {"uid": "u", "resourceVersion": version},
                "status": {"conditions": [{"type": "Ready", "status": status}, {"type": "Initialized", "status": version}]}}))
            .unwrap()
        };
        assert!(pod("2", "True").reads_as(&pod("1", "True")));
        assert!(!pod("2", "False").reads_as(&pod("1", "True")));
        let mut shared = pod("2", "True");
        shared.share(Some(&pod("1", "True")), &mut Pool::default());
        assert_eq!(shared, pod("2", "True"), "sharing changes no text");
    }
}
