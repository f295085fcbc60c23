//! From Kubernetes objects to the few fields that the table needs. Pure.

use std::time::Duration;

use afloat_words::key::Key;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use kube::ResourceExt;

use crate::table::{PodRef, Protocol, Service, ServicePort, Slice, SliceEndpoint};

/// Label of a slice that names its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Default of `sessionAffinityConfig.clientIP.timeoutSeconds`.
const AFFINITY_SECONDS: i32 = 10_800;

/// Label of a Service that another proxy than kube-proxy looks after (KEP-2447).
const SERVICE_PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";

/// Not said to be another proxy's.
pub(crate) fn is_ours(object: &core::Service) -> bool {
    !object.labels().contains_key(SERVICE_PROXY_NAME)
}

/// Headless and ExternalName Services come out without addresses and so without routes.
pub(crate) fn service(object: &core::Service) -> Service {
    let Some(spec) = &object.spec else {
        return Service::default();
    };
    if spec.type_.as_deref() == Some("ExternalName") {
        return Service::default();
    }
    let mut addresses = spec.cluster_ips.clone().unwrap_or_default();
    addresses.extend(spec.cluster_ip.clone());
    let mut cluster_ips: Vec<_> = addresses.iter().filter_map(|a| a.parse().ok()).collect();
    cluster_ips.sort_unstable();
    cluster_ips.dedup();
    let affinity = (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
        let config = spec.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref());
        let seconds = config.and_then(|c| c.timeout_seconds).unwrap_or(AFFINITY_SECONDS);
        Duration::from_secs(seconds.max(1).unsigned_abs().into())
    });
    Service {
        cluster_ips,
        ports: spec.ports.iter().flatten().filter_map(port).collect(),
        internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
        external_local: spec.external_traffic_policy.as_deref() == Some("Local"),
        affinity,
    }
}

fn port(port: &core::ServicePort) -> Option<ServicePort> {
    Some(ServicePort {
        name: port.name.clone().unwrap_or_default(),
        protocol: protocol(port.protocol.as_deref())?,
        port: u16::try_from(port.port).ok()?,
        node_port: port
            .node_port
            .and_then(|number| u16::try_from(number).ok())
            .filter(|number| *number != 0),
    })
}

/// None for slices of no Service and of other address families.
pub(crate) fn slice(object: &discovery::EndpointSlice) -> Option<(Key, Slice)> {
    if object.address_type != "IPv4" {
        return None;
    }
    let name = object.labels().get(SERVICE_NAME)?.clone();
    let ports = object.ports.iter().flatten().filter_map(|p| {
        let number = u16::try_from(p.port?).ok()?;
        Some((
            p.name.clone().unwrap_or_default(),
            protocol(p.protocol.as_deref())?,
            number,
        ))
    });
    let slice = Slice {
        version: object.resource_version().unwrap_or_default(),
        ports: ports.collect(),
        endpoints: object.endpoints.iter().filter_map(endpoint).collect(),
    };
    let service = Key::new(object.namespace().unwrap_or_default(), name);
    Some((service, slice))
}

/// Absent conditions mean what the API says: ready and serving true, terminating false.
fn endpoint(endpoint: &discovery::Endpoint) -> Option<SliceEndpoint> {
    let conditions = endpoint.conditions.as_ref();
    let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
    Some(SliceEndpoint {
        address: endpoint.addresses.first()?.parse().ok()?,
        ready,
        serving: conditions.and_then(|c| c.serving).unwrap_or(ready),
        terminating: conditions.and_then(|c| c.terminating).unwrap_or(false),
        node: endpoint.node_name.clone(),
        pod: endpoint.target_ref.as_ref().and_then(pod_ref),
    })
}

fn pod_ref(target: &core::ObjectReference) -> Option<PodRef> {
    if target.kind.as_deref() != Some("Pod") {
        return None;
    }
    Some(PodRef {
        uid: target.uid.clone()?,
        name: target.name.clone()?,
    })
}

fn protocol(name: Option<&str>) -> Option<Protocol> {
    match name {
        None | Some("" | "TCP") => Some(Protocol::Tcp),
        Some("UDP") => Some(Protocol::Udp),
        _ => None,
    }
}
