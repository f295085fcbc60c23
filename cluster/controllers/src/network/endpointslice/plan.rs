//! Which writes make the slices of a Service what they should be. Pure.
//!
//! Few writes matter more than few slices: an endpoint stays in the slice it is in, new ones fill slices that are
//! written anyway, then slices with room, and only then new slices. The last slice of a Service is emptied, not
//! deleted, so that proxies can tell which version without endpoints they have applied.

use std::collections::BTreeMap;

use afloat_words::owner::is_owned_by;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::network::view::{Pod, PortView, ServiceView, reference_to};
use crate::objects::service::{HEADLESS, MANAGED_BY, SERVICE_NAME};

/// Value of [`MANAGED_BY`] for this controller, Kubernetes' own: so that its slices are taken over without a change.
pub(crate) const CONTROLLER: &str = "endpointslice-controller.k8s.io";
/// Most endpoints in one slice (Kubernetes' default of `--max-endpoints-per-slice`).
pub(crate) const ENDPOINTS_MAX: usize = 100;

/// One write.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// A new slice, named by the API server.
    Create(EndpointSlice),
    /// The slice as it should be, with the resource version that this was decided on.
    Update(EndpointSlice),
    /// The slice as it was when this was decided.
    Delete(EndpointSlice),
}

/// Ports as they are compared: name, protocol, number, application protocol.
type Ports = Vec<(String, String, i32, Option<String>)>;

/// A slice that exists, as it shall become.
struct Draft<'a> {
    was: &'a EndpointSlice,
    endpoints: Vec<Endpoint>,
    changed: bool,
}

/// The writes for one Service: additions first, so that nothing is missing in between.
///
/// `pods` are all of its namespace that it selects, `slices` all that carry its label and are managed by us; both in
/// order of their names.
pub(crate) fn plan(service: &ServiceView, pods: &[&Pod], slices: &[&EndpointSlice]) -> Vec<Action> {
    let mut wanted: BTreeMap<Ports, BTreeMap<String, Endpoint>> = BTreeMap::new();
    for pod in pods {
        if let Some(endpoint) = endpoint(service, pod) {
            wanted
                .entry(ports(service, pod))
                .or_default()
                .insert(pod.uid.clone(), endpoint);
        }
    }
    let mut deletes = Vec::new();
    let mut drafts: BTreeMap<Ports, Vec<Draft<'_>>> = BTreeMap::new();
    let mut spare = Vec::new();
    for slice in slices {
        // One of a Service of the same name that was deleted, or of another address family: not ours to keep.
        if slice.address_type != "IPv4" || !owned(slice, service) {
            deletes.push(Action::Delete((*slice).clone()));
            continue;
        }
        let ports = ports_of(slice);
        let endpoints = keep(slice, wanted.get_mut(&ports));
        if endpoints.is_empty() {
            spare.push(*slice);
        } else {
            let changed = endpoints != slice.endpoints;
            drafts.entry(ports).or_default().push(Draft {
                was: slice,
                endpoints,
                changed,
            });
        }
    }
    let mut creates = Vec::new();
    for (ports, new) in wanted {
        place(
            service,
            &ports,
            new.into_values().collect(),
            &mut drafts,
            &mut spare,
            &mut creates,
        );
    }
    if drafts.is_empty() && creates.is_empty() {
        match spare.pop() {
            Some(last) => {
                let changed = !last.endpoints.is_empty();
                drafts.entry(ports_of(last)).or_default().push(Draft {
                    was: last,
                    endpoints: Vec::new(),
                    changed,
                });
            }
            None => creates.push(Action::Create(new_slice(service, &Ports::new(), Vec::new()))),
        }
    }
    deletes.extend(spare.into_iter().cloned().map(Action::Delete));
    let updates = drafts.into_iter().flat_map(|(ports, drafts)| {
        drafts
            .into_iter()
            .filter_map(move |draft| update(service, &ports, draft))
    });
    creates.into_iter().chain(updates).chain(deletes).collect()
}

/// What a slice keeps of its endpoints, brought up to date; what is kept is no longer wanted elsewhere.
fn keep(slice: &EndpointSlice, wanted: Option<&mut BTreeMap<String, Endpoint>>) -> Vec<Endpoint> {
    let Some(wanted) = wanted else { return Vec::new() };
    // By pod and not by address: pods on the host's network share one, and a pod may get another.
    let uid = |old: &Endpoint| old.target_ref.as_ref().and_then(|target| target.uid.clone());
    slice
        .endpoints
        .iter()
        .filter_map(|old| wanted.remove(&uid(old)?))
        .collect()
}

/// Finds room for new endpoints.
fn place<'a>(
    service: &ServiceView,
    ports: &Ports,
    mut new: Vec<Endpoint>,
    drafts: &mut BTreeMap<Ports, Vec<Draft<'a>>>,
    spare: &mut Vec<&'a EndpointSlice>,
    creates: &mut Vec<Action>,
) {
    let mut open: Vec<&mut Draft<'_>> = drafts.get_mut(ports).into_iter().flatten().collect();
    // Those that are written anyway first, and then the fullest: it is the best filled.
    open.sort_by_key(|draft| (!draft.changed, std::cmp::Reverse(draft.endpoints.len())));
    for draft in open {
        let room = ENDPOINTS_MAX.saturating_sub(draft.endpoints.len()).min(new.len());
        if room > 0 {
            draft.endpoints.extend(new.drain(..room));
            draft.changed = true;
        }
    }
    while !new.is_empty() {
        let endpoints: Vec<_> = new.drain(..new.len().min(ENDPOINTS_MAX)).collect();
        match spare.pop() {
            Some(was) => {
                drafts.entry(ports.clone()).or_default().push(Draft {
                    was,
                    endpoints,
                    changed: true,
                });
            }
            None => creates.push(Action::Create(new_slice(service, ports, endpoints))),
        }
    }
}

fn update(service: &ServiceView, ports: &Ports, draft: Draft<'_>) -> Option<Action> {
    let labels = labels(service);
    let same_labels = draft.was.metadata.labels.as_ref() == Some(&labels);
    if !draft.changed && same_labels {
        return None;
    }
    let mut slice = draft.was.clone();
    slice.metadata.labels = Some(labels);
    slice.endpoints = draft.endpoints;
    if ports_of(&slice) != *ports {
        slice.ports = Some(to_ports(ports));
    }
    Some(Action::Update(slice))
}

fn new_slice(service: &ServiceView, ports: &Ports, endpoints: Vec<Endpoint>) -> EndpointSlice {
    EndpointSlice {
        address_type: "IPv4".into(),
        endpoints,
        ports: Some(to_ports(ports)),
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", service.name)),
            namespace: Some(service.namespace.clone()),
            labels: Some(labels(service)),
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".into(),
                kind: "Service".into(),
                name: service.name.clone(),
                uid: service.uid.clone(),
                controller: Some(true),
                block_owner_deletion: Some(true),
            }]),
            ..ObjectMeta::default()
        },
    }
}

/// The Service's labels and those that say what the slice is.
fn labels(service: &ServiceView) -> BTreeMap<String, String> {
    let mut labels = service.labels.clone();
    labels.insert(SERVICE_NAME.into(), service.name.clone());
    labels.insert(MANAGED_BY.into(), CONTROLLER.into());
    labels.remove(HEADLESS);
    if service.headless {
        labels.insert(HEADLESS.into(), String::new());
    }
    labels
}

fn owned(slice: &EndpointSlice, service: &ServiceView) -> bool {
    is_owned_by(&slice.metadata, &service.uid)
}

/// The endpoint of a pod; None for one without address or whose containers have ended for good.
fn endpoint(service: &ServiceView, pod: &Pod) -> Option<Endpoint> {
    if pod.finished {
        return None;
    }
    let serving = pod.ready;
    Some(Endpoint {
        addresses: vec![pod.ip.clone().filter(|ip| ip.parse::<std::net::Ipv4Addr>().is_ok())?],
        conditions: Some(EndpointConditions {
            ready: Some(service.publish_not_ready || (serving && !pod.terminating)),
            serving: Some(serving),
            terminating: Some(pod.terminating),
        }),
        node_name: pod.node.clone(),
        hostname: service.hostname_of(pod),
        target_ref: Some(reference_to(pod)),
        ..Endpoint::default()
    })
}

/// The Service's ports in this pod; a named port that the pod does not have is left out.
fn ports(service: &ServiceView, pod: &Pod) -> Ports {
    let port = |port: &PortView| {
        Some((
            port.name.clone(),
            port.protocol.clone(),
            port.number_in(pod)?,
            port.app_protocol.clone(),
        ))
    };
    let mut ports: Ports = service.ports.iter().filter_map(port).collect();
    ports.sort();
    ports
}

fn ports_of(slice: &EndpointSlice) -> Ports {
    let port = |port: &EndpointPort| {
        let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".into());
        (
            port.name.clone().unwrap_or_default(),
            protocol,
            port.port.unwrap_or(0),
            port.app_protocol.clone(),
        )
    };
    let mut ports: Ports = slice.ports.iter().flatten().map(port).collect();
    ports.sort();
    ports
}

fn to_ports(ports: &Ports) -> Vec<EndpointPort> {
    let port = |(name, protocol, number, app_protocol): &(String, String, i32, Option<String>)| EndpointPort {
        name: Some(name.clone()),
        protocol: Some(protocol.clone()),
        port: Some(*number),
        app_protocol: app_protocol.clone(),
    };
    ports.iter().map(port).collect()
}

#[cfg(test)]
mod tests;
