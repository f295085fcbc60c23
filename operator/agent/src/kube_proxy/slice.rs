//! An EndpointSlice, trimmed to what tells which pods kube-proxy shall send to.

use std::net::IpAddr;

use k8s_openapi::api::discovery::v1::Endpoint as ApiEndpoint;
use k8s_openapi::api::discovery::v1::EndpointSlice;

/// kube-proxy leaves slices with these labels alone: those of headless Services, and those that another proxy serves. See
/// kubernetes cmd/kube-proxy/app/server.go.
const NOT_PROXIED: [&str; 2] = [
    "service.kubernetes.io/headless",
    "service.kubernetes.io/service-proxy-name",
];

/// Namespace and name of a slice.
pub(crate) type SliceKey = (String, String);

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slice {
    pub(crate) proxied: bool,
    pub(crate) endpoints: Vec<Endpoint>,
}

/// One address of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) uid: String,
    /// Namespace and name.
    pub(crate) pod: String,
    pub(crate) ready: bool,
    pub(crate) address: IpAddr,
}

/// A slice's key, version and content.
pub(crate) fn read(slice: EndpointSlice) -> (SliceKey, u64, Slice) {
    let metadata = slice.metadata;
    let namespace = metadata.namespace.unwrap_or_default();
    let labels = metadata.labels.unwrap_or_default();
    let content = Slice {
        proxied: !NOT_PROXIED.iter().any(|label| labels.contains_key(*label)),
        endpoints: slice
            .endpoints
            .into_iter()
            .filter_map(|e| endpoint(e, &namespace))
            .collect(),
    };
    let version = metadata.resource_version.and_then(|version| version.parse().ok());
    (
        (namespace, metadata.name.unwrap_or_default()),
        version.unwrap_or(0),
        content,
    )
}

fn endpoint(endpoint: ApiEndpoint, namespace: &str) -> Option<Endpoint> {
    let pod = endpoint
        .target_ref
        .filter(|target| target.kind.as_deref() == Some("Pod"))?;
    // Kubernetes leaves the meaning of more than one address open; kube-proxy uses the first.
    let address = endpoint.addresses.first()?.parse().ok()?;
    let ready = endpoint.conditions.and_then(|conditions| conditions.ready);
    Some(Endpoint {
        uid: pod.uid?,
        pod: format!("{namespace}/{}", pod.name.unwrap_or_default()),
        ready: ready.unwrap_or(true),
        address,
    })
}
