//! Checks of Deployments, ReplicaSets, StatefulSets and DaemonSets, and what Jobs share with them.

use serde_json::{Value, json};

use super::pod::checks;
use crate::FieldError;
use crate::field::{child, forbidden, invalid, not_supported, required};
use crate::json::{list, text};
use crate::metadata::validate_labels;
use crate::selector::LabelSelector;

pub(super) fn spec_of(object: &Value) -> &Value {
    object.get("spec").unwrap_or(&Value::Null)
}

/// Checks a Deployment.
pub(crate) fn deployment(object: &Value) -> Vec<FieldError> {
    let (spec, mut errors) = (spec_of(object), Vec::new());
    counted(spec, &mut errors);
    selected(spec, "deployment", &mut errors);
    deployment_strategy(spec, &mut errors);
    errors
}

/// Checks a ReplicaSet.
pub(crate) fn replica_set(object: &Value) -> Vec<FieldError> {
    let (spec, mut errors) = (spec_of(object), Vec::new());
    counted(spec, &mut errors);
    selected(spec, "deployment", &mut errors);
    errors
}

/// Checks a StatefulSet.
pub(crate) fn stateful_set(object: &Value) -> Vec<FieldError> {
    let (spec, mut errors) = (spec_of(object), Vec::new());
    counted(spec, &mut errors);
    selected(spec, "statefulset", &mut errors);
    stateful_set_strategy(spec, &mut errors);
    errors
}

/// Checks a DaemonSet.
pub(crate) fn daemon_set(object: &Value) -> Vec<FieldError> {
    let (spec, mut errors) = (spec_of(object), Vec::new());
    selected(spec, "daemonset", &mut errors);
    daemon_set_strategy(spec, &mut errors);
    errors
}

/// Checks a ReplicationController.
pub(crate) fn replication_controller(object: &Value) -> Vec<FieldError> {
    let (spec, mut errors) = (spec_of(object), Vec::new());
    counted(spec, &mut errors);
    let selector = spec.get("selector").unwrap_or(&Value::Null);
    if selector.as_object().is_none_or(serde_json::Map::is_empty) {
        errors.push(required("spec.selector", ""));
    } else if spec.get("template").is_some_and(Value::is_object) {
        template_matches(spec, selector, &mut errors);
    }
    template(spec, "spec.template", &["Always"], &mut errors);
    errors
}

/// Checks a PodTemplate.
pub(crate) fn pod_template(object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    checks::spec(crate::get(object, &["template", "spec"]), "template.spec", &mut errors);
    errors
}

fn counted(spec: &Value, errors: &mut Vec<FieldError>) {
    for key in [
        "replicas",
        "minReadySeconds",
        "revisionHistoryLimit",
        "progressDeadlineSeconds",
    ] {
        at_least_zero(spec, key, "spec", errors);
    }
    let (ready, progress) = (
        spec.get("minReadySeconds"),
        spec.get("progressDeadlineSeconds").and_then(Value::as_i64),
    );
    if let Some(progress) = progress
        && progress <= ready.and_then(Value::as_i64).unwrap_or(0)
    {
        errors.push(invalid(
            "spec.progressDeadlineSeconds",
            progress,
            "must be greater than minReadySeconds",
        ));
    }
}

/// A number, if it is there.
pub(super) fn number(parent: &Value, key: &str) -> Option<i64> {
    parent.get(key).and_then(Value::as_i64)
}

pub(super) fn at_least_zero(spec: &Value, key: &str, path: &str, errors: &mut Vec<FieldError>) {
    match spec.get(key) {
        None | Some(Value::Null) => {}
        Some(value) if value.as_i64().is_some_and(|n| n >= 0) => {}
        Some(value) => errors.push(invalid(
            child(path, key),
            value.clone(),
            "must be greater than or equal to 0",
        )),
    }
}

/// A workload has a selector, and its template's labels match it. `kind` is Kubernetes' word in one message (of ReplicaSets
/// it says deployment as well).
fn selected(spec: &Value, kind: &str, errors: &mut Vec<FieldError>) {
    let path = "spec.selector";
    match spec.get("selector").filter(|s| !s.is_null()) {
        None => errors.push(required(path, "")),
        Some(selector) => {
            let before = errors.len();
            label_selector(selector, path, errors);
            let empty = list(Some(selector), "matchExpressions").is_empty()
                && selector
                    .get("matchLabels")
                    .and_then(Value::as_object)
                    .is_none_or(serde_json::Map::is_empty);
            if empty && errors.len() == before {
                errors.push(invalid(
                    path,
                    selector.clone(),
                    &format!("empty selector is invalid for {kind}"),
                ));
            } else if errors.len() == before {
                template_matches(spec, selector, errors);
            }
        }
    }
    template(spec, "spec.template", &["Always"], errors);
}

fn template_matches(spec: &Value, selector: &Value, errors: &mut Vec<FieldError>) {
    let labels = crate::get(spec, &["template", "metadata", "labels"]);
    if LabelSelector::from_value(selector).is_ok_and(|s| !s.matches_labels(labels)) {
        let labels = labels.cloned().unwrap_or_else(|| json!({}));
        let detail = "`selector` does not match template `labels`";
        errors.push(invalid("spec.template.metadata.labels", labels, detail));
    }
}

/// Checks a `metav1.LabelSelector`.
pub(crate) fn label_selector(selector: &Value, path: &str, errors: &mut Vec<FieldError>) {
    validate_labels(&child(path, "matchLabels"), selector.get("matchLabels"), errors);
    for (i, expression) in list(Some(selector), "matchExpressions").iter().enumerate() {
        let path = crate::field::index(child(path, "matchExpressions").as_str(), i);
        let key = text(expression.get("key"));
        errors.extend(
            crate::names::qualified_name(key)
                .iter()
                .map(|p| invalid(child(&path, "key"), key, p)),
        );
        let values = list(Some(expression), "values").len();
        match text(expression.get("operator")) {
            "In" | "NotIn" if values == 0 => {
                errors.push(required(
                    child(&path, "values"),
                    "must be specified when `operator` is 'In' or 'NotIn'",
                ));
            }
            "Exists" | "DoesNotExist" if values > 0 => {
                let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.push(forbidden(child(&path, "values"), detail));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.push(invalid(
                child(&path, "operator"),
                other,
                "not a valid selector operator",
            )),
        }
    }
}

/// A StatefulSet's pods have a volume for each of its claim templates, which takes the place of one of the same name.
fn with_claims(pod: Option<&Value>, claims: &[Value]) -> Option<Value> {
    let mut pod = pod.filter(|pod| pod.is_object() && !claims.is_empty())?.clone();
    let known: Vec<String> = list(Some(&pod), "volumes")
        .iter()
        .map(|v| text(v.get("name")).to_owned())
        .collect();
    let names = claims
        .iter()
        .map(|claim| text(crate::get(claim, &["metadata", "name"])));
    let new: Vec<Value> = names
        .filter(|name| !name.is_empty() && !known.iter().any(|known| known == name))
        .map(|name| json!({"name": name, "persistentVolumeClaim": {"claimName": name}}))
        .collect();
    let all = [list(Some(&pod), "volumes"), &new].concat();
    pod["volumes"] = all.into();
    Some(pod)
}

pub(super) fn template(spec: &Value, path: &str, restart: &[&str], errors: &mut Vec<FieldError>) {
    let Some(template) = spec.get("template").filter(|t| t.is_object()) else {
        errors.push(required(path, ""));
        return;
    };
    validate_labels(
        &child(&child(path, "metadata"), "labels"),
        crate::get(template, &["metadata", "labels"]),
        errors,
    );
    let claimed = with_claims(template.get("spec"), list(Some(spec), "volumeClaimTemplates"));
    let pod = claimed.as_ref().or(template.get("spec"));
    let path = child(path, "spec");
    checks::spec(pod, &path, errors);
    let policy = text(pod.and_then(|p| p.get("restartPolicy")));
    if ["Always", "OnFailure", "Never"].contains(&policy) && !restart.contains(&policy) {
        errors.push(not_supported(child(&path, "restartPolicy"), policy, restart));
    }
    if pod
        .and_then(|p| p.get("activeDeadlineSeconds"))
        .is_some_and(|s| !s.is_null())
        && restart == ["Always"]
    {
        errors.push(forbidden(
            child(&path, "activeDeadlineSeconds"),
            "activeDeadlineSeconds in this workload is not Supported",
        ));
    }
}

fn deployment_strategy(spec: &Value, errors: &mut Vec<FieldError>) {
    let strategy = spec.get("strategy");
    let rolling = strategy.and_then(|s| s.get("rollingUpdate")).filter(|r| !r.is_null());
    match text(strategy.and_then(|s| s.get("type"))) {
        "Recreate" if rolling.is_some() => {
            let detail = "may not be specified when strategy `type` is 'Recreate'";
            errors.push(forbidden("spec.strategy.rollingUpdate", detail));
        }
        "Recreate" => {}
        "RollingUpdate" => {
            if let Some(rolling) = rolling {
                budget(
                    rolling,
                    "spec.strategy.rollingUpdate",
                    "may not be 0 when `maxSurge` is 0",
                    errors,
                );
            }
        }
        other => errors.push(not_supported(
            "spec.strategy.type",
            other,
            &["Recreate", "RollingUpdate"],
        )),
    }
}

fn daemon_set_strategy(spec: &Value, errors: &mut Vec<FieldError>) {
    at_least_zero(spec, "minReadySeconds", "spec", errors);
    at_least_zero(spec, "revisionHistoryLimit", "spec", errors);
    let strategy = spec.get("updateStrategy");
    match text(strategy.and_then(|s| s.get("type"))) {
        "OnDelete" => {}
        "RollingUpdate" => {
            if let Some(rolling) = strategy.and_then(|s| s.get("rollingUpdate")) {
                budget(
                    rolling,
                    "spec.updateStrategy.rollingUpdate",
                    "cannot be 0 when maxSurge is 0",
                    errors,
                );
            }
        }
        other => errors.push(not_supported(
            "spec.updateStrategy.type",
            other,
            &["RollingUpdate", "OnDelete"],
        )),
    }
}

/// maxUnavailable and maxSurge: numbers or percentages, not both 0.
fn budget(rolling: &Value, path: &str, both_zero: &str, errors: &mut Vec<FieldError>) {
    let mut zero = true;
    for key in ["maxUnavailable", "maxSurge"] {
        let field = child(path, key);
        match rolling.get(key) {
            None | Some(Value::Null) => {}
            Some(Value::Number(n)) if n.as_i64().is_some_and(|n| n >= 0) => zero &= n.as_i64() == Some(0),
            Some(Value::String(percent)) => match percentage(percent) {
                Some(n) => {
                    zero &= n == 0;
                    if key == "maxUnavailable" && n > 100 {
                        errors.push(invalid(field, percent.as_str(), "must not be greater than 100%"));
                    }
                }
                None => {
                    let detail = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";
                    errors.push(invalid(field, percent.as_str(), detail));
                    zero = false;
                }
            },
            Some(other) => {
                errors.push(invalid(field, other.clone(), "must be greater than or equal to 0"));
                zero = false;
            }
        }
    }
    if zero {
        let value = rolling.get("maxUnavailable").cloned().unwrap_or_else(|| json!(0));
        errors.push(invalid(child(path, "maxUnavailable"), value, both_zero));
    }
}

fn percentage(text: &str) -> Option<u64> {
    let digits = text.strip_suffix('%')?;
    digits
        .bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| digits.parse().ok())
        .flatten()
}

fn stateful_set_strategy(spec: &Value, errors: &mut Vec<FieldError>) {
    let policy = text(spec.get("podManagementPolicy"));
    if !["OrderedReady", "Parallel"].contains(&policy) {
        let detail = "must be 'OrderedReady' or 'Parallel'";
        errors.push(invalid("spec.podManagementPolicy", policy, detail));
    }
    let strategy = spec.get("updateStrategy");
    match text(strategy.and_then(|s| s.get("type"))) {
        "OnDelete" => {}
        "RollingUpdate" => {
            if let Some(rolling) = strategy.and_then(|s| s.get("rollingUpdate")) {
                at_least_zero(rolling, "partition", "spec.updateStrategy.rollingUpdate", errors);
            }
        }
        other => errors.push(invalid(
            "spec.updateStrategy",
            other,
            "must be 'RollingUpdate' or 'OnDelete'",
        )),
    }
}

/// Fields of a StatefulSet's spec that may change.
const STATEFUL_SET_MUTABLE: &[&str] = &[
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

fn field(object: &Value, key: &str) -> Value {
    crate::get(object, &["spec", key]).cloned().unwrap_or(Value::Null)
}

/// Fields of the spec that stay.
pub(super) fn fixed(old: &Value, new: &Value, keys: &[&str]) -> Vec<FieldError> {
    let changed = keys.iter().filter(|key| field(old, key) != field(new, key));
    changed
        .map(|key| invalid(child("spec", key), field(new, key), "field is immutable"))
        .collect()
}

/// Checks the step from one Deployment, ReplicaSet or DaemonSet to the next: the selector stays.
pub(crate) fn fixed_selector(old: &Value, new: &Value) -> Vec<FieldError> {
    fixed(old, new, &["selector"])
}

/// Checks the step from one StatefulSet to the next: most of it stays.
pub(crate) fn stateful_set_update(old: &Value, new: &Value) -> Vec<FieldError> {
    let strip = |object: &Value| {
        let mut spec = object.get("spec").cloned().unwrap_or(Value::Null);
        if let Some(spec) = spec.as_object_mut() {
            spec.retain(|key, _| !STATEFUL_SET_MUTABLE.contains(&key.as_str()));
        }
        spec
    };
    if strip(old) == strip(new) {
        return Vec::new();
    }
    vec![forbidden(
        "spec",
        "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
    )]
}

/// The data of a ControllerRevision stay.
pub(crate) fn revision_update(old: &Value, new: &Value) -> Vec<FieldError> {
    if old.get("data") == new.get("data") {
        return Vec::new();
    }
    vec![invalid("data", Value::Null, "field is immutable")]
}
