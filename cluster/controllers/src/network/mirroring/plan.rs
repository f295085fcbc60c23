//! Which slices hand-made Endpoints should have. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use afloat_words::owner::controller_reference;
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointSubset};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use crate::network::subsets::repack;
use crate::objects::service::{LEADER, MANAGED_BY, MIRRORING, SERVICE_NAME, SKIP_MIRROR, TRIGGER_TIME};
use crate::objects::{EndpointSlice, Endpoints, LAST_APPLIED, Service, annotation};

/// Most addresses of one subset that are mirrored.
const ADDRESSES_MAX: usize = 1000;

/// What a plan is made from.
pub(super) struct Seen<'a> {
    pub(super) endpoints: Option<&'a Endpoints>,
    /// The Service of the same name.
    pub(super) service: Option<&'a Service>,
    /// All slices that were made here for that name.
    pub(super) slices: &'a [Arc<EndpointSlice>],
}

/// One write.
#[derive(Debug, PartialEq)]
pub(super) enum Action {
    Create(Value),
    Replace(Value),
    Delete(Box<ObjectMeta>),
}

/// What to do, and what to tell of addresses that are not mirrored: reason and message.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub(super) actions: Vec<Action>,
    pub(super) left_out: Vec<(&'static str, String)>,
}

/// Ports as they are compared: name, protocol, number, application protocol.
type Ports = Vec<(String, String, i32, Option<String>)>;
/// What there is one slice of: type of the addresses, ports.
type Group = (&'static str, Ports);

/// Decides.
pub(super) fn plan(seen: &Seen<'_>) -> Plan {
    let mut plan = Plan::default();
    let mirrored = seen.endpoints.filter(|it| is_mirrored(it, seen.service));
    let mut wanted = mirrored
        .map(|it| wanted(&it.subsets, &mut plan.left_out))
        .unwrap_or_default();
    let mut spare: Vec<&EndpointSlice> = Vec::new();
    let Some(endpoints) = mirrored else {
        let all = seen
            .slices
            .iter()
            .map(|slice| Action::Delete(Box::new(slice.metadata.clone())));
        plan.actions = all.collect();
        return plan;
    };
    let meta = metadata(endpoints);
    for slice in seen.slices {
        let Some((group, mut there)) = group_of(slice).and_then(|group| wanted.remove_entry(&group)) else {
            spare.push(slice);
            continue;
        };
        let mut is = slice.endpoints.clone().unwrap_or_default();
        let by_address = |one: &Endpoint| (one.addresses.clone(), uid_in(one));
        is.sort_by_key(by_address);
        there.sort_by_key(by_address);
        let same_meta = slice.metadata.labels == meta.labels
            && slice.metadata.owner_references == meta.owner_references
            && slice.metadata.annotations.clone().unwrap_or_default() == meta.annotations.clone().unwrap_or_default();
        if is != there || !same_meta {
            plan.actions.push(replace(slice, &meta, &group, &there));
        }
    }
    for (group, there) in wanted {
        let found = spare.iter().position(|slice| slice.address_type == group.0);
        match found.map(|at| spare.remove(at)) {
            Some(slice) => plan.actions.push(replace(slice, &meta, &group, &there)),
            None if endpoints.metadata.deletion_timestamp.is_some() => {}
            None => {
                let mut meta = meta.clone();
                meta.generate_name = Some(format!("{}-", endpoints.metadata.name.as_deref().unwrap_or_default()));
                plan.actions.push(Action::Create(slice_of(&meta, &group, &there)));
            }
        }
    }
    plan.actions.extend(
        spare
            .into_iter()
            .map(|slice| Action::Delete(Box::new(slice.metadata.clone()))),
    );
    plan
}

/// Not those of Services that choose their pods, nor locks, nor those that say so.
fn is_mirrored(endpoints: &Endpoints, service: Option<&Service>) -> bool {
    let skipped = endpoints
        .metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(SKIP_MIRROR));
    service.is_some_and(|service| !service.has_selector())
        && skipped.is_none_or(|value| value != "true")
        && annotation(&endpoints.metadata, LEADER).is_none()
}

/// The endpoints of each slice that there should be; says how many addresses are in none.
fn wanted(subsets: &[EndpointSubset], left_out: &mut Vec<(&'static str, String)>) -> BTreeMap<Group, Vec<Endpoint>> {
    let mut groups: BTreeMap<Group, Vec<Endpoint>> = BTreeMap::new();
    let (mut invalid, mut beyond) = (0, 0);
    for subset in repack(subsets) {
        let ports = subset.ports.iter().flatten().map(|port| {
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".into());
            let name = port.name.clone().unwrap_or_default();
            (name, protocol, port.port, port.app_protocol.clone())
        });
        let ports: Ports = ports.collect();
        let ready = subset.addresses.into_iter().flatten().map(|address| (address, true));
        let others = subset.not_ready_addresses.into_iter().flatten();
        let mut taken = 0;
        for (address, ready) in ready.chain(others.map(|address| (address, false))) {
            if taken == ADDRESSES_MAX {
                beyond += 1;
                continue;
            }
            let kind = match address.ip.parse::<IpAddr>() {
                Ok(IpAddr::V4(_)) => "IPv4",
                Ok(IpAddr::V6(_)) => "IPv6",
                Err(_) => {
                    invalid += 1;
                    continue;
                }
            };
            taken += 1;
            let there = groups.entry((kind, ports.clone())).or_default();
            there.push(endpoint(address, ready));
        }
    }
    if invalid > 0 {
        let message = format!("Skipped {invalid} invalid IP addresses when mirroring to EndpointSlices");
        left_out.push(("InvalidIPAddress", message));
    }
    if beyond > 0 {
        let all = invalid + beyond;
        let message = format!(
            "A max of {ADDRESSES_MAX} addresses can be mirrored to EndpointSlices per Endpoints subset. {all} addresses were skipped"
        );
        left_out.push(("TooManyAddressesToMirror", message));
    }
    groups
}

fn endpoint(address: EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            ..EndpointConditions::default()
        }),
        hostname: address.hostname.filter(|name| !name.is_empty()),
        node_name: address.node_name,
        target_ref: address.target_ref,
        ..Endpoint::default()
    }
}

fn uid_in(endpoint: &Endpoint) -> Option<String> {
    endpoint.target_ref.as_ref().and_then(|target| target.uid.clone())
}

/// The same of a slice that is there; None for one that is made for no address of ours.
fn group_of(slice: &EndpointSlice) -> Option<Group> {
    let kind = ["IPv4", "IPv6"].into_iter().find(|kind| slice.address_type == **kind)?;
    let ports = slice.ports.iter().flatten().map(|port| {
        let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".into());
        let name = port.name.clone().unwrap_or_default();
        (name, protocol, port.port.unwrap_or(0), port.app_protocol.clone())
    });
    let mut ports: Ports = ports.collect();
    ports.sort();
    Some((kind, ports))
}

/// Labels, annotations and owner of all slices of some Endpoints.
fn metadata(endpoints: &Endpoints) -> ObjectMeta {
    let meta = &endpoints.metadata;
    let mut labels = meta.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.into(), meta.name.clone().unwrap_or_default());
    labels.insert(MANAGED_BY.into(), MIRRORING.into());
    let mut annotations = meta.annotations.clone().unwrap_or_default();
    annotations.retain(|name, _| name != TRIGGER_TIME && name != LAST_APPLIED);
    ObjectMeta {
        namespace: meta.namespace.clone(),
        labels: Some(labels),
        annotations: (!annotations.is_empty()).then_some(annotations),
        owner_references: Some(vec![controller_reference("v1", "Endpoints", meta)]),
        ..ObjectMeta::default()
    }
}

fn replace(slice: &EndpointSlice, wanted: &ObjectMeta, group: &Group, endpoints: &[Endpoint]) -> Action {
    let mut meta = slice.metadata.clone();
    meta.labels.clone_from(&wanted.labels);
    meta.annotations.clone_from(&wanted.annotations);
    meta.owner_references.clone_from(&wanted.owner_references);
    Action::Replace(slice_of(&meta, group, endpoints))
}

fn slice_of(meta: &ObjectMeta, (kind, ports): &Group, endpoints: &[Endpoint]) -> Value {
    let ports = ports.iter().map(|(name, protocol, port, app_protocol)| EndpointPort {
        name: Some(name.clone()),
        protocol: Some(protocol.clone()),
        port: Some(*port),
        app_protocol: app_protocol.clone(),
    });
    let ports: Vec<EndpointPort> = ports.collect();
    json!({"metadata": meta, "addressType": kind, "endpoints": endpoints, "ports": ports})
}

#[cfg(test)]
mod tests;
