//! From Kubernetes objects to the few fields that names need. Pure.

use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use kube::ResourceExt;

use crate::zone::{Endpoint, Port, Service, Slice};

/// Label of a slice that names its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// None: it has no address (yet), and so no name.
pub(crate) fn service(object: &core::Service) -> Option<Service> {
    let spec = object.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        let target = spec.external_name.clone().filter(|name| !name.is_empty())?;
        return Some(Service::ExternalName(target));
    }
    if spec.cluster_ip.as_deref() == Some("None") {
        return Some(Service::Headless);
    }
    let mut texts = spec.cluster_ips.clone().unwrap_or_default();
    texts.extend(spec.cluster_ip.clone());
    let mut addresses: Vec<Ipv4Addr> = texts.iter().filter_map(|text| text.parse().ok()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    if addresses.is_empty() {
        return None;
    }
    let ports = spec.ports.iter().flatten();
    let ports = ports.filter_map(|p| port(p.name.as_deref(), p.protocol.as_deref(), Some(p.port)));
    Some(Service::ClusterIp {
        addresses,
        ports: ports.collect(),
    })
}

fn port(name: Option<&str>, protocol: Option<&str>, number: Option<i32>) -> Option<Port> {
    Some(Port {
        name: name.filter(|name| !name.is_empty())?.to_ascii_lowercase(),
        protocol: protocol.unwrap_or("TCP").to_ascii_lowercase(),
        number: u16::try_from(number?).ok()?,
    })
}

/// None: it belongs to no Service, or has no IPv4 addresses.
pub(crate) fn slice(object: &discovery::EndpointSlice) -> Option<Slice> {
    let service = object.labels().get(SERVICE_NAME).cloned()?;
    if object.address_type != "IPv4" {
        return None;
    }
    // A Service that publishes addresses that are not ready has them marked ready by the EndpointSlice controller.
    let ready = |endpoint: &&discovery::Endpoint| {
        let conditions = endpoint.conditions.as_ref();
        conditions.and_then(|conditions| conditions.ready) != Some(false)
    };
    let endpoints = object.endpoints.iter().filter(ready).flat_map(|endpoint| {
        let hostname = endpoint.hostname.clone().filter(|name| !name.is_empty());
        endpoint.addresses.iter().filter_map(move |address| {
            Some(Endpoint {
                address: address.parse().ok()?,
                hostname: hostname.clone(),
            })
        })
    });
    let ports = object.ports.iter().flatten();
    let ports = ports.filter_map(|p| port(p.name.as_deref(), p.protocol.as_deref(), p.port));
    Some(Slice {
        service,
        ports: ports.collect(),
        endpoints: endpoints.collect(),
    })
}
