//! Services, Endpoints and EndpointSlices. Addresses and node ports are allocated by the API server.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::FieldError;
use crate::field::{child, duplicate, index, invalid, not_supported, required};
use crate::json::{each, each_in, list, set, set_status, set_text, text};
use crate::names;

const TYPES: &[&str] = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];

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
        let external = ["NodePort", "LoadBalancer"].contains(&text(spec.get("type")));
        if external {
            set_text(spec, "externalTrafficPolicy", "Cluster");
        }
        if text(spec.get("type")) == "LoadBalancer" {
            set(Some(spec), "allocateLoadBalancerNodePorts", || json!(true));
        }
        if text(spec.get("type")) != "ExternalName" {
            set_text(spec, "internalTrafficPolicy", "Cluster");
            let headless = text(spec.get("clusterIP")) == "None";
            set(Some(spec), "ipFamilies", || json!(["IPv4"]));
            // The cluster has IPv4 only, so nothing is dual-stack.
            set_text(spec, "ipFamilyPolicy", "SingleStack");
            if headless {
                set(Some(spec), "clusterIPs", || json!(["None"]));
            }
        }
    });
}

/// The first status of a Service.
pub(crate) fn begin(service: &mut Value) {
    set_status(service, json!({"loadBalancer": {}}));
}

/// A client that replaces a Service without its allocated figures means to keep them.
pub(crate) fn keep_allocated(old: &Value, new: &mut Value) {
    let kind = |service: &Value| text(crate::get(service, &["spec", "type"])).to_owned();
    if kind(new) == "ExternalName" || kind(old) == "ExternalName" {
        return;
    }
    let before = old.get("spec");
    let node_ports = ["NodePort", "LoadBalancer"].contains(&kind(new).as_str());
    each_in(Some(new), "spec", |spec| {
        for key in ["clusterIP", "clusterIPs", "healthCheckNodePort"] {
            if let Some(value) = before.and_then(|b| b.get(key))
                && spec.get(key).is_none_or(|v| v.is_null() || v.as_str() == Some(""))
            {
                spec.insert(key.to_owned(), value.clone());
            }
        }
        if node_ports {
            each(spec, "ports", |port| keep_node_port(list(before, "ports"), port));
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

/// Checks a Service.
pub(crate) fn validate(service: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let Some(spec) = service.get("spec") else {
        return vec![required("spec", "")];
    };
    let kind = text(spec.get("type"));
    if !TYPES.contains(&kind) {
        errors.push(not_supported("spec.type", kind, TYPES));
    }
    if kind == "ExternalName" && text(spec.get("externalName")).is_empty() {
        errors.push(required("spec.externalName", ""));
    }
    let affinity = text(spec.get("sessionAffinity"));
    if !["ClientIP", "None"].contains(&affinity) {
        errors.push(not_supported("spec.sessionAffinity", affinity, &["ClientIP", "None"]));
    }
    crate::metadata::validate_labels("spec.selector", spec.get("selector"), &mut errors);
    let headless = text(spec.get("clusterIP")) == "None";
    if headless && ["NodePort", "LoadBalancer"].contains(&kind) {
        let detail = format!("may not be set to 'None' for {kind} services");
        errors.push(invalid("spec.clusterIPs[0]", "None", &detail));
    }
    let ports = list(Some(spec), "ports");
    if ports.is_empty() && !headless && kind != "ExternalName" {
        errors.push(required("spec.ports", ""));
    }
    let (mut seen_names, mut seen) = (BTreeSet::new(), BTreeSet::new());
    for (i, port) in ports.iter().enumerate() {
        let path = index("spec.ports", i);
        check_port(port, &path, ports.len() > 1, &mut seen_names, &mut errors);
        let id = (port.get("port").and_then(Value::as_i64), text(port.get("protocol")));
        if !seen.insert(id) {
            errors.push(duplicate(
                &path,
                json!({"port": port.get("port"), "protocol": port.get("protocol")}),
            ));
        }
    }
    errors
}

fn check_port<'a>(
    port: &'a Value,
    path: &str,
    needs_name: bool,
    seen: &mut BTreeSet<&'a str>,
    errors: &mut Vec<FieldError>,
) {
    let name = text(port.get("name"));
    if name.is_empty() {
        if needs_name {
            errors.push(required(child(path, "name"), ""));
        }
    } else {
        errors.extend(
            names::dns_label(name)
                .iter()
                .map(|p| invalid(child(path, "name"), name, p)),
        );
        if !seen.insert(name) {
            errors.push(duplicate(child(path, "name"), name));
        }
    }
    match port.get("port") {
        Some(Value::Number(n)) if n.as_i64().is_some_and(|n| (1..=65_535).contains(&n)) => {}
        other => {
            let value = other.cloned().unwrap_or(json!(0));
            errors.push(invalid(child(path, "port"), value, super::pod::probe::PORT_RANGE));
        }
    }
    super::pod::probe::check_port(port.get("targetPort"), &child(path, "targetPort"), errors);
    let protocol = text(port.get("protocol"));
    if !PROTOCOLS.contains(&protocol) {
        errors.push(not_supported(child(path, "protocol"), protocol, PROTOCOLS));
    }
}

/// Checks the step from one Service to the next: its address stays.
pub(crate) fn validate_update(old: &Value, new: &Value) -> Vec<FieldError> {
    let field = |service: &Value, key: &str| text(crate::get(service, &["spec", key])).to_owned();
    let (before, after) = (field(old, "clusterIP"), field(new, "clusterIP"));
    let external = [old, new].iter().any(|s| field(s, "type") == "ExternalName");
    if !external && !before.is_empty() && before != after {
        return vec![invalid("spec.clusterIPs[0]", after, "may not change once set")];
    }
    Vec::new()
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
