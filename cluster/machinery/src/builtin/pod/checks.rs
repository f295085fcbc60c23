//! Checks of pods and pod templates: what people get wrong, in Kubernetes' words (`ValidatePodSpec`).

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::container_checks::{self, Where};
use super::{probe, security_checks};
use crate::FieldError;
use crate::field::{child, duplicate, index, invalid, not_supported, required};
use crate::json::{list, text};
use crate::names;

const RESTART_POLICIES: &[&str] = &["Always", "OnFailure", "Never"];
const DNS_POLICIES: &[&str] = &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// Checks a Pod.
pub(crate) fn pod(pod: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    spec(pod.get("spec"), "spec", &mut errors);
    errors
}

/// Checks a PodSpec at `path`.
pub(crate) fn spec(spec: Option<&Value>, path: &str, errors: &mut Vec<FieldError>) {
    let Some(spec) = spec.filter(|s| s.is_object()) else {
        // Kubernetes' zero value of a spec has no containers.
        errors.push(required(child(path, "containers"), ""));
        return;
    };
    let volumes = volumes(spec, path, errors);
    containers(spec, path, &volumes, errors);
    one_of(spec, "restartPolicy", path, RESTART_POLICIES, errors);
    one_of(spec, "dnsPolicy", path, DNS_POLICIES, errors);
    if let Some(seconds) = spec
        .get("activeDeadlineSeconds")
        .and_then(Value::as_i64)
        .filter(|s| *s < 1)
    {
        let detail = "must be between 1 and 2147483647, inclusive";
        errors.push(invalid(child(path, "activeDeadlineSeconds"), seconds, detail));
    }
    crate::metadata::validate_labels(&child(path, "nodeSelector"), spec.get("nodeSelector"), errors);
    for key in ["nodeName", "serviceAccountName"] {
        let name = text(spec.get(key));
        if !name.is_empty() {
            errors.extend(
                names::dns_subdomain(name)
                    .iter()
                    .map(|p| invalid(child(path, key), name, p)),
            );
        }
    }
    for key in ["hostname", "subdomain"] {
        let name = text(spec.get(key));
        if !name.is_empty() {
            errors.extend(
                names::dns_label(name)
                    .iter()
                    .map(|p| invalid(child(path, key), name, p)),
            );
        }
    }
    for (i, gate) in list(Some(spec), "readinessGates").iter().enumerate() {
        let name = text(gate.get("conditionType"));
        let field = child(&index(child(path, "readinessGates").as_str(), i), "conditionType");
        errors.extend(
            names::qualified_name(name)
                .iter()
                .map(|p| invalid(field.as_str(), name, p)),
        );
    }
    tolerations(spec, path, errors);
    security_checks::spec(spec, path, errors);
}

fn one_of(spec: &Value, key: &str, path: &str, allowed: &[&str], errors: &mut Vec<FieldError>) {
    match spec.get(key) {
        None | Some(Value::Null) => errors.push(required(child(path, key), "")),
        Some(Value::String(value)) if allowed.contains(&value.as_str()) => {}
        Some(other) => errors.push(not_supported(child(path, key), other.clone(), allowed)),
    }
}

/// Checks volumes; gives their names.
fn volumes<'a>(spec: &'a Value, path: &str, errors: &mut Vec<FieldError>) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    for (i, volume) in list(Some(spec), "volumes").iter().enumerate() {
        let path = index(child(path, "volumes").as_str(), i);
        let name = text(volume.get("name"));
        if name.is_empty() {
            errors.push(required(child(&path, "name"), ""));
        } else {
            errors.extend(
                names::dns_label(name)
                    .iter()
                    .map(|p| invalid(child(&path, "name"), name, p)),
            );
            if !seen.insert(name) {
                errors.push(duplicate(child(&path, "name"), name));
            }
        }
        let sources: Vec<&String> = volume.as_object().map(sources).unwrap_or_default();
        match sources.as_slice() {
            [] => errors.push(required(path.as_str(), "must specify a volume type")),
            [one] => source(one, &volume[one.as_str()], &child(&path, one), errors),
            [_, more @ ..] => {
                let extra =
                    |s: &&String| crate::field::forbidden(child(&path, s), "may not specify more than 1 volume type");
                errors.extend(more.iter().map(extra));
            }
        }
    }
    seen
}

fn sources(volume: &Map<String, Value>) -> Vec<&String> {
    volume
        .iter()
        .filter(|(key, value)| *key != "name" && !value.is_null())
        .map(|(key, _)| key)
        .collect()
}

fn source(kind: &str, source: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let name = match kind {
        "secret" => "secretName",
        "configMap" => "name",
        "hostPath" => "path",
        "persistentVolumeClaim" => "claimName",
        _ => return,
    };
    if text(source.get(name)).is_empty() {
        errors.push(required(child(path, name), ""));
    }
}

fn containers(spec: &Value, path: &str, volumes: &BTreeSet<&str>, errors: &mut Vec<FieldError>) {
    if list(Some(spec), "containers").is_empty() {
        errors.push(required(child(path, "containers"), ""));
    }
    let mut seen = BTreeSet::new();
    for key in ["initContainers", "containers", "ephemeralContainers"] {
        for (i, container) in list(Some(spec), key).iter().enumerate() {
            let path = index(child(path, key).as_str(), i);
            let name = text(container.get("name"));
            if !name.is_empty() && !seen.insert(name) {
                errors.push(duplicate(child(&path, "name"), name));
            }
            container_checks::container(
                container,
                &path,
                Where {
                    volumes,
                    init: key == "initContainers",
                    never: text(spec.get("restartPolicy")) == "Never",
                },
                errors,
            );
        }
    }
    let grace = spec.get("terminationGracePeriodSeconds").and_then(Value::as_i64);
    for key in ["initContainers", "containers"] {
        for (i, container) in list(Some(spec), key).iter().enumerate() {
            probe::check_sleeps(container, grace, &index(child(path, key).as_str(), i), errors);
        }
    }
    container_checks::port_conflicts(list(Some(spec), "containers"), &child(path, "containers"), errors);
}

fn tolerations(spec: &Value, path: &str, errors: &mut Vec<FieldError>) {
    for (i, toleration) in list(Some(spec), "tolerations").iter().enumerate() {
        let path = index(child(path, "tolerations").as_str(), i);
        let field = |key: &str| text(toleration.get(key));
        if !field("key").is_empty() {
            let problems = names::qualified_name(field("key"));
            errors.extend(problems.iter().map(|p| invalid(child(&path, "key"), field("key"), p)));
        } else if field("operator") != "Exists" {
            let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.push(invalid(child(&path, "operator"), field("operator"), detail));
        }
        match field("operator") {
            "" | "Equal" => {}
            "Exists" if field("value").is_empty() => {}
            "Exists" => {
                let detail = "value must be empty when `operator` is 'Exists'";
                errors.push(invalid(child(&path, "operator"), toleration.clone(), detail));
            }
            other => errors.push(not_supported(child(&path, "operator"), other, &["Equal", "Exists"])),
        }
        if !field("effect").is_empty() && !EFFECTS.contains(&field("effect")) {
            errors.push(not_supported(child(&path, "effect"), field("effect"), EFFECTS));
        }
        if toleration.get("tolerationSeconds").is_some_and(|s| !s.is_null()) && field("effect") != "NoExecute" {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.push(invalid(child(&path, "effect"), field("effect"), detail));
        }
    }
}

/// What one should know about a pod.
pub(crate) fn pod_warnings(pod: &Value) -> Vec<String> {
    warnings(pod.get("spec"), "spec")
}

/// What one should know about the pods of a workload.
pub(crate) fn template_warnings(workload: &Value) -> Vec<String> {
    warnings(
        crate::get(workload, &["spec", "template", "spec"]),
        "spec.template.spec",
    )
}

/// What Kubernetes warns of in a pod: here, a negative time (of a pod itself it is 1 already), and the same environment variable twice.
pub(crate) fn warnings(spec: Option<&Value>, path: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    let grace = spec.and_then(|spec| spec.get("terminationGracePeriodSeconds")?.as_i64());
    if grace.is_some_and(|seconds| seconds < 0) {
        warnings.push(format!(
            "{path}.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"
        ));
    }
    for (i, container) in list(spec, "containers").iter().enumerate() {
        let mut seen = BTreeSet::new();
        for (j, env) in list(Some(container), "env").iter().enumerate() {
            let name = text(env.get("name"));
            if !seen.insert(name) {
                warnings.push(format!("{path}.containers[{i}].env[{j}]: hides previous definition of {name:?}, which may be dropped when using apply"));
            }
        }
    }
    warnings
}
