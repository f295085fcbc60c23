//! What a Service is given when it is written: a cluster IP and node ports.

use std::sync::Arc;

use afloat_machinery::FieldError;
use serde_json::{Value, json};

use crate::follow::{Addresses, Followed, Reservation, Taking, owner, protocol};
use crate::view;

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

/// Gives a Service that is about to be written its address and node ports.
pub(crate) fn reserve(
    addresses: &Arc<Followed<Addresses>>,
    old: Option<&Value>,
    service: &mut Value,
) -> Result<Reservation, FieldError> {
    if let Some(old) = old {
        inherit(old, service)?;
    }
    addresses.reserve(owner(service), |taking| {
        fill_address(taking, service)?;
        fill_node_ports(taking, service)
    })
}

fn fill_address(taking: &mut Taking<'_>, service: &mut Value) -> Result<(), FieldError> {
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
            let ip = taking.ip(wanted)?.to_string();
            let spec = view::child(service, "spec");
            spec.insert("clusterIPs".into(), json!([ip]));
            spec.insert("clusterIP".into(), ip.into());
        }
    }
    Ok(())
}

fn fill_node_ports(taking: &mut Taking<'_>, service: &mut Value) -> Result<(), FieldError> {
    if !has_node_ports(service) {
        return Ok(());
    }
    let spec = &service["spec"];
    let unasked = spec["type"] == "LoadBalancer" && spec["allocateLoadBalancerNodePorts"] == false;
    let ports = service["spec"]["ports"].as_array_mut().into_iter().flatten();
    for (n, port) in ports.enumerate() {
        let wanted = u16::try_from(port["nodePort"].as_u64().unwrap_or(0)).unwrap_or(u16::MAX);
        if unasked && wanted == 0 {
            continue;
        }
        let number = taking.port(&format!("spec.ports[{n}].nodePort"), wanted, &protocol(port))?;
        port["nodePort"] = number.into();
    }
    Ok(())
}
