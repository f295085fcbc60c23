//! What the Endpoints of a Service should be. Pure.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset};
use serde_json::{Value, json};

use crate::network::subsets::repack;
use crate::network::view::{Pod, ServiceView, reference_to};
use crate::objects::Endpoints;
use crate::objects::service::{HEADLESS, TRIGGER_TIME};

/// Annotation: not all addresses are in it.
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// Most addresses in one object.
const CAPACITY: usize = 1000;

/// What a plan is made from.
pub(super) struct Seen<'a> {
    pub(super) service: &'a ServiceView,
    /// Those that it selects.
    pub(super) pods: &'a [Pod],
    pub(super) current: Option<&'a Endpoints>,
    /// When the first of the changes happened that have not been decided on before.
    pub(super) changed_at: Option<Timestamp>,
}

/// What to do about the object.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    Nothing,
    Create(Value),
    Replace(Value),
}

/// Decides.
pub(super) fn plan(seen: &Seen<'_>) -> Step {
    let service = seen.service;
    let mut subsets = repack(&subsets_of(service, seen.pods));
    let truncated = truncate(&mut subsets);
    if seen
        .current
        .is_some_and(|current| is_right(current, service, &subsets, truncated))
    {
        return Step::Nothing;
    }
    let mut metadata = seen.current.map_or_else(Default::default, |it| it.metadata.clone());
    metadata.namespace = Some(service.namespace.clone());
    metadata.name = Some(service.name.clone());
    let labels = metadata.labels.insert(service.labels.clone());
    labels.remove(HEADLESS);
    if service.headless {
        labels.insert(HEADLESS.into(), String::new());
    }
    let annotations = metadata.annotations.get_or_insert_default();
    let mut set = |name: &str, value: Option<String>| match value {
        Some(value) => annotations.insert(name.into(), value),
        None => annotations.remove(name),
    };
    set(TRIGGER_TIME, seen.changed_at.map(|at| at.to_string()));
    set(OVER_CAPACITY, truncated.then(|| "truncated".into()));
    let mut object = json!({"metadata": metadata});
    if !subsets.is_empty() {
        object["subsets"] = json!(subsets);
    }
    match seen.current {
        None => Step::Create(object),
        Some(_) => Step::Replace(object),
    }
}

fn is_right(current: &Endpoints, service: &ServiceView, subsets: &[EndpointSubset], truncated: bool) -> bool {
    let mut labels = current.metadata.labels.clone().unwrap_or_default();
    let headless = labels.remove(HEADLESS).is_some();
    let mut wanted = service.labels.clone();
    wanted.remove(HEADLESS);
    let annotations = current.metadata.annotations.as_ref();
    let said = annotations.is_some_and(|all| all.contains_key(OVER_CAPACITY));
    labels == wanted && headless == service.headless && said == truncated && repack(&current.subsets) == repack(subsets)
}

/// A subset for each pod and port.
fn subsets_of(service: &ServiceView, pods: &[Pod]) -> Vec<EndpointSubset> {
    let mut subsets = Vec::new();
    for pod in pods {
        let Some(address) = address_of(service, pod) else {
            continue;
        };
        let ports = service.ports.iter().filter_map(|port| {
            let number = port.number_in(pod)?;
            Some(vec![EndpointPort {
                name: Some(port.name.clone()).filter(|name| !name.is_empty()),
                protocol: Some(port.protocol.clone()),
                port: number,
                app_protocol: port.app_protocol.clone(),
            }])
        });
        // Only a headless Service may have no ports.
        let none = (service.ports.is_empty() && service.headless).then(Vec::new);
        for ports in ports.chain(none) {
            let mut subset = EndpointSubset {
                ports: Some(ports),
                ..EndpointSubset::default()
            };
            let place = if pod.ready || service.publish_not_ready {
                &mut subset.addresses
            } else {
                &mut subset.not_ready_addresses
            };
            *place = Some(vec![address.clone()]);
            subsets.push(subset);
        }
    }
    subsets
}

/// The address of a pod; None for one that has ended, has none yet, or is ending.
fn address_of(service: &ServiceView, pod: &Pod) -> Option<EndpointAddress> {
    if pod.finished || (pod.terminating && !service.publish_not_ready) {
        return None;
    }
    Some(EndpointAddress {
        ip: pod.ip.clone().filter(|ip| ip.parse::<std::net::Ipv4Addr>().is_ok())?,
        node_name: pod.node.clone(),
        hostname: service.hostname_of(pod),
        target_ref: Some(reference_to(pod)),
    })
}

/// Leaves no more than [`CAPACITY`] addresses, of each subset in proportion, and of those that are not ready first; whether any had to go.
/// Source: `truncateEndpoints` of Kubernetes.
fn truncate(subsets: &mut [EndpointSubset]) -> bool {
    let count = |list: &Option<Vec<EndpointAddress>>| list.as_ref().map_or(0, Vec::len);
    let ready: usize = subsets.iter().map(|subset| count(&subset.addresses)).sum();
    let others: usize = subsets.iter().map(|subset| count(&subset.not_ready_addresses)).sum();
    if ready + others <= CAPACITY {
        return false;
    }
    let cut_ready = ready > CAPACITY;
    let (room, total) = if cut_ready {
        (CAPACITY, ready)
    } else {
        (CAPACITY - ready, others)
    };
    let mut left = room;
    for subset in subsets {
        if cut_ready {
            subset.not_ready_addresses = None;
        }
        let list = if cut_ready {
            &mut subset.addresses
        } else {
            &mut subset.not_ready_addresses
        };
        let share = (count(list) * room).div_ceil(total).min(left);
        if let Some(addresses) = list {
            addresses.truncate(share);
            left -= addresses.len();
        }
        if count(list) == 0 {
            *list = None;
        }
    }
    true
}

#[cfg(test)]
mod tests;
