//! What a Service may say: Kubernetes' validation, of a cluster that has IPv4 only.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::{Value, json};

use super::service::{has_health_check, is_reached_from_outside};
use crate::FieldError;
use crate::field::{child, duplicate, forbidden, index, invalid, not_supported, required};
use crate::json::{list, text};
use crate::names;

const TYPES: &[&str] = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
const AFFINITIES: &[&str] = &["ClientIP", "None"];
const POLICIES: &[&str] = &["Cluster", "Local"];
const FAMILIES: &[&str] = &["IPv4", "IPv6"];
const FAMILY_POLICIES: &[&str] = &["PreferDualStack", "RequireDualStack", "SingleStack"];
const DISTRIBUTIONS: &[&str] = &["PreferClose"];
/// Longest time for which a client may be kept at its endpoint: a day.
const AFFINITY_SECONDS: i64 = 86_400;
const AN_ADDRESS: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const A_RANGE: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
const ONLY_FOR_BALANCERS: &str = "may only be used when `type` is 'LoadBalancer'";

/// Checks a Service.
pub(crate) fn validate(service: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let Some(spec) = service.get("spec") else {
        return vec![required("spec", "")];
    };
    one_of(spec, "type", TYPES, &mut errors);
    one_of(spec, "sessionAffinity", AFFINITIES, &mut errors);
    for (key, known) in [
        ("internalTrafficPolicy", POLICIES),
        ("trafficDistribution", DISTRIBUTIONS),
    ] {
        if spec.get(key).is_some() {
            one_of(spec, key, known, &mut errors);
        }
    }
    crate::metadata::validate_labels("spec.selector", spec.get("selector"), &mut errors);
    affinity(spec, &mut errors);
    if text(spec.get("type")) == "ExternalName" {
        external_name(spec, &mut errors);
    } else {
        addresses(spec, &mut errors);
        families(spec, &mut errors);
    }
    external_addresses(spec, &mut errors);
    balancer(spec, &mut errors);
    traffic(service, spec, &mut errors);
    ports(spec, &mut errors);
    errors
}

/// What a client should know about a Service that is accepted.
pub(crate) fn warnings(service: &Value) -> Vec<String> {
    let spec = |key: &str| text(crate::get(service, &["spec", key]));
    let ignored = !spec("externalName").is_empty() && spec("type") != "ExternalName";
    let sentence = "spec.externalName is ignored when spec.type is not \"ExternalName\"";
    ignored.then(|| sentence.to_owned()).into_iter().collect()
}

fn one_of(spec: &Value, key: &str, known: &[&str], errors: &mut Vec<FieldError>) {
    let value = text(spec.get(key));
    if !known.contains(&value) {
        errors.push(not_supported(child("spec", key), value, known));
    }
}

fn affinity(spec: &Value, errors: &mut Vec<FieldError>) {
    let path = ["sessionAffinityConfig", "clientIP", "timeoutSeconds"];
    let seconds = crate::get(spec, &path).and_then(Value::as_i64);
    if let Some(seconds) = seconds.filter(|seconds| !(1..=AFFINITY_SECONDS).contains(seconds)) {
        let field = "spec.sessionAffinityConfig.clientIP.timeoutSeconds";
        errors.push(invalid(field, seconds, "must be greater than 0 and less than 86400"));
    }
}

fn external_name(spec: &Value, errors: &mut Vec<FieldError>) {
    for key in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        let given = match spec.get(key) {
            None | Some(Value::Null) => false,
            Some(Value::Array(items)) => !items.is_empty(),
            Some(_) => true,
        };
        let address = key == "clusterIPs" && !text(spec.get("clusterIP")).is_empty();
        if given || address {
            let field = child("spec", key);
            errors.push(forbidden(field, "may not be set for ExternalName services"));
        }
    }
    let name = text(spec.get("externalName")).trim_end_matches('.');
    if name.is_empty() {
        errors.push(required("spec.externalName", ""));
    } else {
        let problems = names::dns_subdomain(name);
        errors.extend(
            problems
                .iter()
                .map(|problem| invalid("spec.externalName", name, problem)),
        );
    }
}

/// `clusterIP`, and `clusterIPs`, which begins with it.
fn addresses(spec: &Value, errors: &mut Vec<FieldError>) {
    let (one, all) = (text(spec.get("clusterIP")), list(Some(spec), "clusterIPs"));
    let mut wrong = |detail: &str| errors.push(invalid("spec.clusterIPs", all.to_vec(), detail));
    if let Some(first) = all.first() {
        if one.is_empty() {
            wrong("must be empty when `clusterIP` is not specified");
        } else if text(Some(first)) != one {
            wrong("first value must match `clusterIP`");
        }
    }
    if all.len() > 1 && all.iter().any(|ip| ip == "None") {
        wrong("'None' must be the first and only value");
    }
    let all: Vec<&str> = if all.is_empty() && !one.is_empty() {
        vec![one]
    } else {
        all.iter().map(|ip| text(Some(ip))).collect()
    };
    let headless = one == "None";
    let kind = text(spec.get("type"));
    if headless && ["NodePort", "LoadBalancer"].contains(&kind) {
        let detail = format!("may not be set to 'None' for {kind} services");
        errors.push(invalid("spec.clusterIPs[0]", "None", &detail));
    }
    let mut of_a_family = BTreeSet::new();
    for (n, ip) in all.iter().enumerate().filter(|(n, ip)| *n > 0 || **ip != "None") {
        let field = index("spec.clusterIPs", n);
        match ip.parse::<IpAddr>() {
            Err(_) => errors.push(invalid(field, *ip, AN_ADDRESS)),
            Ok(ip) if !of_a_family.insert(ip.is_ipv6()) => {
                let detail = "may specify no more than one IP for each IP family";
                errors.push(invalid("spec.clusterIPs", json!(all), detail));
            }
            Ok(IpAddr::V6(_)) => errors.push(invalid(field, json!([ip]), "IPv6 is not configured on this cluster")),
            Ok(IpAddr::V4(_)) => {}
        }
    }
}

fn families(spec: &Value, errors: &mut Vec<FieldError>) {
    let families: Vec<&str> = list(Some(spec), "ipFamilies").iter().map(|f| text(Some(f))).collect();
    let policy = text(spec.get("ipFamilyPolicy"));
    if !policy.is_empty() {
        one_of(spec, "ipFamilyPolicy", FAMILY_POLICIES, errors);
    }
    // One without an address and a selector may have any families: others make its endpoints.
    let free = text(spec.get("clusterIP")) == "None"
        && spec
            .get("selector")
            .and_then(Value::as_object)
            .is_none_or(|s| s.is_empty());
    if policy == "RequireDualStack" && !free {
        let detail = "this cluster is not configured for dual-stack services";
        errors.push(invalid("spec.ipFamilyPolicy", policy, detail));
    }
    let mut seen = BTreeSet::new();
    for (n, family) in families.iter().enumerate() {
        let field = index("spec.ipFamilies", n);
        if !FAMILIES.contains(family) {
            errors.push(not_supported(field, *family, FAMILIES));
        } else if !seen.insert(*family) {
            errors.push(duplicate(field, *family));
        } else if *family == "IPv6" && !free {
            let address = text(spec.get("clusterIP"));
            if n == 0 && address.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv4()) {
                let detail = "expected an IPv6 value as indicated by `ipFamilies[0]`";
                errors.push(invalid("spec.clusterIPs[0]", address, detail));
            } else if policy != "SingleStack" || families.len() == 1 {
                errors.push(invalid(field, *family, "not configured on this cluster"));
            }
        }
    }
    if seen.len() > 1 && policy == "SingleStack" {
        let detail = "must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified";
        errors.push(invalid("spec.ipFamilyPolicy", policy, detail));
    }
}

fn external_addresses(spec: &Value, errors: &mut Vec<FieldError>) {
    for (n, given) in list(Some(spec), "externalIPs").iter().enumerate() {
        let given = text(Some(given));
        let detail = match given.parse::<IpAddr>() {
            Err(_) => AN_ADDRESS.to_owned(),
            Ok(ip) if ip.is_unspecified() => format!("may not be unspecified ({ip})"),
            Ok(ip) if ip.is_loopback() => "may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned(),
            Ok(ip) if is_link_local(ip) => "may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned(),
            Ok(ip) if is_link_local_multicast(ip) => {
                "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".to_owned()
            }
            Ok(_) => continue,
        };
        errors.push(invalid(index("spec.externalIPs", n), given, &detail));
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

fn is_link_local_multicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.octets().starts_with(&[224, 0, 0]),
        IpAddr::V6(ip) => ip.octets().starts_with(&[0xff]) && ip.octets()[1] & 0x0f == 2,
    }
}

/// What only load balancers have.
fn balancer(spec: &Value, errors: &mut Vec<FieldError>) {
    let is_one = text(spec.get("type")) == "LoadBalancer";
    // The original writes this name so.
    let field = "spec.LoadBalancerSourceRanges";
    let ranges = list(Some(spec), "loadBalancerSourceRanges");
    if !is_one && !ranges.is_empty() {
        errors.push(forbidden(field, ONLY_FOR_BALANCERS));
    }
    for (n, range) in ranges.iter().enumerate().filter(|_| is_one) {
        let range = text(Some(range)).trim();
        let fits = range.split_once('/').is_some_and(|(ip, bits)| {
            let most = match ip.parse() {
                Ok(IpAddr::V4(_)) => 32,
                Ok(IpAddr::V6(_)) => 128,
                Err(_) => return false,
            };
            bits.parse::<u8>().is_ok_and(|bits| bits <= most)
        });
        if !fits {
            errors.push(invalid(index(field, n), range, A_RANGE));
        }
    }
    for key in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
        if !is_one && spec.get(key).is_some_and(|value| !value.is_null()) {
            errors.push(forbidden(child("spec", key), ONLY_FOR_BALANCERS));
        }
    }
    if let Some(Value::String(class)) = spec.get("loadBalancerClass").filter(|_| is_one) {
        let problems = names::qualified_name(class);
        errors.extend(
            problems
                .iter()
                .map(|p| invalid("spec.loadBalancerClass", class.as_str(), p)),
        );
    }
}

fn traffic(service: &Value, spec: &Value, errors: &mut Vec<FieldError>) {
    let policy = text(spec.get("externalTrafficPolicy"));
    if is_reached_from_outside(service) {
        one_of(spec, "externalTrafficPolicy", POLICIES, errors);
    } else if !policy.is_empty() {
        let detail = "may only be set for externally-accessible services";
        errors.push(invalid("spec.externalTrafficPolicy", policy, detail));
    }
    let port = spec.get("healthCheckNodePort").and_then(Value::as_i64).unwrap_or(0);
    let detail = match has_health_check(service) {
        _ if port == 0 => return,
        true if (1..=65_535).contains(&port) => return,
        true => super::pod::probe::PORT_RANGE,
        false => "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
    };
    errors.push(invalid("spec.healthCheckNodePort", port, detail));
}

fn ports(spec: &Value, errors: &mut Vec<FieldError>) {
    let kind = text(spec.get("type"));
    let headless = text(spec.get("clusterIP")) == "None";
    let ports = list(Some(spec), "ports");
    if ports.is_empty() && !headless && kind != "ExternalName" {
        errors.push(required("spec.ports", ""));
    }
    let (mut seen_names, mut seen) = (BTreeSet::new(), BTreeSet::new());
    for (i, port) in ports.iter().enumerate() {
        let path = index("spec.ports", i);
        check_port(port, &path, ports.len() > 1, &mut seen_names, errors);
        if ["ClusterIP", "ExternalName"].contains(&kind) && port.get("nodePort").is_some_and(|n| *n != json!(0)) {
            let detail = format!("may not be used when `type` is '{kind}'");
            errors.push(forbidden(child(&path, "nodePort"), &detail));
        }
        let id = (port.get("port").and_then(Value::as_i64), text(port.get("protocol")));
        if !seen.insert(id) {
            errors.push(duplicate(
                &path,
                json!({"port": port.get("port"), "protocol": port.get("protocol")}),
            ));
        }
    }
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
    if let Some(Value::String(spoken)) = port.get("appProtocol") {
        let problems = names::qualified_name(spoken);
        errors.extend(
            problems
                .iter()
                .map(|p| invalid(child(path, "appProtocol"), spoken.as_str(), p)),
        );
    }
}

/// Checks the step from one Service to the next: its address stays, and what belongs to a load balancer.
pub(crate) fn validate_update(old: &Value, new: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let field = |service: &Value, key: &str| text(crate::get(service, &["spec", key])).to_owned();
    let (before, after) = (field(old, "clusterIP"), field(new, "clusterIP"));
    let external = [old, new].iter().any(|s| field(s, "type") == "ExternalName");
    if !external && !before.is_empty() && before != after {
        errors.push(invalid("spec.clusterIPs[0]", after, "may not change once set"));
    }
    let balanced = [old, new].iter().all(|s| field(s, "type") == "LoadBalancer");
    let class = field(new, "loadBalancerClass");
    if balanced && field(old, "loadBalancerClass") != class {
        errors.push(invalid("spec.loadBalancerClass", class, "may not change once set"));
    }
    let port = |service: &Value| crate::get(service, &["spec", "healthCheckNodePort"]).and_then(Value::as_i64);
    if has_health_check(old) && has_health_check(new) && port(old).is_some_and(|was| port(new) != Some(was)) {
        errors.push(forbidden("spec.healthCheckNodePort", "field is immutable"));
    }
    errors
}
