//! Probes and lifecycle handlers: defaults and checks.

use serde_json::{Map, Value};

use crate::FieldError;
use crate::field::{child, error, forbidden, invalid, not_supported, required};
use crate::json::{each, set, set_number, set_text, text};

/// Defaults of a probe.
pub(crate) fn default_probe(probe: &mut Map<String, Value>) {
    set_number(probe, "timeoutSeconds", 1);
    set_number(probe, "periodSeconds", 10);
    set_number(probe, "successThreshold", 1);
    set_number(probe, "failureThreshold", 3);
    each(probe, "httpGet", default_http);
    each(probe, "grpc", |grpc| set(Some(grpc), "service", || "".into()));
}

/// Defaults of an `httpGet`.
pub(crate) fn default_http(http: &mut Map<String, Value>) {
    set_text(http, "path", "/");
    set_text(http, "scheme", "HTTP");
}

/// Checks one probe. `once`: only a single success counts (liveness, startup).
pub(crate) fn check_probe(probe: &Value, path: &str, once: bool, errors: &mut Vec<FieldError>) {
    check_handler(probe, path, &["exec", "httpGet", "tcpSocket", "grpc"], errors);
    for key in [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ] {
        match probe.get(key) {
            Some(Value::Number(number)) if number.as_i64().is_some_and(|n| n >= 0) => {}
            None | Some(Value::Null) => {}
            Some(value) => {
                errors.push(invalid(
                    child(path, key),
                    value.clone(),
                    "must be greater than or equal to 0",
                ));
            }
        }
    }
    match probe.get("successThreshold").and_then(Value::as_i64) {
        Some(n) if once && n != 1 => errors.push(invalid(child(path, "successThreshold"), n, "must be 1")),
        _ => {}
    }
    match probe.get("terminationGracePeriodSeconds").and_then(Value::as_i64) {
        Some(n) if !once => {
            let detail = "must not be set for readinessProbes";
            errors.push(invalid(child(path, "terminationGracePeriodSeconds"), n, detail));
        }
        Some(n) if n < 1 => {
            errors.push(invalid(
                child(path, "terminationGracePeriodSeconds"),
                n,
                "must be greater than 0",
            ));
        }
        _ => {}
    }
}

/// Checks that exactly one handler is there, and that it is complete.
pub(crate) fn check_handler(handler: &Value, path: &str, kinds: &[&str], errors: &mut Vec<FieldError>) {
    let present: Vec<&str> = kinds
        .iter()
        .copied()
        .filter(|k| handler.get(*k).is_some_and(|v| !v.is_null()))
        .collect();
    match present.as_slice() {
        [] => errors.push(required(path, "must specify a handler type")),
        [one] => check_one(one, &handler[*one], &child(path, one), errors),
        [_, more @ ..] => {
            let extra = |kind: &&str| forbidden(child(path, kind), "may not specify more than 1 handler type");
            errors.extend(more.iter().map(extra));
        }
    }
}

fn check_one(kind: &str, handler: &Value, path: &str, errors: &mut Vec<FieldError>) {
    match kind {
        "exec" if crate::json::list(Some(handler), "command").is_empty() => {
            errors.push(required(child(path, "command"), ""));
        }
        "httpGet" => {
            if text(handler.get("path")).is_empty() {
                errors.push(required(child(path, "path"), ""));
            }
            check_port(handler.get("port"), &child(path, "port"), errors);
            let scheme = text(handler.get("scheme"));
            if !["HTTP", "HTTPS"].contains(&scheme) {
                errors.push(not_supported(child(path, "scheme"), scheme, &["HTTP", "HTTPS"]));
            }
        }
        "tcpSocket" | "grpc" => check_port(handler.get("port"), &child(path, "port"), errors),
        // How long is looked at with the grace period, see `check_sleeps`.
        "sleep" if handler.get("seconds").and_then(Value::as_i64).is_none() => {
            errors.push(required(child(path, "seconds"), ""));
        }
        _ => {}
    }
}

/// Checks that the `sleep` hooks of a container at `path` end within the pod's grace period, where that is a number itself.
pub(crate) fn check_sleeps(container: &Value, grace: Option<i64>, path: &str, errors: &mut Vec<FieldError>) {
    let Some(grace) = grace else { return };
    for hook in ["postStart", "preStop"] {
        let seconds = container
            .pointer(&format!("/lifecycle/{hook}/sleep/seconds"))
            .and_then(Value::as_i64);
        if let Some(seconds) = seconds.filter(|seconds| !(0..=grace).contains(seconds)) {
            let detail = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
            let field = child(&child(&child(path, "lifecycle"), hook), "sleep");
            errors.push(invalid(field, seconds, &detail));
        }
    }
}

/// Checks a port that may be a number or a container port's name.
pub(crate) fn check_port(port: Option<&Value>, path: &str, errors: &mut Vec<FieldError>) {
    match port {
        Some(Value::Number(n)) if n.as_i64().is_some_and(|n| (1..=65_535).contains(&n)) => {}
        Some(Value::String(name)) => {
            errors.extend(
                crate::names::port_name(name)
                    .iter()
                    .map(|p| invalid(path, name.as_str(), p)),
            );
        }
        Some(other) => errors.push(invalid(path, other.clone(), PORT_RANGE)),
        None => errors.push(error(path, "FieldValueRequired", "Required value".to_owned())),
    }
}

/// Kubernetes' text for a port number out of range.
pub(crate) const PORT_RANGE: &str = "must be between 1 and 65535, inclusive";
