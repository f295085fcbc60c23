//! The other kinds as `kubectl get` shows them.

use serde_json::{Value, json};

use super::age::{between, since_creation};
use super::read::{first_few, joined, list, number, or_none, selector};
use crate::json::text;

pub(crate) fn service(service: &Value, now: &str) -> Vec<Value> {
    let kind = text(service.pointer("/spec/type"));
    let ingress = list(service.pointer("/status/loadBalancer/ingress"));
    let external = match kind {
        "ExternalName" => or_none(service.pointer("/spec/externalName")),
        "LoadBalancer" if !ingress.is_empty() => {
            joined(ingress.iter().map(|i| text(i.get("ip").or(i.get("hostname")))))
        }
        _ => {
            let ips = list(service.pointer("/spec/externalIPs"));
            match (ips.is_empty(), kind) {
                (true, "LoadBalancer") => "<pending>".to_owned(),
                _ => joined(ips.iter().map(|ip| text(Some(ip)))),
            }
        }
    };
    let ports = list(service.pointer("/spec/ports")).iter().map(|port| {
        let (number, protocol) = (number(port, &["port"]), text(port.get("protocol")));
        match port.get("nodePort").and_then(Value::as_i64).filter(|n| *n > 0) {
            Some(node_port) => format!("{number}:{node_port}/{protocol}"),
            None => format!("{number}/{protocol}"),
        }
    });
    vec![
        kind.into(),
        or_none(service.pointer("/spec/clusterIP")).into(),
        external.into(),
        joined(ports).into(),
        since_creation(service, now).into(),
        selector(service.pointer("/spec/selector")).into(),
    ]
}

pub(crate) fn endpoints(endpoints: &Value, now: &str) -> Vec<Value> {
    let mut places = Vec::new();
    for subset in list(endpoints.get("subsets")) {
        for address in list(subset.get("addresses")) {
            let ip = text(address.get("ip"));
            let ports = list(subset.get("ports"));
            places.extend(ports.iter().map(|port| format!("{ip}:{}", number(port, &["port"]))));
            if ports.is_empty() {
                places.push(ip.to_owned());
            }
        }
    }
    vec![first_few(&places, 3).into(), since_creation(endpoints, now).into()]
}

pub(crate) fn endpoint_slice(slice: &Value, now: &str) -> Vec<Value> {
    let ports: Vec<String> = list(slice.get("ports"))
        .iter()
        .map(|p| {
            p.get("port")
                .and_then(Value::as_i64)
                .map_or_else(|| "*".to_owned(), |n| n.to_string())
        })
        .collect();
    let addresses = list(slice.get("endpoints"))
        .iter()
        .flat_map(|e| list(e.get("addresses")));
    let addresses: Vec<String> = addresses.map(|a| text(Some(a)).to_owned()).collect();
    let unset = |shown: String| if shown == "<none>" { "<unset>".to_owned() } else { shown };
    vec![
        text(slice.get("addressType")).into(),
        unset(first_few(&ports, 3)).into(),
        unset(first_few(&addresses, 3)).into(),
        since_creation(slice, now).into(),
    ]
}

pub(crate) fn namespace(namespace: &Value, now: &str) -> Vec<Value> {
    vec![
        text(namespace.pointer("/status/phase")).into(),
        since_creation(namespace, now).into(),
    ]
}

pub(crate) fn event(event: &Value, now: &str) -> Vec<Value> {
    let time = |key: &str| text(event.get(key));
    let event_time = time("eventTime");
    let first = if time("firstTimestamp").is_empty() {
        event_time
    } else {
        time("firstTimestamp")
    };
    let series = text(event.pointer("/series/lastObservedTime"));
    let last = [series, time("lastTimestamp"), first]
        .into_iter()
        .find(|t| !t.is_empty())
        .unwrap_or_default();
    let object = event.get("involvedObject");
    let object_name = text(object.and_then(|o| o.get("name")));
    let kind = text(object.and_then(|o| o.get("kind"))).to_lowercase();
    let component = match text(event.pointer("/source/component")) {
        "" => text(event.get("reportingComponent")),
        component => component,
    };
    let host = text(event.pointer("/source/host"));
    let source = if host.is_empty() {
        component.to_owned()
    } else {
        format!("{component}, {host}")
    };
    let count = event
        .pointer("/series/count")
        .or(event.get("count"))
        .and_then(Value::as_i64)
        .unwrap_or(1);
    vec![
        between(last, now).into(),
        text(event.get("type")).into(),
        text(event.get("reason")).into(),
        format!("{kind}/{object_name}").into(),
        text(object.and_then(|o| o.get("fieldPath"))).into(),
        source.into(),
        text(event.get("message")).trim().into(),
        between(first, now).into(),
        count.to_string().into(),
        text(event.pointer("/metadata/name")).into(),
    ]
}

fn size(value: Option<&Value>) -> usize {
    value.and_then(Value::as_object).map_or(0, serde_json::Map::len)
}

pub(crate) fn config_map(map: &Value, now: &str) -> Vec<Value> {
    let data = size(map.get("data")) + size(map.get("binaryData"));
    vec![data.to_string().into(), since_creation(map, now).into()]
}

pub(crate) fn secret(secret: &Value, now: &str) -> Vec<Value> {
    vec![
        text(secret.get("type")).into(),
        size(secret.get("data")).into(),
        since_creation(secret, now).into(),
    ]
}

pub(crate) fn budget(budget: &Value, now: &str) -> Vec<Value> {
    let amount = |key: &str| match budget.pointer(&format!("/spec/{key}")) {
        None | Some(Value::Null) => "N/A".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    vec![
        amount("minAvailable").into(),
        amount("maxUnavailable").into(),
        number(budget, &["status", "disruptionsAllowed"]).into(),
        since_creation(budget, now).into(),
    ]
}

pub(crate) fn service_account(object: &Value, now: &str) -> Vec<Value> {
    vec![
        list(object.get("secrets")).len().into(),
        since_creation(object, now).into(),
    ]
}

pub(crate) fn lease(object: &Value, now: &str) -> Vec<Value> {
    vec![
        text(object.pointer("/spec/holderIdentity")).into(),
        since_creation(object, now).into(),
    ]
}

pub(crate) fn definition(object: &Value, _: &str) -> Vec<Value> {
    vec![text(object.pointer("/metadata/creationTimestamp")).into()]
}

pub(crate) fn runtime_class(object: &Value, now: &str) -> Vec<Value> {
    vec![text(object.get("handler")).into(), since_creation(object, now).into()]
}

pub(crate) fn priority_class(object: &Value, now: &str) -> Vec<Value> {
    let default = object.get("globalDefault") == Some(&json!(true));
    vec![
        number(object, &["value"]).into(),
        default.into(),
        since_creation(object, now).into(),
    ]
}
