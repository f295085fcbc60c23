//! Services, Endpoints and EndpointSlices. Addresses and node ports are allocated by the API server.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::FieldError;
use crate::field::{child, duplicate, index, invalid, not_supported, required};
use crate::json::{each, each_in, list, set, set_status, set_text, text};

/// Sets the defaults of a Service.
pub(crate) fn default_service(service: &mut Value) {
    each_in(Some(service), "spec", |spec| {
        set_text(spec, "sessionAffinity", "None");
        if text(spec.get("sessionAffinity")) == "ClientIP" {
            set(
                Some(spec),
                "sessionAffinityConfig",
                || json!({"clientIP": {"timeoutSeconds": 10_800}}),
            );
        } else {
            spec.remove("sessionAffinityConfig");
        }
        set_text(spec, "type", "ClusterIP");
        each(spec, "ports", |port| {
            set_text(port, "protocol", "TCP");
            let number = port.get("port").cloned().unwrap_or(Value::Null);
            if matches!(port.get("targetPort"), None | Some(Value::Null))
                || port["targetPort"] == json!(0)
                || port["targetPort"] == json!("")
            {
                port.insert("targetPort".into(), number);
            }
        });
        if reached_from_outside(spec) {
            set_text(spec, "externalTrafficPolicy", "Cluster");
        }
        if text(spec.get("type")) == "LoadBalancer" {
            set(Some(spec), "allocateLoadBalancerNodePorts", || json!(true));
        }
        if text(spec.get("type")) != "ExternalName" {
            set_text(spec, "internalTrafficPolicy", "Cluster");
            let headless = text(spec.get("clusterIP")) == "None";
            // The cluster has IPv4 only, so nothing is dual-stack but what somebody else gives its endpoints.
            let free = headless
                && spec
                    .get("selector")
                    .and_then(Value::as_object)
                    .is_none_or(Map::is_empty);
            let families = if free { json!(["IPv4", "IPv6"]) } else { json!(["IPv4"]) };
            set(Some(spec), "ipFamilies", || families);
            set_text(
                spec,
                "ipFamilyPolicy",
                if free { "RequireDualStack" } else { "SingleStack" },
            );
            if headless {
                set(Some(spec), "clusterIPs", || json!(["None"]));
            }
        }
    });
}

/// Whether clients from outside of the cluster reach a Service: only then there is a policy for their traffic.
pub(crate) fn is_reached_from_outside(service: &Value) -> bool {
    service
        .get("spec")
        .and_then(Value::as_object)
        .is_some_and(reached_from_outside)
}

fn reached_from_outside(spec: &Map<String, Value>) -> bool {
    match text(spec.get("type")) {
        "NodePort" | "LoadBalancer" => true,
        "ClusterIP" => spec
            .get("externalIPs")
            .and_then(Value::as_array)
            .is_some_and(|ips| !ips.is_empty()),
        _ => false,
    }
}

/// Whether a load balancer asks the nodes which of them have endpoints.
pub(crate) fn has_health_check(service: &Value) -> bool {
    let field = |key: &str| text(crate::get(service, &["spec", key]));
    field("type") == "LoadBalancer" && field("externalTrafficPolicy") == "Local"
}

/// The first status of a Service.
pub(crate) fn begin(service: &mut Value) {
    set_status(service, json!({"loadBalancer": {}}));
}

fn kind_of(service: &Value) -> &str {
    text(crate::get(service, &["spec", "type"]))
}

fn has_address(service: &Value) -> bool {
    kind_of(service) != "ExternalName"
}

fn has_node_ports(service: &Value) -> bool {
    ["NodePort", "LoadBalancer"].contains(&kind_of(service))
}

/// Fields that only the old form of a Service has.
fn lost(old: &Value, new: &Value) -> Vec<&'static str> {
    type Has = fn(&Value) -> bool;
    let address = [
        "clusterIP",
        "clusterIPs",
        "ipFamilies",
        "ipFamilyPolicy",
        "internalTrafficPolicy",
    ];
    let balancer = ["allocateLoadBalancerNodePorts", "loadBalancerClass"];
    let fields: [(Has, &[&'static str]); 4] = [
        (has_address, &address),
        (has_health_check, &["healthCheckNodePort"]),
        (|service| kind_of(service) == "LoadBalancer", &balancer),
        (is_reached_from_outside, &["externalTrafficPolicy"]),
    ];
    let lost = fields.iter().filter(|(has, _)| has(old) && !has(new));
    lost.flat_map(|(_, keys)| keys.iter().copied()).collect()
}

/// What becomes of a Service that changes: what its old type had and its new one has not goes, unless the client changes that, too; a
/// client that leaves out what was allocated means to keep it.
pub(crate) fn keep_allocated(old: &Value, new: &mut Value) {
    let before = old.get("spec");
    let lost = lost(old, new);
    let (had_ports, has_ports) = (has_node_ports(old), has_node_ports(new));
    let mut kept = Vec::new();
    if has_address(old) && has_address(new) {
        kept.extend(["clusterIP", "clusterIPs"]);
    }
    if has_health_check(old) && has_health_check(new) {
        kept.push("healthCheckNodePort");
    }
    each_in(Some(new), "spec", |spec| {
        for key in &lost {
            if spec.get(*key) == before.and_then(|before| before.get(*key)) {
                spec.remove(*key);
            }
        }
        for key in &kept {
            // The list begins with the one address, which a client may have changed.
            let moved = *key == "clusterIPs" && spec.get("clusterIP") != before.and_then(|b| b.get("clusterIP"));
            if moved && spec.get(*key) == before.and_then(|b| b.get(*key)) {
                spec.remove(*key);
            } else if !moved
                && let Some(value) = before.and_then(|b| b.get(*key))
                && spec.get(*key).is_none_or(|v| v.is_null() || v.as_str() == Some(""))
            {
                spec.insert((*key).to_owned(), value.clone());
            }
        }
        if has_ports {
            each(spec, "ports", |port| keep_node_port(list(before, "ports"), port));
        } else if had_ports {
            let numbers: Vec<_> = list(before, "ports").iter().map(|port| port.get("nodePort")).collect();
            each(spec, "ports", |port| {
                if numbers.contains(&port.get("nodePort")) {
                    port.remove("nodePort");
                }
            });
        }
    });
}

fn keep_node_port(old: &[Value], port: &mut Map<String, Value>) {
    let same = old
        .iter()
        .find(|o| o.get("port") == port.get("port") && o.get("protocol") == port.get("protocol"));
    if let Some(number) = same.and_then(|o| o.get("nodePort")) {
        set(Some(port), "nodePort", || number.clone());
    }
}

/// Sets the defaults of an Endpoints object.
pub(crate) fn default_endpoints(endpoints: &mut Value) {
    each_in(Some(endpoints), "subsets", |subset| {
        each(subset, "ports", |port| set_text(port, "protocol", "TCP"));
    });
}

/// Sets the defaults of an EndpointSlice.
pub(crate) fn default_slice(slice: &mut Value) {
    each_in(Some(slice), "ports", |port| {
        set(Some(port), "name", || json!(""));
        set_text(port, "protocol", "TCP");
    });
}

/// Checks an EndpointSlice.
pub(crate) fn validate_slice(slice: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let kinds = &["FQDN", "IPv4", "IPv6"];
    match text(slice.get("addressType")) {
        "" => errors.push(required("addressType", "")),
        kind if kinds.contains(&kind) => {}
        kind => errors.push(not_supported("addressType", kind, kinds)),
    }
    let endpoints = list(Some(slice), "endpoints");
    if endpoints.len() > 1000 {
        errors.push(crate::field::too_many("endpoints", endpoints.len(), 1000));
    }
    for (i, endpoint) in endpoints.iter().enumerate() {
        let path = child(&index("endpoints", i), "addresses");
        let addresses = list(Some(endpoint), "addresses");
        if addresses.is_empty() {
            errors.push(required(path.as_str(), "must contain at least 1 address"));
        }
        for (j, address) in addresses.iter().enumerate() {
            let address = text(Some(address));
            let good = match text(slice.get("addressType")) {
                "IPv4" => address.parse::<std::net::Ipv4Addr>().is_ok(),
                "IPv6" => address.parse::<std::net::Ipv6Addr>().is_ok(),
                _ => true,
            };
            if !good {
                let detail = format!("must be an {} address", text(slice.get("addressType")));
                errors.push(invalid(index(&path, j), address, &detail));
            }
        }
    }
    let mut seen = BTreeSet::new();
    for (i, port) in list(Some(slice), "ports").iter().enumerate() {
        let name = text(port.get("name"));
        if !seen.insert(name) {
            errors.push(duplicate(child(&index("ports", i), "name"), name));
        }
    }
    errors
}

/// The address type of an EndpointSlice stays.
pub(crate) fn validate_slice_update(old: &Value, new: &Value) -> Vec<FieldError> {
    let (before, after) = (old.get("addressType"), new.get("addressType"));
    if before == after {
        return Vec::new();
    }
    vec![invalid(
        "addressType",
        after.cloned().unwrap_or(Value::Null),
        "field is immutable",
    )]
}
