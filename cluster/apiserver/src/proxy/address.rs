//! Whom `[SCHEME:]NAME[:PORT]` means: which pod's address, or which node's kubelet.

use std::net::IpAddr;

use afloat_machinery::kinds::{Proxied, Resource};
use rand::seq::SliceRandom as _;
use serde_json::Value;

use crate::read::Reader;
use crate::view;
use crate::wire::request::ObjectPath;
use crate::wire::status::Status;

/// Where a kubelet listens unless its node says another port.
const KUBELET_PORT: u64 = 10250;
/// Names the Service that an EndpointSlice is of.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// A port of a pod.
    Pod {
        node: String,
        uid: String,
        ip: IpAddr,
        port: u16,
        tls: bool,
    },
    /// The kubelet of a node.
    Kubelet { node: String, port: u64 },
}

/// What stands in the path.
struct Asked<'a> {
    tls: bool,
    name: &'a str,
    /// Empty: none.
    port: &'a str,
}

/// `NAME`, `NAME:PORT` or `SCHEME:NAME:PORT`.
fn split(id: &str) -> Option<Asked<'_>> {
    let parts: Vec<&str> = id.split(':').collect();
    let (scheme, name, port) = match *parts.as_slice() {
        [name] => ("", name, ""),
        [name, port] => ("", name, port),
        [scheme, name, port] => (scheme, name, port),
        _ => return None,
    };
    let known = matches!(scheme, "" | "http" | "https") && !name.is_empty();
    known.then_some(Asked {
        tls: scheme == "https",
        name,
        port,
    })
}

impl Address {
    /// `host:port`, for headers and messages.
    pub(super) fn authority(&self) -> String {
        match self {
            Self::Pod { ip, port, .. } => std::net::SocketAddr::new(*ip, *port).to_string(),
            Self::Kubelet { node, port } => format!("{node}:{port}"),
        }
    }

    /// Looks up whom a path means.
    ///
    /// # Errors
    /// As upstream, in its words.
    pub(super) fn find(reader: &Reader, resource: &Resource, path: &ObjectPath) -> Result<Self, Status> {
        let id = path.name.as_deref().unwrap_or_default();
        let kind = resource.singular.as_str();
        let asked = split(id).ok_or_else(|| Status::bad_request(format!("invalid {kind} request \"{id}\"")))?;
        let namespace = path.namespace.as_deref();
        match resource.builtin.and_then(|row| row.proxied) {
            None => Err(Status::no_such_resource()),
            Some(Proxied::Kubelet) => kubelet(&reader.object(resource, None, asked.name)?, &asked),
            Some(Proxied::Endpoints) => service(reader, resource, namespace, id, &asked),
            Some(Proxied::Itself) => {
                let pod = reader.object(resource, namespace, asked.name)?;
                let port = match asked.port {
                    "" => declared(&pod).unwrap_or(if asked.tls { 443 } else { 80 }),
                    text => text
                        .parse()
                        .map_err(|_| Status::bad_request(format!("invalid {kind} request \"{id}\"")))?,
                };
                of_pod(&pod, port, asked.tls).ok_or_else(|| Status::bad_request("address not allowed"))
            }
        }
    }
}

/// The first port that a container of the pod says to have.
fn declared(pod: &Value) -> Option<u16> {
    let containers = pod["spec"]["containers"].as_array()?;
    let port = containers
        .iter()
        .find_map(|container| container["ports"][0]["containerPort"].as_u64())?;
    u16::try_from(port).ok()
}

/// A pod's own address; none if it has none, or one that no pod has.
fn of_pod(pod: &Value, port: u16, tls: bool) -> Option<Address> {
    let status = &pod["status"];
    let first = status["podIPs"][0]["ip"]
        .as_str()
        .or_else(|| status["podIP"].as_str())?;
    let ip: IpAddr = first.parse().ok()?;
    is_of_a_pod(ip).then(|| Address::Pod {
        node: pod["spec"]["nodeName"].as_str().unwrap_or_default().to_owned(),
        uid: view::meta(pod, "uid").to_owned(),
        ip,
        port,
        tls,
    })
}

/// Go's `IsGlobalUnicast`.
fn is_of_a_pod(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || ip.is_link_local() || ip.is_broadcast())
        }
        IpAddr::V6(ip) => !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || ip.is_unicast_link_local()),
    }
}

/// Nodes of an embedded cluster share a network with the API server: of a node nothing but its kubelet can be reached.
fn kubelet(node: &Value, asked: &Asked<'_>) -> Result<Address, Status> {
    let endpoint = &node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"];
    let port = endpoint.as_u64().filter(|port| *port > 0).unwrap_or(KUBELET_PORT);
    if !asked.port.is_empty() && asked.port != port.to_string() {
        return Err(Status::bad_request("address not allowed"));
    }
    let node = view::meta(node, "name").to_owned();
    Ok(Address::Kubelet { node, port })
}

/// One of the ready pods of a Service.
fn service(
    reader: &Reader,
    resource: &Resource,
    namespace: Option<&str>,
    id: &str,
    asked: &Asked<'_>,
) -> Result<Address, Status> {
    let port = match asked.port.parse::<i64>() {
        Ok(number) => named(&reader.object(resource, namespace, asked.name)?, number, asked.name)?,
        Err(_) => asked.port.to_owned(),
    };
    let none = |name: &str| Status::unavailable(format!("no endpoints available for service \"{name}\""));
    let mut found = slices(reader, namespace, asked.name, &port)?;
    if !found.any {
        found = subsets(reader, namespace, asked.name, &port)?;
    }
    if !found.any {
        // 404 if there is no such Service.
        reader.entry(resource, namespace, asked.name)?;
        return Err(none(asked.name));
    }
    let mut endpoints = found.ready;
    endpoints.shuffle(&mut rand::rng());
    let registry = reader.registry();
    let pods = registry
        .resolve("", "v1", "pods")
        .ok_or_else(Status::no_such_resource)?;
    // An endpoint is believed only where the pod that it names has that address itself.
    let own = endpoints.iter().find_map(|(ip, pod, port)| {
        let pod = reader.object(&pods, namespace, pod).ok()?;
        let address = of_pod(&pod, *port, asked.tls)?;
        matches!(&address, Address::Pod { ip: own, .. } if own == ip).then_some(address)
    });
    own.ok_or_else(|| none(id))
}

/// The name of the port of this number.
fn named(service: &Value, number: i64, name: &str) -> Result<String, Status> {
    let ports = service["spec"]["ports"].as_array().into_iter().flatten();
    let found = ports.into_iter().find(|port| port["port"].as_i64() == Some(number));
    let found = found.map(|port| port["name"].as_str().unwrap_or_default().to_owned());
    found.ok_or_else(|| Status::unavailable(format!("no service port {number} found for service \"{name}\"")))
}

/// Address, pod and port of an endpoint.
type Endpoint = (IpAddr, String, u16);

/// The number of the port of this name, in a list of an endpoint's ports.
fn number(ports: &Value, name: &str) -> Option<u16> {
    let mut ports = ports.as_array()?.iter();
    let port = ports.find(|port| port["name"].as_str().unwrap_or_default() == name)?;
    port["port"].as_u64().and_then(|number| u16::try_from(number).ok())
}

/// The pod that an endpoint names. Whether it is one, and has the address, is asked when it is dialled.
fn target(endpoint: &Value) -> Option<String> {
    endpoint["targetRef"]["name"].as_str().map(str::to_owned)
}

/// What is known of a Service's endpoints.
#[derive(Default)]
struct Found {
    /// Whether there are any, ready or not, of whichever port.
    any: bool,
    /// Those that are ready and have the port.
    ready: Vec<Endpoint>,
}

impl Found {
    fn add(&mut self, address: &Value, endpoint: &Value, number: Option<u16>) {
        let ip = address.as_str().and_then(|ip| ip.parse().ok());
        if let (Some(ip), Some(pod), Some(number)) = (ip, target(endpoint), number) {
            self.ready.push((ip, pod, number));
        }
    }
}

/// The endpoints of a Service's slices.
fn slices(reader: &Reader, namespace: Option<&str>, service: &str, port: &str) -> Result<Found, Status> {
    let mut found = Found::default();
    let registry = reader.registry();
    let Some(kind) = registry.resolve("discovery.k8s.io", "v1", "endpointslices") else {
        return Ok(found);
    };
    for entry in reader.all(&kind, namespace).entries {
        let slice = view::parse(&kind, &entry.value)?;
        if slice["metadata"]["labels"][SERVICE_NAME] != service {
            continue;
        }
        let number = number(&slice["ports"], port);
        for endpoint in slice["endpoints"].as_array().into_iter().flatten() {
            found.any = true;
            if endpoint["conditions"]["ready"] != false {
                found.add(&endpoint["addresses"][0], endpoint, number);
            }
        }
    }
    Ok(found)
}

/// Those of Endpoints, for which no slices are made.
fn subsets(reader: &Reader, namespace: Option<&str>, service: &str, port: &str) -> Result<Found, Status> {
    let mut found = Found::default();
    let registry = reader.registry();
    let kind = registry
        .resolve("", "v1", "endpoints")
        .ok_or_else(Status::no_such_resource)?;
    let Some(entry) = reader.find(&kind, namespace, service) else {
        return Ok(found);
    };
    let object = view::parse(&kind, &entry.value)?;
    for subset in object["subsets"].as_array().into_iter().flatten() {
        found.any = true;
        let number = number(&subset["ports"], port);
        for address in subset["addresses"].as_array().into_iter().flatten() {
            found.add(&address["ip"], address, number);
        }
    }
    Ok(found)
}
