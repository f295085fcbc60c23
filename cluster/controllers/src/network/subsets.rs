//! Subsets of Endpoints in one form, whoever wrote them: each set of addresses once, with all ports that it has.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset};

/// A port as it is compared: name, protocol, number, application protocol.
type Port = (String, String, i32, Option<String>);
/// An address as it is compared: the IP and the uid of the pod; pods on the host's network share an IP.
pub(super) type Address = (String, String);

/// The same addresses and ports, each port with all its addresses. An address that is ready in one subset and not in another is not ready.
/// Source: `RepackSubsets` of Kubernetes; the order of subsets, which means nothing there, is that of their addresses here.
pub(super) fn repack(subsets: &[EndpointSubset]) -> Vec<EndpointSubset> {
    let mut known: BTreeMap<Address, &EndpointAddress> = BTreeMap::new();
    let mut by_port: BTreeMap<Option<Port>, BTreeMap<Address, bool>> = BTreeMap::new();
    for subset in subsets {
        let mut ports: Vec<Option<Port>> = subset.ports.iter().flatten().map(|port| Some(read(port))).collect();
        if ports.is_empty() {
            ports.push(None);
        }
        let ready = subset.addresses.iter().flatten().map(|address| (address, true));
        let others = subset.not_ready_addresses.iter().flatten();
        for (address, ready) in ready.chain(others.map(|address| (address, false))) {
            known.entry(key_of(address)).or_insert(address);
            for port in &ports {
                let there = by_port.entry(port.clone()).or_default();
                let was = there.entry(key_of(address)).or_insert(ready);
                *was &= ready;
            }
        }
    }
    let mut by_addresses: BTreeMap<BTreeMap<Address, bool>, Vec<Port>> = BTreeMap::new();
    for (port, addresses) in by_port {
        by_addresses.entry(addresses).or_default().extend(port);
    }
    let packed = by_addresses.into_iter().map(|(addresses, ports)| {
        let those = |wanted: bool| {
            let found = addresses.iter().filter(|(_, ready)| **ready == wanted);
            let found: Vec<EndpointAddress> = found
                .filter_map(|(key, _)| known.get(key).map(|it| (*it).clone()))
                .collect();
            (!found.is_empty()).then_some(found)
        };
        EndpointSubset {
            addresses: those(true),
            not_ready_addresses: those(false),
            ports: (!ports.is_empty()).then(|| ports.into_iter().map(write).collect()),
        }
    });
    packed.collect()
}

fn key_of(address: &EndpointAddress) -> Address {
    let pod = address.target_ref.as_ref().and_then(|target| target.uid.clone());
    (address.ip.clone(), pod.unwrap_or_default())
}

fn read(port: &EndpointPort) -> Port {
    (
        port.name.clone().unwrap_or_default(),
        port.protocol.clone().unwrap_or_else(|| "TCP".into()),
        port.port,
        port.app_protocol.clone(),
    )
}

fn write((name, protocol, port, app_protocol): Port) -> EndpointPort {
    EndpointPort {
        name: Some(name).filter(|name| !name.is_empty()),
        protocol: Some(protocol),
        port,
        app_protocol,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn packed(subsets: Value) -> Value {
        let subsets: Vec<EndpointSubset> = serde_json::from_value(subsets).unwrap();
        let once = repack(&subsets);
        assert_eq!(repack(&once), once, "packed once is packed");
        json!(once)
    }

    #[test]
    fn each_set_of_addresses_comes_once_with_all_its_ports() {
        let web = json!({"name": "web", "port": 80, "protocol": "TCP"});
        let tls = json!({"name": "tls", "port": 443, "protocol": "TCP"});
        let (a, b) = (json!({"ip": "10.0.0.1"}), json!({"ip": "10.0.0.2"}));
        let cases = [
            (
                "two ports of one address",
                json!([{"addresses": [a], "ports": [web]}, {"addresses": [a], "ports": [tls]}]),
                json!([{"addresses": [a], "ports": [tls, web]}]),
            ),
            (
                "two addresses of one port, one of them not ready",
                json!([{"addresses": [b], "ports": [web]}, {"notReadyAddresses": [a], "ports": [web]}]),
                json!([{"addresses": [b], "notReadyAddresses": [a], "ports": [web]}]),
            ),
            (
                "not ready beats ready",
                json!([{"addresses": [a], "ports": [web]}, {"notReadyAddresses": [a], "ports": [web]}]),
                json!([{"notReadyAddresses": [a], "ports": [web]}]),
            ),
            (
                "other addresses for each port",
                json!([{"addresses": [a, b], "ports": [web]}, {"addresses": [b], "ports": [tls]}]),
                json!([{"addresses": [a, b], "ports": [web]}, {"addresses": [b], "ports": [tls]}]),
            ),
            (
                "no ports at all",
                json!([{"addresses": [b, a]}]),
                json!([{"addresses": [a, b]}]),
            ),
            ("no addresses", json!([{"ports": [web]}]), json!([])),
        ];
        for (what, given, wanted) in cases {
            assert_eq!(packed(given), wanted, "{what}");
        }
    }
}
