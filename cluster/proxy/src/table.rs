//! What a node's proxy should do, as a pure function of Services and EndpointSlices.
//!
//! The rules are kube-proxy's: ready endpoints; where there is none, those that still serve while they terminate; only
//! endpoints of the own node where a traffic policy is `Local`; a frontend without endpoints is closed, so that the
//! kernel refuses. Never in here: sockets, clocks, choices by chance.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use afloat_words::key::Key;

/// Transport protocols that are served; SCTP is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// Connections.
    Tcp,
    /// Datagrams, as flows per client.
    Udp,
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortKey {
    /// The Service.
    pub service: Key,
    /// `spec.ports[].name`; empty for the only port of a Service.
    pub port: String,
    /// Its protocol.
    pub protocol: Protocol,
}

/// The part of a Service that a proxy needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// IPv4 cluster addresses; empty for headless and ExternalName Services.
    pub cluster_ips: Vec<Ipv4Addr>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// `internalTrafficPolicy: Local`.
    pub internal_local: bool,
    /// `externalTrafficPolicy: Local`.
    pub external_local: bool,
    /// `sessionAffinity: ClientIP` with its time-out.
    pub affinity: Option<Duration>,
}

/// See [`PortKey`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Name, maybe empty.
    pub name: String,
    /// Protocol.
    pub protocol: Protocol,
    /// Port of the cluster address.
    pub port: u16,
    /// Port of the node's address.
    pub node_port: Option<u16>,
}

/// The part of an EndpointSlice that a proxy needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    /// `metadata.resourceVersion`.
    pub version: String,
    /// Port number of each named port.
    pub ports: Vec<(String, Protocol, u16)>,
    /// Its endpoints.
    pub endpoints: Vec<SliceEndpoint>,
}

/// One endpoint of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceEndpoint {
    /// Its address (consumers of EndpointSlices use the first one).
    pub address: Ipv4Addr,
    /// Takes new connections.
    pub ready: bool,
    /// Passes its readiness checks, whether or not it terminates.
    pub serving: bool,
    /// Is being deleted.
    pub terminating: bool,
    /// The node that it runs on.
    pub node: Option<String>,
    /// The pod behind it.
    pub pod: Option<PodRef>,
}

/// The pod behind an endpoint (`targetRef`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodRef {
    /// Its UID.
    pub uid: String,
    /// Its name.
    pub name: String,
}

/// Where clients connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Frontend {
    /// Cluster address and port.
    ClusterIp(SocketAddrV4, Protocol),
    /// Port of the node's own address.
    NodePort(u16, Protocol),
}

/// What one frontend does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The port of the Service that it belongs to.
    pub port: PortKey,
    /// Where connections go to; sorted, each once. Empty: the frontend is closed.
    pub endpoints: Vec<SocketAddrV4>,
    /// How long a client address stays with its endpoint.
    pub affinity: Option<Duration>,
}

/// One thing that was seen.
#[derive(Clone, Debug)]
pub enum Change {
    /// All Services, after a list.
    Services(BTreeMap<Key, Service>),
    /// One Service; None: deleted.
    Service(Key, Option<Service>),
    /// All slices, after a list: by namespace and name, with the Service they belong to.
    Slices(BTreeMap<Key, (Key, Slice)>),
    /// One slice by namespace and name; None: deleted, or it belongs to no Service.
    Slice(Key, Option<(Key, Slice)>),
}

/// What has to be done to get from one table to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// Frontends to open.
    pub open: BTreeMap<Frontend, Route>,
    /// Frontends that stay open with another route.
    pub change: BTreeMap<Frontend, Route>,
    /// Frontends to close.
    pub close: BTreeSet<Frontend>,
}

/// Everything seen so far and the table that follows from it.
#[derive(Clone, Debug, Default)]
pub struct Model {
    node: String,
    services: BTreeMap<Key, Service>,
    slices: BTreeMap<Key, BTreeMap<String, Slice>>,
    /// Which Service each slice belongs to.
    owners: BTreeMap<Key, Key>,
    /// Services that want a frontend. The first one has it; the API server sees to it that there is only one.
    claims: BTreeMap<Frontend, BTreeMap<Key, Route>>,
    /// Frontends of each Service, to find its claims again.
    claimed: BTreeMap<Key, BTreeSet<Frontend>>,
    table: BTreeMap<Frontend, Route>,
}

impl Model {
    /// Nothing seen yet, on a node of this name.
    pub fn new(node: &str) -> Model {
        Model {
            node: node.into(),
            ..Model::default()
        }
    }

    /// The current routes, closed ones (without endpoints) included.
    pub fn table(&self) -> &BTreeMap<Frontend, Route> {
        &self.table
    }

    /// A Service as last seen.
    pub fn service(&self, key: &Key) -> Option<&Service> {
        self.services.get(key)
    }

    /// Names and resource versions of the slices of a Service.
    pub fn versions(&self, key: &Key) -> BTreeMap<String, String> {
        let slices = self.slices.get(key).into_iter().flatten();
        slices
            .map(|(name, slice)| (name.clone(), slice.version.clone()))
            .collect()
    }

    /// The slices of a Service.
    pub(crate) fn slices_of(&self, key: &Key) -> impl Iterator<Item = &Slice> {
        self.slices.get(key).into_iter().flat_map(BTreeMap::values)
    }

    /// Takes a change in; answers the Services that it touches, for [`Model::update`].
    pub fn see(&mut self, change: Change) -> BTreeSet<Key> {
        match change {
            Change::Services(all) => {
                let keys = self.services.keys().chain(all.keys()).cloned().collect::<BTreeSet<_>>();
                let touched = keys
                    .into_iter()
                    .filter(|k| self.services.get(k) != all.get(k))
                    .collect();
                self.services = all;
                touched
            }
            Change::Service(key, service) => {
                match service {
                    Some(service) => self.services.insert(key.clone(), service),
                    None => self.services.remove(&key),
                };
                BTreeSet::from([key])
            }
            Change::Slices(all) => {
                let gone: Vec<_> = self.owners.keys().filter(|k| !all.contains_key(*k)).cloned().collect();
                let mut touched = BTreeSet::new();
                for name in gone {
                    touched.extend(self.see_slice(name, None));
                }
                for (name, slice) in all {
                    touched.extend(self.see_slice(name, Some(slice)));
                }
                touched
            }
            Change::Slice(name, slice) => self.see_slice(name, slice),
        }
    }

    fn see_slice(&mut self, id: Key, slice: Option<(Key, Slice)>) -> BTreeSet<Key> {
        let mut touched = BTreeSet::new();
        let owner = slice.as_ref().map(|(key, _)| key);
        if let Some(previous) = self.owners.get(&id).cloned()
            && Some(&previous) != owner
        {
            self.owners.remove(&id);
            if let Some(of_service) = self.slices.get_mut(&previous) {
                of_service.remove(&*id.name);
                if of_service.is_empty() {
                    self.slices.remove(&previous);
                }
            }
            touched.insert(previous);
        }
        if let Some((key, slice)) = slice {
            self.owners.insert(id.clone(), key.clone());
            let known = self.slices.entry(key.clone()).or_default();
            if known.get(&*id.name) != Some(&slice) {
                known.insert(id.name.to_string(), slice);
                touched.insert(key);
            }
        }
        touched
    }

    /// Computes the routes of these Services anew and tells what changes.
    pub fn update(&mut self, touched: &BTreeSet<Key>) -> Diff {
        let mut frontends = BTreeSet::new();
        for key in touched {
            let routes = match self.services.get(key) {
                Some(service) => routes(&self.node, key, service, self.slices.get(key)),
                None => BTreeMap::new(),
            };
            let wanted: BTreeSet<Frontend> = routes.keys().copied().collect();
            for frontend in self.claimed.remove(key).into_iter().flatten() {
                if let Some(claims) = self.claims.get_mut(&frontend) {
                    claims.remove(key);
                }
                frontends.insert(frontend);
            }
            for (frontend, route) in routes {
                self.claims.entry(frontend).or_default().insert(key.clone(), route);
            }
            frontends.extend(wanted.iter().copied());
            if !wanted.is_empty() {
                self.claimed.insert(key.clone(), wanted);
            }
        }
        let mut diff = Diff::default();
        for frontend in frontends {
            let claims = self.claims.get(&frontend);
            let new = claims.and_then(|claims| claims.values().next()).cloned();
            if new.is_none() {
                self.claims.remove(&frontend);
            }
            self.replace(frontend, new, &mut diff);
        }
        diff
    }

    fn replace(&mut self, frontend: Frontend, new: Option<Route>, diff: &mut Diff) {
        let old = match &new {
            Some(route) => self.table.insert(frontend, route.clone()),
            None => self.table.remove(&frontend),
        };
        let was_open = old.as_ref().is_some_and(|route| !route.endpoints.is_empty());
        match new.filter(|route| !route.endpoints.is_empty()) {
            Some(route) if !was_open => {
                diff.open.insert(frontend, route);
            }
            Some(route) if old.as_ref() != Some(&route) => {
                diff.change.insert(frontend, route);
            }
            None if was_open => {
                diff.close.insert(frontend);
            }
            _ => {}
        }
    }
}

/// All routes of one Service on one node.
pub fn routes(
    node: &str,
    key: &Key,
    service: &Service,
    slices: Option<&BTreeMap<String, Slice>>,
) -> BTreeMap<Frontend, Route> {
    let mut routes = BTreeMap::new();
    if service.cluster_ips.is_empty() {
        return routes;
    }
    for port in &service.ports {
        let id = PortKey {
            service: key.clone(),
            port: port.name.clone(),
            protocol: port.protocol,
        };
        let candidates = candidates(&port.name, port.protocol, slices);
        let route = |local: bool| Route {
            port: id.clone(),
            endpoints: select(&candidates, local.then_some(node)),
            affinity: service.affinity,
        };
        let internal = route(service.internal_local);
        for ip in &service.cluster_ips {
            routes.insert(
                Frontend::ClusterIp(SocketAddrV4::new(*ip, port.port), port.protocol),
                internal.clone(),
            );
        }
        if let Some(number) = port.node_port {
            routes.insert(Frontend::NodePort(number, port.protocol), route(service.external_local));
        }
    }
    routes
}

/// Endpoints of one named port over all slices. One that is in two slices (while it moves) counts by its better state.
fn candidates(
    name: &str,
    protocol: Protocol,
    slices: Option<&BTreeMap<String, Slice>>,
) -> BTreeMap<SocketAddrV4, SliceEndpoint> {
    let mut found: BTreeMap<SocketAddrV4, SliceEndpoint> = BTreeMap::new();
    for slice in slices.into_iter().flat_map(BTreeMap::values) {
        let port = slice.ports.iter().find(|(n, p, _)| n == name && *p == protocol);
        let Some((_, _, number)) = port else { continue };
        for endpoint in &slice.endpoints {
            let entry = found
                .entry(SocketAddrV4::new(endpoint.address, *number))
                .or_insert_with(|| endpoint.clone());
            entry.ready |= endpoint.ready;
            entry.serving |= endpoint.serving;
            entry.terminating &= endpoint.terminating;
        }
    }
    found
}

/// kube-proxy's choice: the ready ones, else the serving ones that terminate; of one node only where asked.
fn select(candidates: &BTreeMap<SocketAddrV4, SliceEndpoint>, node: Option<&str>) -> Vec<SocketAddrV4> {
    let pick = |wanted: fn(&SliceEndpoint) -> bool| -> Vec<SocketAddrV4> {
        let near = |e: &SliceEndpoint| node.is_none() || e.node.as_deref() == node;
        candidates
            .iter()
            .filter(|(_, e)| wanted(e) && near(e))
            .map(|(address, _)| *address)
            .collect()
    };
    let ready = pick(|e| e.ready);
    if ready.is_empty() {
        pick(|e| e.serving && e.terminating)
    } else {
        ready
    }
}

#[cfg(test)]
mod tests;
