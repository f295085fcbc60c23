//! Checks of Jobs.
//!
//! Source: Kubernetes' `pkg/apis/batch/validation`.

use serde_json::{Value, json};

use super::batch_policies;
use super::workload::{JOB_NAME_LABELS, JOB_UID_LABELS};
use super::workload_checks::{at_least_zero, fixed, label_selector, number, spec_of, template};
use crate::FieldError;
use crate::field::{child, error, index, invalid, not_supported, required, too_long};
use crate::json::text;
use crate::names;
use crate::selector::LabelSelector;

/// Kubernetes' limits of Indexed Jobs: of pods at a time, of failed indexes, and of both where there are more completions than these
/// and each index has its own limit of failures.
const MANY: i64 = 100_000;
const MOST_OF_MANY: i64 = 10_000;
/// Longest `managedBy`, in bytes.
const MANAGED_BY_MOST: usize = 63;

fn is_indexed(spec: &Value) -> bool {
    text(spec.get("completionMode")) == "Indexed"
}

/// Checks a Job.
pub(crate) fn job(object: &Value) -> Vec<FieldError> {
    let (spec, mut errors) = (spec_of(object), Vec::new());
    generated_selector(object, spec, &mut errors);
    job_spec(spec, "spec", &mut errors);
    job_selector(spec, &mut errors);
    // The last pod's host name is the longest.
    if let Some(completions) = number(spec, "completions").filter(|count| *count > 0 && is_indexed(spec)) {
        let name = text(crate::get(object, &["metadata", "name"]));
        let host = format!("{name}-{}", completions - 1);
        if !names::dns_label(&host).is_empty() {
            let detail = format!("will not able to create pod with invalid DNS label: {host}");
            errors.push(invalid("metadata.name", name, &detail));
        }
    }
    errors
}

/// Whoever does not choose the labels of a Job's pods has those that the server made.
fn generated_selector(object: &Value, spec: &Value, errors: &mut Vec<FieldError>) {
    let manual = spec.get("manualSelector") == Some(&json!(true));
    let Some(selector) = spec.get("selector").filter(|selector| selector.is_object() && !manual) else {
        return;
    };
    let of_meta = |key: &str| text(crate::get(object, &["metadata", key]));
    let labels = crate::get(spec, &["template", "metadata", "labels"]);
    let mut expected = serde_json::Map::new();
    // One that was stored before the labels had a prefix goes on without.
    let prefixed = [JOB_UID_LABELS[0], JOB_NAME_LABELS[0]];
    let prefixed = prefixed
        .iter()
        .all(|key| labels.is_some_and(|all| all.get(key).is_some()));
    for at in [1, 0].into_iter().filter(|at| *at == 1 || prefixed) {
        for (key, wanted) in [
            (JOB_UID_LABELS[at], of_meta("uid")),
            (JOB_NAME_LABELS[at], of_meta("name")),
        ] {
            expected.insert(key.to_owned(), wanted.into());
            let (path, detail) = (
                index("spec.template.metadata.labels", key),
                format!("must be '{wanted}'"),
            );
            match labels.and_then(|all| all.get(key)) {
                None => errors.push(required(path, &detail)),
                Some(found) if text(Some(found)) != wanted => errors.push(wrong_labels(path, labels, &detail)),
                Some(_) => {}
            }
        }
    }
    let expected = Value::from(expected);
    if LabelSelector::from_value(selector).is_ok_and(|parsed| !parsed.matches_labels(Some(&expected))) {
        errors.push(invalid(
            "spec.selector",
            selector.clone(),
            "`selector` not auto-generated",
        ));
    }
}

/// Labels as Go prints them.
fn wrong_labels(path: impl Into<String>, labels: Option<&Value>, detail: &str) -> FieldError {
    let shown = match labels.and_then(Value::as_object) {
        None => "(nil)".to_owned(),
        Some(labels) => {
            let pairs: Vec<String> = labels.iter().map(|(key, value)| format!("{key:?}:{value}")).collect();
            format!("{{{}}}", pairs.join(", "))
        }
    };
    error(
        path,
        "FieldValueInvalid",
        format!("Invalid value: map[string]string{shown}: {detail}"),
    )
}

fn job_selector(spec: &Value, errors: &mut Vec<FieldError>) {
    let labels = crate::get(spec, &["template", "metadata", "labels"]);
    let mismatch = || {
        let detail = "`selector` does not match template `labels`";
        wrong_labels("spec.template.metadata.labels", labels, detail)
    };
    let Some(selector) = spec.get("selector").filter(|selector| !selector.is_null()) else {
        // Otherwise it was stored before the server made selectors.
        if spec.get("manualSelector") == Some(&json!(true)) {
            errors.push(required("spec.selector", ""));
            errors.push(mismatch());
        }
        return;
    };
    let before = errors.len();
    label_selector(selector, "spec.selector", errors);
    if errors.len() > before {
        return;
    }
    if LabelSelector::from_value(selector).is_ok_and(|parsed| !parsed.matches_labels(labels)) {
        errors.push(mismatch());
    }
}

/// Checks what Jobs and templates of Jobs have in common.
pub(super) fn job_spec(spec: &Value, path: &str, errors: &mut Vec<FieldError>) {
    for key in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        at_least_zero(spec, key, path, errors);
    }
    let (per_index, max_failed) = (number(spec, "backoffLimitPerIndex"), number(spec, "maxFailedIndexes"));
    if max_failed.is_some() && per_index.is_none() {
        errors.push(required(
            child(path, "backoffLimitPerIndex"),
            "when maxFailedIndexes is specified",
        ));
    }
    if let Some(manager) = spec.get("managedBy").filter(|manager| !manager.is_null()) {
        managed_by(text(Some(manager)), &child(path, "managedBy"), errors);
    }
    match text(spec.get("completionMode")) {
        "Indexed" => indexed(spec, path, errors),
        "NonIndexed" | "" => {
            for (key, value) in [("backoffLimitPerIndex", per_index), ("maxFailedIndexes", max_failed)] {
                if let Some(value) = value {
                    errors.push(invalid(child(path, key), value, "requires indexed completion mode"));
                }
            }
        }
        other => errors.push(not_supported(
            child(path, "completionMode"),
            other,
            &["NonIndexed", "Indexed"],
        )),
    }
    let policy = spec.get("podFailurePolicy").filter(|policy| policy.is_object());
    if let Some(policy) = policy {
        batch_policies::failure(spec, policy, &child(path, "podFailurePolicy"), errors);
    }
    if let Some(policy) = spec.get("successPolicy").filter(|policy| policy.is_object()) {
        let path = child(path, "successPolicy");
        if is_indexed(spec) {
            batch_policies::success(spec, policy, &path, errors);
        } else {
            errors.push(invalid(path, policy.clone(), "requires indexed completion mode"));
        }
    }
    let replaces: &[&str] = if policy.is_some() {
        &["Failed"]
    } else {
        &["Failed", "TerminatingOrFailed"]
    };
    let replacement = text(spec.get("podReplacementPolicy"));
    if !replacement.is_empty() && !replaces.contains(&replacement) {
        errors.push(not_supported(
            child(path, "podReplacementPolicy"),
            replacement,
            replaces,
        ));
    }
    pods(spec, policy.is_some(), &child(path, "template"), errors);
}

/// The template, whose pods must come to an end.
fn pods(spec: &Value, has_policy: bool, template_path: &str, errors: &mut Vec<FieldError>) {
    template(spec, template_path, &["OnFailure", "Never", "Always"], errors);
    let restart = text(crate::get(spec, &["template", "spec", "restartPolicy"]));
    let restart_path = child(&child(template_path, "spec"), "restartPolicy");
    match restart {
        "Always" | "" => errors.push(required(restart_path, r#"valid values: "OnFailure", "Never""#)),
        "OnFailure" if has_policy => {
            let detail = r#"only "Never" is supported when podFailurePolicy is specified"#;
            errors.push(invalid(restart_path, restart, detail));
        }
        "OnFailure" | "Never" => {}
        _ => errors.push(not_supported(restart_path, restart, &["OnFailure", "Never"])),
    }
}

/// A path behind the name of a domain.
fn managed_by(manager: &str, path: &str, errors: &mut Vec<FieldError>) {
    let shape = "must be a domain-prefixed path (such as \"acme.io/foo\")";
    match manager.split_once('/') {
        _ if manager.is_empty() => errors.push(required(path, "")),
        Some((host, rest)) if !host.is_empty() && !rest.is_empty() => {
            errors.extend(
                names::dns_subdomain(host)
                    .iter()
                    .map(|problem| invalid(path, host, problem)),
            );
            let allowed = |c: char| c.is_ascii_alphanumeric() || "/-._~%!$&'()*+,;=:".contains(c);
            if !rest.chars().all(allowed) {
                let detail = "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')";
                errors.push(invalid(path, rest, detail));
            }
        }
        _ => errors.push(invalid(path, manager, shape)),
    }
    if manager.len() > MANAGED_BY_MOST {
        errors.push(too_long(path, MANAGED_BY_MOST));
    }
}

fn at_most(spec: &Value, key: &str, most: i64, why: &str, path: &str, errors: &mut Vec<FieldError>) {
    if let Some(value) = number(spec, key).filter(|value| *value > most) {
        let detail = format!("must be less than or equal to {most}{why}");
        errors.push(invalid(child(path, key), value, &detail));
    }
}

fn indexed(spec: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let (completions, max_failed) = (number(spec, "completions"), number(spec, "maxFailedIndexes"));
    if completions.is_none() {
        errors.push(required(child(path, "completions"), "when completion mode is Indexed"));
    }
    at_most(
        spec,
        "parallelism",
        MANY,
        " when completion mode is Indexed",
        path,
        errors,
    );
    if let Some(failed) = max_failed.filter(|failed| completions.is_some_and(|completions| *failed > completions)) {
        let detail = "must be less than or equal to completions";
        errors.push(invalid(child(path, "maxFailedIndexes"), failed, detail));
    }
    at_most(spec, "maxFailedIndexes", MANY, "", path, errors);
    let many = completions.is_some_and(|completions| completions > MANY);
    if many && number(spec, "backoffLimitPerIndex").is_some() {
        if max_failed.is_none() {
            let detail = format!("must be specified when completions is above {MANY}");
            errors.push(required(child(path, "maxFailedIndexes"), &detail));
        }
        let why = format!(" when completions are above {MANY} and used with backoff limit per index");
        at_most(spec, "parallelism", MOST_OF_MANY, &why, path, errors);
        at_most(spec, "maxFailedIndexes", MOST_OF_MANY, &why, path, errors);
    }
}

/// What one should know about a Job.
pub(crate) fn job_warnings(object: &Value) -> Vec<String> {
    spec_warnings(object.get("spec"), "spec")
}

/// The same of what Jobs and templates of Jobs have in common.
pub(super) fn spec_warnings(spec: Option<&Value>, path: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    let above = |key: &str, most: i64| {
        spec.and_then(|spec| number(spec, key))
            .is_some_and(|value| value > most)
    };
    if spec.is_some_and(is_indexed) && above("completions", MANY) && above("parallelism", MOST_OF_MANY) {
        let what = "In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4";
        let why = "Kubernetes might not be able to track completedIndexes when a big number of indexes fail";
        warnings.push(format!("{path}: {what}, {why}"));
    }
    let pod = spec.and_then(|spec| crate::get(spec, &["template", "spec"]));
    warnings.extend(super::pod::checks::warnings(
        pod,
        &child(&child(path, "template"), "spec"),
    ));
    warnings
}

/// Checks the step from one Job to the next.
pub(crate) fn job_update(old: &Value, new: &Value) -> Vec<FieldError> {
    let (before, after) = (spec_of(old), spec_of(new));
    let mut errors = Vec::new();
    let completions = number(after, "completions");
    if !is_indexed(after) {
        errors.extend(fixed(old, new, &["completions"]));
    } else if completions.is_some() && completions != number(before, "completions") {
        let value = after.get("completions").cloned().unwrap_or(Value::Null);
        if completions != number(after, "parallelism") {
            errors.push(invalid(
                "spec.completions",
                value,
                "can only be modified in tandem with spec.parallelism",
            ));
        }
    }
    errors.extend(fixed(old, new, &["selector"]));
    let mut kept = old.clone();
    let suspended = before.get("suspend") == Some(&json!(true));
    let started = crate::get(old, &["status", "startTime"]).is_some_and(|time| !time.is_null());
    if suspended && !started {
        take_placement(&mut kept, new);
    }
    errors.extend(fixed(&kept, new, &["template"]));
    let keys = [
        "completionMode",
        "podFailurePolicy",
        "backoffLimitPerIndex",
        "managedBy",
        "successPolicy",
    ];
    errors.extend(fixed(old, new, &keys));
    errors
}

/// Of a Job that has never started it may change where its pods run, and what they are labelled.
fn take_placement(old: &mut Value, new: &Value) {
    let of_new = |path: &str| new.pointer(&format!("/spec/template{path}")).cloned();
    let mut take = |path: &str| {
        let value = of_new(path);
        let (parent, key) = path.rsplit_once('/').unwrap_or_default();
        let parent = format!("/spec/template{parent}");
        if let Some(fields) = old.pointer_mut(&parent).and_then(Value::as_object_mut) {
            match value {
                Some(value) => drop(fields.insert(key.to_owned(), value)),
                None => drop(fields.remove(key)),
            }
        } else if let (Some(value), Some((above, name))) = (value, parent.rsplit_once('/'))
            && let Some(fields) = old.pointer_mut(above).and_then(Value::as_object_mut)
        {
            fields.insert(name.to_owned(), json!({ key: value }));
        }
    };
    for path in [
        "/spec/nodeSelector",
        "/spec/tolerations",
        "/spec/schedulingGates",
        "/metadata/annotations",
        "/metadata/labels",
        "/spec/affinity/nodeAffinity",
    ] {
        take(path);
    }
    // An affinity that said nothing else may go.
    let affinity = "/spec/template/spec/affinity";
    let empty = old
        .pointer(affinity)
        .and_then(Value::as_object)
        .is_some_and(serde_json::Map::is_empty);
    if empty
        && new.pointer(affinity).is_none()
        && let Some(pod) = old.pointer_mut("/spec/template/spec").and_then(Value::as_object_mut)
    {
        pod.remove("affinity");
    }
}
