//! What the cluster's names mean: Services, endpoints and namespaces, and the records that follow from them.
//!
//! Pure. The rules are those of "Kubernetes DNS-Based Service Discovery", schema version 1.1.0; what that leaves open
//! (names of endpoints without a host name, time to live, pods' names) is as CoreDNS has it with kubeadm's configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use afloat_words::key::Key;
use hickory_proto::rr::rdata::{A, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

/// Seconds that an answer, also a negative one, may be kept: CoreDNS' own default.
pub(crate) const TTL: u32 = 5;
/// Of the specification.
const SCHEMA_VERSION: &str = "1.1.0";

/// What names need of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// Has addresses of its own.
    ClusterIp {
        /// Its addresses.
        addresses: Vec<Ipv4Addr>,
        /// Its ports that have names.
        ports: Vec<Port>,
    },
    /// Stands for its endpoints.
    Headless,
    /// Stands for another name.
    ExternalName(String),
}

/// A port that has a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    pub(crate) name: String,
    /// `tcp`, in small letters.
    pub(crate) protocol: String,
    pub(crate) number: u16,
}

/// What names need of an EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slice {
    /// The Service that it belongs to.
    pub(crate) service: String,
    pub(crate) ports: Vec<Port>,
    /// Those that are ready, or whose Service publishes them nevertheless.
    pub(crate) endpoints: Vec<Endpoint>,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) address: Ipv4Addr,
    pub(crate) hostname: Option<String>,
}

impl Endpoint {
    /// Its label below the Service: its host name, or its address with dashes.
    fn label(&self) -> String {
        self.hostname
            .clone()
            .unwrap_or_else(|| self.address.to_string().replace('.', "-"))
    }
}

/// Something new about the cluster.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// These and no others.
    Services(BTreeMap<Key, Service>),
    /// One is there, or gone.
    Service(Key, Option<Service>),
    /// These and no others.
    Slices(BTreeMap<Key, Slice>),
    /// One is there, or gone.
    Slice(Key, Option<Slice>),
    /// These and no others.
    Namespaces(BTreeSet<String>),
    /// One is there, or gone.
    Namespace(String, bool),
}

/// What a question comes to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Found {
    /// The name is not the cluster's.
    Elsewhere,
    /// No such name.
    Nothing,
    /// The name exists; these are its records of the type asked for, maybe none, and what helps to use them.
    Records(Vec<Record>, Vec<Record>),
    /// The name stands for another one.
    Alias(Name),
}

/// The cluster's names.
#[derive(Clone, Debug)]
pub(crate) struct Zone {
    domain: Name,
    /// Where the DNS server itself is.
    server: Ipv4Addr,
    /// Networks whose addresses nobody else knows: what has no name here has none.
    networks: Vec<(Ipv4Addr, u8)>,
    namespaces: BTreeSet<String>,
    services: BTreeMap<Key, Service>,
    slices: BTreeMap<Key, Slice>,
    /// Names of the slices of a Service.
    slices_of: BTreeMap<Key, BTreeSet<Arc<str>>>,
    /// Services, slices, namespaces: listed once.
    listed: [bool; 3],
    /// Counts changes: the zone's serial number.
    serial: u32,
}

impl Zone {
    /// Knows nothing yet. `domain`: `cluster.local`.
    pub(crate) fn new(domain: Name, server: Ipv4Addr, networks: Vec<(Ipv4Addr, u8)>) -> Self {
        Self {
            domain: domain.to_lowercase(),
            server,
            networks,
            namespaces: BTreeSet::new(),
            services: BTreeMap::new(),
            slices: BTreeMap::new(),
            slices_of: BTreeMap::new(),
            listed: [false; 3],
            serial: 1,
        }
    }

    /// Everything was listed once: what is not known does not exist.
    pub(crate) fn complete(&self) -> bool {
        self.listed == [true; 3]
    }

    /// Takes news in.
    pub(crate) fn see(&mut self, change: Change) {
        self.serial = self.serial.wrapping_add(1);
        match change {
            Change::Services(all) => {
                self.services = all;
                self.listed[0] = true;
            }
            Change::Service(key, Some(service)) => drop(self.services.insert(key, service)),
            Change::Service(key, None) => drop(self.services.remove(&key)),
            Change::Slices(all) => {
                self.slices_of.clear();
                for (key, slice) in &all {
                    self.link(key, &slice.service);
                }
                self.slices = all;
                self.listed[1] = true;
            }
            Change::Slice(key, slice) => self.see_slice(key, slice),
            Change::Namespaces(all) => {
                self.namespaces = all;
                self.listed[2] = true;
            }
            Change::Namespace(name, true) => drop(self.namespaces.insert(name)),
            Change::Namespace(name, false) => drop(self.namespaces.remove(&name)),
        }
    }

    fn link(&mut self, slice: &Key, service: &str) {
        let service = Key::new(slice.namespace.clone(), service);
        self.slices_of.entry(service).or_default().insert(slice.name.clone());
    }

    fn see_slice(&mut self, key: Key, slice: Option<Slice>) {
        if let Some(old) = self.slices.remove(&key) {
            let service = Key::new(key.namespace.clone(), old.service);
            if let Some(names) = self.slices_of.get_mut(&service) {
                names.remove(&key.name);
                if names.is_empty() {
                    self.slices_of.remove(&service);
                }
            }
        }
        if let Some(slice) = slice {
            self.link(&key, &slice.service);
            self.slices.insert(key, slice);
        }
    }

    /// The start of authority: what makes "no" an answer that may be kept.
    pub(crate) fn authority(&self) -> Record {
        let name = |labels: &[&str]| self.below(labels);
        let data = SOA::new(
            name(&["ns", "dns"]),
            name(&["hostmaster"]),
            self.serial,
            7200,
            1800,
            86_400,
            TTL,
        );
        Record::from_rdata(self.domain.clone(), TTL, RData::SOA(data))
    }

    /// Answers a question.
    pub(crate) fn find(&self, name: &Name, kind: RecordType) -> Found {
        let labels = labels(name);
        let mut labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        if let [d, c, b, a, "in-addr", "arpa"] = labels.as_slice() {
            return self.reverse(name, kind, &format!("{a}.{b}.{c}.{d}"));
        }
        if !self.domain.zone_of(name) {
            return Found::Elsewhere;
        }
        labels.truncate(labels.len().saturating_sub(self.domain.num_labels().into()));
        self.forward(name, kind, &labels)
    }

    fn forward(&self, name: &Name, kind: RecordType, labels: &[&str]) -> Found {
        let own = |data: Vec<RData>| Found::Records(records(name, kind, data), vec![]);
        match labels {
            [] => {
                let server = NS(self.below(&["ns", "dns"]));
                own(vec![self.authority().data, RData::NS(server)])
            }
            ["dns-version"] => own(vec![RData::TXT(TXT::new(vec![SCHEMA_VERSION.to_owned()]))]),
            ["ns", "dns"] => own(vec![RData::A(A(self.server))]),
            ["dns" | "svc" | "pod"] => own(vec![]),
            [namespace, "svc" | "pod"] if self.namespaces.contains(*namespace) => own(vec![]),
            [address, namespace, "pod"] if self.namespaces.contains(*namespace) => match dashed(address) {
                Some(address) => own(vec![RData::A(A(address))]),
                None => Found::Nothing,
            },
            [service, namespace, "svc"] => self.service(name, kind, &Key::new(*namespace, *service)),
            [part, service, namespace, "svc"] => self.below_service(name, kind, part, &Key::new(*namespace, *service)),
            [port, protocol, service, namespace, "svc"] => {
                let (Some(port), Some(protocol)) = (port.strip_prefix('_'), protocol.strip_prefix('_')) else {
                    return Found::Nothing;
                };
                self.port(name, kind, (port, protocol), &Key::new(*namespace, *service))
            }
            _ => Found::Nothing,
        }
    }

    fn service(&self, name: &Name, kind: RecordType, key: &Key) -> Found {
        let addresses = match self.services.get(key) {
            None => return Found::Nothing,
            Some(Service::ExternalName(target)) => {
                let Ok(mut target) = Name::from_str_relaxed(target) else {
                    return Found::Nothing;
                };
                target.set_fqdn(true);
                return Found::Alias(target);
            }
            Some(Service::ClusterIp { addresses, .. }) => addresses.clone(),
            Some(Service::Headless) => {
                let found: BTreeSet<_> = self.endpoints(key).map(|endpoint| endpoint.address).collect();
                found.into_iter().collect()
            }
        };
        if addresses.is_empty() {
            // "If there are no ready endpoints … the answer should be NXDOMAIN" (2.4.1).
            return Found::Nothing;
        }
        let data = addresses.into_iter().map(|address| RData::A(A(address))).collect();
        Found::Records(records(name, kind, data), vec![])
    }

    /// A host name of an endpoint, or `_tcp`, which is there if ports are below it.
    fn below_service(&self, name: &Name, kind: RecordType, part: &str, key: &Key) -> Found {
        if let Some(protocol) = part.strip_prefix('_') {
            let some = self.ports(key).iter().any(|port| port.protocol == protocol);
            return if some {
                Found::Records(vec![], vec![])
            } else {
                Found::Nothing
            };
        }
        if matches!(self.services.get(key), None | Some(Service::ExternalName(_))) {
            return Found::Nothing;
        }
        let named: BTreeSet<_> = self
            .endpoints(key)
            .filter(|endpoint| endpoint.label() == part)
            .map(|endpoint| endpoint.address)
            .collect();
        if named.is_empty() {
            return Found::Nothing;
        }
        let data = named.into_iter().map(|address| RData::A(A(address))).collect();
        Found::Records(records(name, kind, data), vec![])
    }

    /// `_http._tcp.web.shop.svc…`
    fn port(&self, name: &Name, kind: RecordType, (port, protocol): (&str, &str), key: &Key) -> Found {
        let wanted = |candidate: &&Port| candidate.name == port && candidate.protocol == protocol;
        let mut targets: Vec<(Name, u16, Vec<Ipv4Addr>)> = vec![];
        match self.services.get(key) {
            None | Some(Service::ExternalName(_)) => {}
            Some(Service::ClusterIp { addresses, ports }) => {
                let target = self.below(&[&key.name, &key.namespace, "svc"]);
                targets.extend(
                    ports
                        .iter()
                        .filter(wanted)
                        .map(|port| (target.clone(), port.number, addresses.clone())),
                );
            }
            Some(Service::Headless) => {
                for slice in self.slices(key) {
                    for port in slice.ports.iter().filter(wanted) {
                        for endpoint in &slice.endpoints {
                            let target = self.below(&[&endpoint.label(), &key.name, &key.namespace, "svc"]);
                            targets.push((target, port.number, vec![endpoint.address]));
                        }
                    }
                }
            }
        }
        if targets.is_empty() {
            return Found::Nothing;
        }
        let weight = u16::try_from(100 / targets.len().min(100)).unwrap_or(1).max(1);
        let mut data = vec![];
        let mut helpful = vec![];
        for (target, port, addresses) in targets {
            helpful.extend(
                addresses
                    .into_iter()
                    .map(|address| Record::from_rdata(target.clone(), TTL, RData::A(A(address)))),
            );
            data.push(RData::SRV(SRV::new(0, weight, port, target)));
        }
        let found = records(name, kind, data);
        let helpful = if found.is_empty() { vec![] } else { helpful };
        Found::Records(found, helpful)
    }

    /// Which Service, or which endpoints, have an address.
    fn reverse(&self, name: &Name, kind: RecordType, address: &str) -> Found {
        let Ok(address) = address.parse::<Ipv4Addr>() else {
            return Found::Elsewhere;
        };
        let mut targets = BTreeSet::new();
        for (key, service) in &self.services {
            match service {
                Service::ClusterIp { addresses, .. } if addresses.contains(&address) => {
                    targets.insert(self.below(&[&key.name, &key.namespace, "svc"]));
                }
                Service::Headless => {
                    let here = self.endpoints(key).filter(|endpoint| endpoint.address == address);
                    targets.extend(
                        here.map(|endpoint| self.below(&[&endpoint.label(), &key.name, &key.namespace, "svc"])),
                    );
                }
                _ => {}
            }
        }
        if targets.is_empty() {
            let ours = self.networks.iter().any(|network| contains(*network, address));
            return if ours { Found::Nothing } else { Found::Elsewhere };
        }
        let data = targets.into_iter().map(|target| RData::PTR(PTR(target))).collect();
        Found::Records(records(name, kind, data), vec![])
    }

    fn ports(&self, key: &Key) -> Vec<&Port> {
        match self.services.get(key) {
            Some(Service::ClusterIp { ports, .. }) => ports.iter().collect(),
            Some(Service::Headless) => {
                let slices = self.slices(key).filter(|slice| !slice.endpoints.is_empty());
                slices.flat_map(|slice| &slice.ports).collect()
            }
            _ => vec![],
        }
    }

    fn slices(&self, key: &Key) -> impl Iterator<Item = &Slice> {
        let names = self.slices_of.get(key).into_iter().flatten();
        let namespace = key.namespace.clone();
        names.filter_map(move |name| self.slices.get(&Key::new(namespace.clone(), name.clone())))
    }

    fn endpoints(&self, key: &Key) -> impl Iterator<Item = &Endpoint> {
        self.slices(key).flat_map(|slice| &slice.endpoints)
    }

    /// A name in the cluster's domain. One that would be too long (a Service may be called anything up to 63 bytes, so
    /// this cannot be) comes out as the domain itself.
    fn below(&self, labels: &[&str]) -> Name {
        let own = labels.iter().map(|label| label.as_bytes());
        Name::from_labels(own.chain(self.domain.iter())).unwrap_or_else(|_| self.domain.clone())
    }
}

/// The record that says that a name stands for another.
pub(crate) fn alias(name: &Name, target: &Name) -> Record {
    Record::from_rdata(name.clone(), TTL, RData::CNAME(CNAME(target.clone())))
}

fn records(name: &Name, kind: RecordType, data: Vec<RData>) -> Vec<Record> {
    data.into_iter()
        .filter(|data| kind == RecordType::ANY || data.record_type() == kind)
        .map(|data| Record::from_rdata(name.clone(), TTL, data))
        .collect()
}

/// In small letters, from left to right.
fn labels(name: &Name) -> Vec<String> {
    name.iter()
        .map(|label| String::from_utf8_lossy(label).to_ascii_lowercase())
        .collect()
}

/// `10-244-1-5`
fn dashed(text: &str) -> Option<Ipv4Addr> {
    if text.contains('.') {
        return None;
    }
    text.replace('-', ".").parse().ok()
}

fn contains((network, prefix): (Ipv4Addr, u8), address: Ipv4Addr) -> bool {
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or_default();
    (u32::from(network) ^ u32::from(address)) & mask == 0
}

#[cfg(test)]
pub(crate) mod tests;
