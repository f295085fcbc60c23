//! Cluster IPs and node ports of Services: who has which. Rebuilt from the store at the start, so there is nothing to get
//! out of step with.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::sync::PoisonError;

use afloat_machinery::FieldError;
use rand::Rng;
use serde_json::{Value, json};

use crate::{ApiServer, view};

/// A node port with its protocol: TCP and UDP may share a number.
type NodePort = (u16, String);

/// All addresses and node ports that are taken, with the owner, that is the Service, that has them.
pub(crate) struct Allocations {
    base: u32,
    size: u32,
    node_ports: RangeInclusive<u16>,
    ips: BTreeMap<u32, String>,
    ports: BTreeMap<NodePort, String>,
}

/// What a Service shall have once its write succeeds. Dropped before [`Reservation::keep`], it gives back what is new.
pub(crate) struct Reservation {
    server: ApiServer,
    owner: String,
    new_ips: Vec<u32>,
    new_ports: Vec<NodePort>,
    wanted: (BTreeSet<u32>, BTreeSet<NodePort>),
    kept: bool,
}

impl Reservation {
    /// The write succeeded: the Service has what it wanted, and nothing else any more.
    pub(crate) fn keep(mut self) {
        self.kept = true;
        let server = self.server.clone();
        let mut all = server.inner.services.lock().unwrap_or_else(PoisonError::into_inner);
        all.settle(&self.owner, &self.wanted.0, &self.wanted.1);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let mut all = self
            .server
            .inner
            .services
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for ip in &self.new_ips {
            all.ips.remove(ip);
        }
        for port in &self.new_ports {
            all.ports.remove(port);
        }
    }
}

/// Who holds an allocation. With the UID, for a Service may be made anew while its predecessor is still being settled.
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

fn has_address(service: &Value) -> bool {
    service["spec"]["type"] != "ExternalName"
}

fn has_node_ports(service: &Value) -> bool {
    matches!(service["spec"]["type"].as_str(), Some("NodePort" | "LoadBalancer"))
}

fn protocol(port: &Value) -> String {
    port["protocol"].as_str().unwrap_or("TCP").to_owned()
}

fn cluster_ip(service: &Value) -> Option<Ipv4Addr> {
    service["spec"]["clusterIP"].as_str()?.parse().ok()
}

fn node_ports(service: &Value) -> BTreeSet<NodePort> {
    let ports = service["spec"]["ports"].as_array().into_iter().flatten();
    ports
        .filter_map(|p| {
            Some((
                u16::try_from(p["nodePort"].as_u64()?).ok().filter(|n| *n > 0)?,
                protocol(p),
            ))
        })
        .collect()
}

impl Allocations {
    /// Nothing taken yet.
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
        }
    }

    /// Remembers a stored Service.
    pub(crate) fn load(&mut self, service: &Value) {
        let owner = owner(service);
        if let Some(ip) = cluster_ip(service).filter(|_| has_address(service)) {
            self.ips.insert(ip.into(), owner.clone());
        }
        for port in node_ports(service) {
            self.ports.insert(port, owner.clone());
        }
    }

    /// Gives back everything of a Service but this.
    pub(crate) fn settle(&mut self, owner: &str, ips: &BTreeSet<u32>, ports: &BTreeSet<NodePort>) {
        self.ips.retain(|ip, o| o != owner || ips.contains(ip));
        self.ports.retain(|port, o| o != owner || ports.contains(port));
    }

    /// Gives back everything of a Service.
    pub(crate) fn release(&mut self, owner: &str) {
        self.settle(owner, &BTreeSet::new(), &BTreeSet::new());
    }

    fn take_ip(&mut self, owner: &str, wanted: Option<Ipv4Addr>) -> Result<(Ipv4Addr, bool), FieldError> {
        let (first, last) = (
            self.base.saturating_add(1),
            self.base.saturating_add(self.size.saturating_sub(2)),
        );
        let Some(wanted) = wanted else {
            // The lower sixteenth (16 to 256 addresses) is left to Services that ask for an address, as in the original.
            let reserved = (self.size / 16).clamp(16, 256).min(self.size / 2);
            let start = rand::rng().random_range(first.saturating_add(reserved).min(last)..=last);
            let free = (start..=last).chain(first..start).find(|ip| !self.ips.contains_key(ip));
            let ip = free.ok_or_else(|| FieldError {
                field: "spec.clusterIP".into(),
                cause: "InternalError",
                message: "failed to allocate a serviceIP: range is full".into(),
            })?;
            self.ips.insert(ip, owner.to_owned());
            return Ok((Ipv4Addr::from(ip), true));
        };
        let ip = u32::from(wanted);
        let text = format!("Invalid value: [\"{wanted}\"]: failed to allocate IP {wanted}: provided IP");
        if !(first..=last).contains(&ip) {
            return Err(invalid("spec.clusterIPs", format!("{text} is not in the valid range")));
        }
        match self.ips.get(&ip) {
            Some(other) if other != owner => Err(invalid("spec.clusterIPs", format!("{text} is already allocated"))),
            Some(_) => Ok((wanted, false)),
            None => {
                self.ips.insert(ip, owner.to_owned());
                Ok((wanted, true))
            }
        }
    }

    fn take_port(&mut self, owner: &str, field: &str, wanted: u16, protocol: &str) -> Result<(u16, bool), FieldError> {
        let key = |port: u16| (port, protocol.to_owned());
        if wanted == 0 {
            let (first, last) = (*self.node_ports.start(), *self.node_ports.end());
            let start = rand::rng().random_range(first..=last.max(first));
            let free = (start..=last)
                .chain(first..start)
                .find(|p| !self.ports.contains_key(&key(*p)));
            let port = free.ok_or_else(|| invalid(field, "failed to allocate a nodePort: range is full"))?;
            self.ports.insert(key(port), owner.to_owned());
            return Ok((port, true));
        }
        if !self.node_ports.contains(&wanted) {
            let (first, last) = (self.node_ports.start(), self.node_ports.end());
            let message = format!(
                "Invalid value: {wanted}: provided port is not in the valid range. The range of valid ports is {first}-{last}"
            );
            return Err(invalid(field, message));
        }
        match self.ports.get(&key(wanted)) {
            Some(other) if other != owner => Err(invalid(
                field,
                format!("Invalid value: {wanted}: provided port is already allocated"),
            )),
            Some(_) => Ok((wanted, false)),
            None => {
                self.ports.insert(key(wanted), owner.to_owned());
                Ok((wanted, true))
            }
        }
    }
}

/// Carries over what the server once gave and the client left out of its update.
pub(crate) fn inherit(old: &Value, new: &mut Value) -> Result<(), FieldError> {
    if !new["spec"].is_object() {
        return Ok(());
    }
    let (old_ip, new_ip) = (
        old["spec"]["clusterIP"].as_str().unwrap_or_default(),
        new["spec"]["clusterIP"].as_str().unwrap_or_default(),
    );
    if has_address(old) && has_address(new) && !old_ip.is_empty() {
        if new_ip.is_empty() {
            new["spec"]["clusterIP"] = old["spec"]["clusterIP"].clone();
            new["spec"]["clusterIPs"] = old["spec"]["clusterIPs"].clone();
        } else if new_ip != old_ip {
            return Err(invalid(
                "spec.clusterIPs[0]",
                format!("Invalid value: [\"{new_ip}\"]: may not change once set"),
            ));
        }
    }
    let keep = has_node_ports(new);
    let dropped = !keep && has_node_ports(old);
    let olds = old["spec"]["ports"].as_array().cloned().unwrap_or_default();
    let ports = new["spec"]["ports"].as_array_mut().into_iter().flatten();
    for port in ports.filter(|port| port.is_object()) {
        let same = olds
            .iter()
            .find(|o| o["port"] == port["port"] && protocol(o) == protocol(port));
        let before = same.and_then(|o| o["nodePort"].as_u64()).unwrap_or(0);
        let now = port["nodePort"].as_u64().unwrap_or(0);
        if keep && now == 0 && before != 0 {
            port["nodePort"] = before.into();
        } else if dropped && now == before {
            port.as_object_mut().map(|p| p.remove("nodePort"));
        }
    }
    Ok(())
}

impl ApiServer {
    /// Gives a Service that is about to be written its address and node ports.
    pub(crate) fn reserve(&self, old: Option<&Value>, service: &mut Value) -> Result<Reservation, FieldError> {
        if let Some(old) = old {
            inherit(old, service)?;
        }
        let mut reservation = Reservation {
            server: self.clone(),
            owner: owner(service),
            new_ips: Vec::new(),
            new_ports: Vec::new(),
            wanted: Default::default(),
            kept: false,
        };
        // The guard is dropped before the reservation may be, whose own drop takes the lock.
        let result = {
            let mut all = self.inner.services.lock().unwrap_or_else(PoisonError::into_inner);
            fill(&mut all, &mut reservation, service)
        };
        result.map(|()| reservation)
    }
}

fn fill(all: &mut Allocations, reservation: &mut Reservation, service: &mut Value) -> Result<(), FieldError> {
    let owner = reservation.owner.clone();
    let listed = service["spec"]["clusterIPs"][0].as_str().map(str::to_owned);
    let given = service["spec"]["clusterIP"]
        .as_str()
        .map(str::to_owned)
        .filter(|ip| !ip.is_empty())
        .or(listed);
    match given.as_deref() {
        _ if !has_address(service) => {
            let spec = view::child(service, "spec");
            spec.remove("clusterIP");
            spec.remove("clusterIPs");
        }
        Some("None") => {
            service["spec"]["clusterIP"] = "None".into();
            service["spec"]["clusterIPs"] = json!(["None"]);
        }
        given => {
            let wrong = |text: &str| {
                invalid(
                    "spec.clusterIPs[0]",
                    format!("Invalid value: \"{text}\": must be a valid IPv4 address"),
                )
            };
            let wanted = given.map(|text| text.parse().map_err(|_| wrong(text))).transpose()?;
            let (ip, new) = all.take_ip(&owner, wanted)?;
            reservation.wanted.0.insert(ip.into());
            reservation.new_ips.extend(new.then_some(u32::from(ip)));
            let spec = view::child(service, "spec");
            spec.insert("clusterIP".into(), ip.to_string().into());
            spec.insert("clusterIPs".into(), json!([ip.to_string()]));
        }
    }
    if !has_node_ports(service) {
        return Ok(());
    }
    for (n, port) in service["spec"]["ports"]
        .as_array_mut()
        .into_iter()
        .flatten()
        .enumerate()
    {
        let wanted = u16::try_from(port["nodePort"].as_u64().unwrap_or(0)).unwrap_or(u16::MAX);
        let protocol = protocol(port);
        let (number, new) = all.take_port(&owner, &format!("spec.ports[{n}].nodePort"), wanted, &protocol)?;
        port["nodePort"] = number.into();
        reservation.wanted.1.insert((number, protocol.clone()));
        reservation.new_ports.extend(new.then_some((number, protocol)));
    }
    Ok(())
}
