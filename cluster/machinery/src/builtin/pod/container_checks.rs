//! Checks of containers (Kubernetes' `validateContainers`).

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{probe, resources};
use crate::FieldError;
use crate::field::{child, duplicate, forbidden, index, invalid, not_found, not_supported, required};
use crate::json::{list, text};
use crate::names;

const PULL_POLICIES: &[&str] = &["Always", "IfNotPresent", "Never"];
const MESSAGE_POLICIES: &[&str] = &["FallbackToLogsOnError", "File"];
const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
const HANDLERS: &[&str] = &["exec", "httpGet", "tcpSocket", "sleep"];

/// What a container may refer to, and which list it is in.
#[derive(Clone, Copy)]
pub(crate) struct Where<'a> {
    /// Names of the pod's volumes.
    pub(crate) volumes: &'a BTreeSet<&'a str>,
    /// It is an init container.
    pub(crate) init: bool,
    /// The pod's containers are never restarted.
    pub(crate) never: bool,
}

/// Checks one container at `path`.
pub(crate) fn container(container: &Value, path: &str, place: Where<'_>, errors: &mut Vec<FieldError>) {
    let name = text(container.get("name"));
    if name.is_empty() {
        errors.push(required(child(path, "name"), ""));
    } else {
        errors.extend(
            names::dns_label(name)
                .iter()
                .map(|p| invalid(child(path, "name"), name, p)),
        );
    }
    image(container, path, errors);
    enumeration(container, "imagePullPolicy", path, PULL_POLICIES, errors);
    enumeration(container, "terminationMessagePolicy", path, MESSAGE_POLICIES, errors);
    ports(container, path, errors);
    env(container, path, errors);
    mounts(container, path, place.volumes, errors);
    resources::check(container.get("resources"), &child(path, "resources"), errors);
    let sidecar = container.get("restartPolicy") == Some(&json!("Always"));
    if let Some(policy) = container.get("restartPolicy").filter(|p| !p.is_null()) {
        let field = child(path, "restartPolicy");
        if !place.init {
            errors.push(forbidden(field, "may not be set for non-init containers"));
        } else if !sidecar {
            errors.push(not_supported(field, policy.clone(), &["Always"]));
        }
    }
    if place.init && !sidecar && !list(Some(container), "resizePolicy").is_empty() {
        errors.push(invalid(
            child(path, "resizePolicy"),
            container["resizePolicy"].clone(),
            "must not be set for init containers",
        ));
    }
    resources::check_resize_policy(container, path, place.never, errors);
    probes(container, path, place.init && !sidecar, errors);
}

fn image(container: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let field = child(path, "image");
    match container.get("image") {
        None | Some(Value::Null) => errors.push(required(field, "")),
        Some(Value::String(image)) if image.is_empty() => errors.push(required(field, "")),
        Some(Value::String(image)) if image.trim() != image => {
            errors.push(invalid(
                field,
                image.as_str(),
                "must not have leading or trailing whitespace",
            ));
        }
        Some(Value::String(_)) => {}
        Some(other) => errors.push(invalid(field, other.clone(), "must be a string")),
    }
}

fn enumeration(container: &Value, key: &str, path: &str, allowed: &[&str], errors: &mut Vec<FieldError>) {
    let value = text(container.get(key));
    if !allowed.contains(&value) {
        errors.push(not_supported(child(path, key), value, allowed));
    }
}

fn probes(container: &Value, path: &str, plain_init: bool, errors: &mut Vec<FieldError>) {
    for (key, once) in [
        ("livenessProbe", true),
        ("readinessProbe", false),
        ("startupProbe", true),
    ] {
        let Some(probe) = container.get(key).filter(|p| !p.is_null()) else {
            continue;
        };
        if plain_init {
            errors.push(forbidden(
                child(path, key),
                "may not be set for init containers without restartPolicy=Always",
            ));
        } else {
            probe::check_probe(probe, &child(path, key), once, errors);
        }
    }
    let Some(lifecycle) = container.get("lifecycle").filter(|l| !l.is_null()) else {
        return;
    };
    let path = child(path, "lifecycle");
    if plain_init {
        errors.push(forbidden(
            path,
            "may not be set for init containers without restartPolicy=Always",
        ));
        return;
    }
    for hook in ["postStart", "preStop"] {
        if let Some(handler) = lifecycle.get(hook).filter(|h| !h.is_null()) {
            probe::check_handler(handler, &child(&path, hook), HANDLERS, errors);
        }
    }
}

fn ports(container: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for (i, port) in list(Some(container), "ports").iter().enumerate() {
        let path = index(child(path, "ports").as_str(), i);
        let name = text(port.get("name"));
        if !name.is_empty() {
            errors.extend(
                names::port_name(name)
                    .iter()
                    .map(|p| invalid(child(&path, "name"), name, p)),
            );
            if !seen.insert(name) {
                errors.push(duplicate(child(&path, "name"), name));
            }
        }
        match port.get("containerPort") {
            None | Some(Value::Null) => errors.push(required(child(&path, "containerPort"), "")),
            Some(number) => in_range(number, &child(&path, "containerPort"), errors),
        }
        if let Some(number) = port.get("hostPort").filter(|n| !n.is_null() && n.as_i64() != Some(0)) {
            in_range(number, &child(&path, "hostPort"), errors);
        }
        let protocol = text(port.get("protocol"));
        if !PROTOCOLS.contains(&protocol) {
            errors.push(not_supported(child(&path, "protocol"), protocol, PROTOCOLS));
        }
    }
}

fn in_range(number: &Value, path: &str, errors: &mut Vec<FieldError>) {
    if !number.as_i64().is_some_and(|n| (1..=65_535).contains(&n)) {
        errors.push(invalid(path, number.clone(), probe::PORT_RANGE));
    }
}

/// Two containers of a pod cannot have the same port of the host.
pub(crate) fn port_conflicts(containers: &[Value], path: &str, errors: &mut Vec<FieldError>) {
    let mut taken = BTreeSet::new();
    for (i, container) in containers.iter().enumerate() {
        for (j, port) in list(Some(container), "ports").iter().enumerate() {
            let Some(number) = port.get("hostPort").and_then(Value::as_i64).filter(|n| *n != 0) else {
                continue;
            };
            if !taken.insert((number, text(port.get("protocol")), text(port.get("hostIP")))) {
                let field = format!("{path}[{i}].ports[{j}].hostPort");
                errors.push(duplicate(field, format!("{number}/{}", text(port.get("protocol")))));
            }
        }
    }
}

fn env(container: &Value, path: &str, errors: &mut Vec<FieldError>) {
    for (i, env) in list(Some(container), "env").iter().enumerate() {
        let path = index(child(path, "env").as_str(), i);
        let name = text(env.get("name"));
        if name.is_empty() {
            errors.push(required(child(&path, "name"), ""));
        } else {
            errors.extend(
                names::env_name(name)
                    .iter()
                    .map(|p| invalid(child(&path, "name"), name, p)),
            );
        }
        if let Some(value) = env.get("value").filter(|v| !v.is_string() && !v.is_null()) {
            errors.push(invalid(child(&path, "value"), value.clone(), "must be a string"));
        }
        let Some(from) = env.get("valueFrom").filter(|f| !f.is_null()) else {
            continue;
        };
        let path = child(&path, "valueFrom");
        let sources = ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef"];
        let present = sources
            .iter()
            .filter(|key| from.get(**key).is_some_and(|v| !v.is_null()))
            .count();
        if !text(env.get("value")).is_empty() {
            errors.push(invalid(
                path.as_str(),
                "",
                "may not be specified when `value` is not empty",
            ));
        }
        match present {
            0 => errors.push(invalid(
                path.as_str(),
                "",
                "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`",
            )),
            1 => {}
            _ => errors.push(invalid(
                path.as_str(),
                "",
                "may not have more than one field specified at a time",
            )),
        }
        if let Some(field) = from.get("fieldRef").filter(|f| !f.is_null()) {
            field_ref(field, &child(&path, "fieldRef"), errors);
        }
    }
}

/// Fields of a pod that its containers may read, besides single labels and annotations.
const READABLE: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

fn field_ref(field: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let name = text(field.get("fieldPath"));
    let path = child(path, "fieldPath");
    let subscripted = ["metadata.labels['", "metadata.annotations['"]
        .iter()
        .any(|p| name.starts_with(p))
        && name.ends_with("']");
    if name.is_empty() {
        errors.push(required(path, ""));
    } else if !subscripted && !READABLE.contains(&name) {
        errors.push(not_supported(path, name, READABLE));
    }
}

fn mounts(container: &Value, path: &str, volumes: &BTreeSet<&str>, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for (i, mount) in list(Some(container), "volumeMounts").iter().enumerate() {
        let path = index(child(path, "volumeMounts").as_str(), i);
        let name = text(mount.get("name"));
        if name.is_empty() {
            errors.push(required(child(&path, "name"), ""));
        } else if !volumes.contains(name) {
            errors.push(not_found(child(&path, "name"), name));
        }
        let place = text(mount.get("mountPath"));
        if place.is_empty() {
            errors.push(required(child(&path, "mountPath"), ""));
        } else if !seen.insert(place) {
            errors.push(invalid(child(&path, "mountPath"), place, "must be unique"));
        }
        let sub_path = text(mount.get("subPath"));
        if sub_path.starts_with('/') {
            errors.push(invalid(child(&path, "subPath"), sub_path, "must be a relative path"));
        } else if sub_path.split('/').any(|part| part == "..") {
            errors.push(invalid(child(&path, "subPath"), sub_path, "must not contain '..'"));
        }
    }
}
