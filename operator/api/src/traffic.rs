//! NodeTraffic: what the proxy of one node does with pods, as the agent on that node reports it.

use std::collections::BTreeMap;

use k8s_openapi::Resource as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::ser::SerializeStruct as _;
use serde::{Deserialize, Serialize, Serializer};

/// The report of one node; its name is the node's.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodeTraffic {
    /// Name and version.
    pub metadata: ObjectMeta,
    /// What the node's agent says.
    pub status: TrafficStatus,
}

/// With apiVersion and kind, which Kubernetes' own API server wants of custom resources.
impl Serialize for NodeTraffic {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct(Self::KIND, 4)?;
        object.serialize_field("apiVersion", Self::API_VERSION)?;
        object.serialize_field("kind", Self::KIND)?;
        object.serialize_field("metadata", &self.metadata)?;
        object.serialize_field("status", &self.status)?;
        object.end()
    }
}

/// What a node's agent says of the node's proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TrafficStatus {
    /// How it knows, for example EmbeddedProxy.
    pub method: String,
    /// The proxy has applied every Service and EndpointSlice once, and can be seen; otherwise, nothing it says counts.
    pub synced: bool,
    /// What is not known, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// By UID: pods that take no new connections, those that lost any, and those that something happened to within the last
    /// minute.
    pub pods: BTreeMap<String, PodTraffic>,
    /// By namespace and name ("default/web"): new connections through each Service since the proxy began. For rates: a
    /// report is not written for them alone.
    pub services: BTreeMap<String, u64>,
    /// By containerID, as pods' statuses have it: the image that the container was started by, in the very text that its
    /// pod's spec had then. Containers that were started in place of another one within the last minute, where the agent
    /// can ask the node's runtime; a status names the image in the runtime's words, which two tags may share.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub running: BTreeMap<String, String>,
    /// By containerID: the kubelet's hash of the name and image that the container was started from (Kubernetes 1.31 and later; before,
    /// of the whole container). Of containers as in `running` whose runtime does not keep the text.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub hashes: BTreeMap<String, u64>,
}

/// What a node's proxy does with one pod, over all Services that list it. Counts that are absent are not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodTraffic {
    /// Namespace and name, for people.
    pub pod: String,
    /// resourceVersion of the EndpointSlice that brought this state into force; of several, the oldest.
    pub applied: u64,
    /// The slices in force say that the pod takes new connections.
    pub ready: bool,
    /// New connections may go to it from this node.
    pub routed: bool,
    /// Connections from this node that it still has while no new ones may go to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open: Option<u64>,
    /// New connections that it was given since the proxy began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opened: Option<u64>,
    /// Connections that it refused since the proxy began, or that found no way to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<u64>,
    /// Connections that it aborted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reset: Option<u64>,
    /// Connections that it did not answer in time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timed_out: Option<u64>,
}

crate::kind!(
    NodeTraffic,
    "afloat.dev" / "v1alpha1",
    "NodeTraffic",
    "nodetraffics",
    ClusterResourceScope
);
