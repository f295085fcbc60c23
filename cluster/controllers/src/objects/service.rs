//! What the loops know of Services, and of the objects that say who serves them.

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{EndpointSubset, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

use super::kind::{Kind, partial_kind};

/// Label that names the Service of a slice.
pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Label that names who keeps a slice.
pub(crate) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// Its value in the slices that are made of Endpoints, Kubernetes' own.
pub(crate) const MIRRORING: &str = "endpointslicemirroring-controller.k8s.io";
/// Label of what is made for headless Services.
pub(crate) const HEADLESS: &str = "service.kubernetes.io/headless";
/// Label of Endpoints that are not to be mirrored.
pub(crate) const SKIP_MIRROR: &str = "endpointslice.kubernetes.io/skip-mirror";
/// Annotation of Endpoints that are a lock, and belong to no Service.
pub(crate) const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// Annotation of Endpoints: when that changed for which they were written.
pub(crate) const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// A Service.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Service {
    pub(crate) metadata: ObjectMeta,
    pub(crate) spec: ServiceSpec,
}

partial_kind!(Service, "", "Service", "services", NamespaceResourceScope);

impl Kind for Service {
    fn trim(&mut self) {
        self.metadata.annotations = None;
    }
}

impl Service {
    /// Whether pods are chosen for it: others have the endpoints that somebody gives them.
    pub(crate) fn has_selector(&self) -> bool {
        self.spec.selector.as_ref().is_some_and(|selector| !selector.is_empty())
    }

    /// Whether its selector takes an object with this metadata.
    pub(crate) fn selects(&self, meta: &ObjectMeta) -> bool {
        let label = |key: &str| meta.labels.as_ref().and_then(|labels| labels.get(key));
        self.has_selector()
            && self
                .spec
                .selector
                .iter()
                .flatten()
                .all(|(key, value)| label(key) == Some(value))
    }
}

/// An Endpoints object.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Endpoints {
    pub(crate) metadata: ObjectMeta,
    pub(crate) subsets: Vec<EndpointSubset>,
}

partial_kind!(Endpoints, "", "Endpoints", "endpoints", NamespaceResourceScope);

impl Kind for Endpoints {}

impl Endpoints {
    /// How many addresses are in it, ready or not.
    pub(crate) fn count(&self) -> usize {
        let lists = self
            .subsets
            .iter()
            .flat_map(|subset| [&subset.addresses, &subset.not_ready_addresses]);
        lists.flatten().map(Vec::len).sum()
    }
}

/// An EndpointSlice.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct EndpointSlice {
    pub(crate) metadata: ObjectMeta,
    pub(crate) address_type: String,
    pub(crate) endpoints: Option<Vec<Endpoint>>,
    pub(crate) ports: Option<Vec<EndpointPort>>,
}

partial_kind!(
    EndpointSlice,
    "discovery.k8s.io",
    "EndpointSlice",
    "endpointslices",
    NamespaceResourceScope
);

impl Kind for EndpointSlice {}
