//! Cluster IPs and node ports: which Service has which. What is stored counts; beside it stands what writes under way are
//! about to store.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use afloat_machinery::FieldError;
use rand::Rng;
use serde_json::Value;

use super::{Followed, Follows};
use crate::view;

/// A node port with its protocol: TCP and UDP may share a number.
pub(crate) type NodePort = (u16, String);

/// All addresses and node ports that are taken, with the owner, that is the Service, that has them.
pub(crate) struct Addresses {
    base: u32,
    size: u32,
    node_ports: RangeInclusive<u16>,
    ips: BTreeMap<u32, String>,
    ports: BTreeMap<NodePort, String>,
    /// Of writes under way, by number.
    claims: BTreeMap<u64, Claim>,
    next_claim: u64,
}

/// What a Service shall have once its write succeeds.
struct Claim {
    owner: String,
    ips: BTreeSet<u32>,
    ports: BTreeSet<NodePort>,
}

/// Keeps what a write is about to store from everybody else. To be dropped when the write has been decided: what it has
/// stored is taken from then on because it is stored.
pub(crate) struct Reservation {
    addresses: Arc<Followed<Addresses>>,
    claim: u64,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.addresses.with(|all| all.claims.remove(&self.claim));
    }
}

impl Followed<Addresses> {
    /// Reserves for the Service `owner` what `take` takes; nothing if that fails.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        owner: String,
        take: impl FnOnce(&mut Taking<'_>) -> Result<(), FieldError>,
    ) -> Result<Reservation, FieldError> {
        let claim = self.with(|all| {
            let claim = Claim {
                owner,
                ips: BTreeSet::new(),
                ports: BTreeSet::new(),
            };
            let mut taking = Taking { all, claim };
            take(&mut taking)?;
            let Taking { all, claim } = taking;
            let number = all.next_claim;
            all.next_claim += 1;
            all.claims.insert(number, claim);
            Ok(number)
        })?;
        Ok(Reservation {
            addresses: Arc::clone(self),
            claim,
        })
    }
}

/// Who holds an allocation. With the UID, for a Service may be made anew while its predecessor is still being deleted.
pub(crate) fn owner(service: &Value) -> String {
    format!(
        "{}/{}/{}",
        view::meta(service, "namespace"),
        view::meta(service, "name"),
        view::meta(service, "uid")
    )
}

fn invalid(field: impl Into<String>, message: impl Into<String>) -> FieldError {
    FieldError {
        field: field.into(),
        cause: "FieldValueInvalid",
        message: message.into(),
    }
}

impl Addresses {
    /// Nothing taken yet. The range of cluster IPs is an address and the length of its prefix.
    pub(crate) fn new((address, prefix): (Ipv4Addr, u8), node_ports: RangeInclusive<u16>) -> Self {
        let bits = 32 - u32::from(prefix.min(32));
        let size = 1_u32.checked_shl(bits).unwrap_or(u32::MAX);
        let base = u32::from(address) & !(size - 1);
        Self {
            base,
            size,
            node_ports,
            ips: BTreeMap::new(),
            ports: BTreeMap::new(),
            claims: BTreeMap::new(),
            next_claim: 0,
        }
    }

    fn release(&mut self, owner: &str) {
        self.ips.retain(|_, o| o != owner);
        self.ports.retain(|_, o| o != owner);
    }

    fn owner_of_ip(&self, ip: u32) -> Option<&str> {
        let claimed = || self.claims.values().find(|claim| claim.ips.contains(&ip));
        let stored = self.ips.get(&ip).map(String::as_str);
        stored.or_else(|| Some(claimed()?.owner.as_str()))
    }

    fn owner_of_port(&self, port: &NodePort) -> Option<&str> {
        let claimed = || self.claims.values().find(|claim| claim.ports.contains(port));
        let stored = self.ports.get(port).map(String::as_str);
        stored.or_else(|| Some(claimed()?.owner.as_str()))
    }
}

impl Follows for Addresses {
    fn put(&mut self, _key: &str, service: &Value) {
        let owner = owner(service);
        self.release(&owner);
        if let Some(ip) = cluster_ip(service) {
            self.ips.insert(ip.into(), owner.clone());
        }
        for port in node_ports(service) {
            self.ports.insert(port, owner.clone());
        }
    }

    fn removed(&mut self, _key: &str, last: &Value) {
        self.release(&owner(last));
    }

    fn clear(&mut self) {
        self.ips.clear();
        self.ports.clear();
    }
}

fn cluster_ip(service: &Value) -> Option<Ipv4Addr> {
    let has_address = service["spec"]["type"] != "ExternalName";
    service["spec"]["clusterIP"]
        .as_str()
        .filter(|_| has_address)?
        .parse()
        .ok()
}

fn node_ports(service: &Value) -> impl Iterator<Item = NodePort> {
    let ports = service["spec"]["ports"].as_array().into_iter().flatten();
    ports.filter_map(|port| {
        let number = u16::try_from(port["nodePort"].as_u64()?).ok().filter(|n| *n > 0)?;
        Some((number, protocol(port)))
    })
}

/// The protocol of a Service's port.
pub(crate) fn protocol(port: &Value) -> String {
    port["protocol"].as_str().unwrap_or("TCP").to_owned()
}

/// Takes addresses and ports for one Service.
pub(crate) struct Taking<'a> {
    all: &'a mut Addresses,
    claim: Claim,
}

impl Taking<'_> {
    /// An address: the one that is wanted, or any that is free.
    pub(crate) fn ip(&mut self, wanted: Option<Ipv4Addr>) -> Result<Ipv4Addr, FieldError> {
        let all = &self.all;
        let (first, last) = (
            all.base.saturating_add(1),
            all.base.saturating_add(all.size.saturating_sub(2)),
        );
        let Some(wanted) = wanted else {
            // The lower sixteenth (16 to 256 addresses) is left to Services that ask for an address, as in the original.
            let reserved = (all.size / 16).clamp(16, 256).min(all.size / 2);
            let start = rand::rng().random_range(first.saturating_add(reserved).min(last)..=last);
            let free = (start..=last)
                .chain(first..start)
                .find(|ip| all.owner_of_ip(*ip).is_none());
            let ip = free.ok_or_else(|| FieldError {
                field: "spec.clusterIP".into(),
                cause: "InternalError",
                message: "failed to allocate a serviceIP: range is full".into(),
            })?;
            self.claim.ips.insert(ip);
            return Ok(Ipv4Addr::from(ip));
        };
        let ip = u32::from(wanted);
        let text = format!("Invalid value: [\"{wanted}\"]: failed to allocate IP {wanted}: provided IP");
        if !(first..=last).contains(&ip) {
            return Err(invalid("spec.clusterIPs", format!("{text} is not in the valid range")));
        }
        if all.owner_of_ip(ip).is_some_and(|other| other != self.claim.owner) {
            return Err(invalid("spec.clusterIPs", format!("{text} is already allocated")));
        }
        self.claim.ips.insert(ip);
        Ok(wanted)
    }

    /// A node port: the one that is wanted, or if that is 0 any that is free. `field`: where a refusal says it is.
    pub(crate) fn port(&mut self, field: &str, wanted: u16, protocol: &str) -> Result<u16, FieldError> {
        let key = |port: u16| (port, protocol.to_owned());
        let (first, last) = (*self.all.node_ports.start(), *self.all.node_ports.end());
        if wanted == 0 {
            let start = rand::rng().random_range(first..=last.max(first));
            let is_free = |port: u16| {
                let key = key(port);
                self.all.owner_of_port(&key).is_none() && !self.claim.ports.contains(&key)
            };
            let free = (start..=last).chain(first..start).find(|port| is_free(*port));
            let port = free.ok_or_else(|| invalid(field, "failed to allocate a nodePort: range is full"))?;
            self.claim.ports.insert(key(port));
            return Ok(port);
        }
        let invalid = |why: String| Err(invalid(field, format!("Invalid value: {wanted}: provided port {why}")));
        if !self.all.node_ports.contains(&wanted) {
            return invalid(format!(
                "is not in the valid range. The range of valid ports is {first}-{last}"
            ));
        }
        let other = self.all.owner_of_port(&key(wanted));
        if other.is_some_and(|other| other != self.claim.owner) {
            return invalid("is already allocated".to_owned());
        }
        self.claim.ports.insert(key(wanted));
        Ok(wanted)
    }
}
