//! What may change in a living pod.
//!
//! The rule this project lives on: the images of containers may change, and hardly anything else. Source: Kubernetes'
//! `ValidatePodUpdate`.

use serde_json::{Map, Value};

use crate::FieldError;
use crate::field::{child, forbidden, index, invalid};
use crate::json::{list, text};

const RULE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// How many offending fields an error names at most.
const NAMED_FIELDS: usize = 10;

/// Checks the step from one pod to the next.
pub(crate) fn validate(old: &Value, new: &Value) -> Vec<FieldError> {
    // What is stored may be older than a default that the new form has been given.
    let mut old = old.clone();
    super::default_pod(&mut old);
    let old = &old;
    let (Some(before), Some(after)) = (
        old.get("spec").and_then(Value::as_object),
        new.get("spec").and_then(Value::as_object),
    ) else {
        return Vec::new();
    };
    let mut errors = Vec::new();
    for key in ["containers", "initContainers"] {
        if list(old.get("spec"), key).len() != list(new.get("spec"), key).len() {
            errors.push(forbidden(
                child("spec", key),
                "pod updates may not add or remove containers",
            ));
        }
    }
    if !errors.is_empty() {
        return errors;
    }
    deadline(before, after, &mut errors);
    tolerations(before, after, &mut errors);
    gates(before, after, &mut errors);
    let mut allowed = after.clone();
    take_over_mutable(before, &mut allowed);
    let mut changed = Vec::new();
    differences(
        &Value::Object(before.clone()),
        &Value::Object(allowed),
        "spec",
        &mut changed,
    );
    if !changed.is_empty() {
        let more = changed.len().saturating_sub(NAMED_FIELDS);
        changed.truncate(NAMED_FIELDS);
        let tail = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        errors.push(forbidden(
            "spec",
            &format!("{RULE}; changed: {}{tail}", changed.join(", ")),
        ));
    }
    errors
}

/// Gives `after` the old value of every field that may change, so that what still differs may not.
fn take_over_mutable(before: &Map<String, Value>, after: &mut Map<String, Value>) {
    for key in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        restore(before, after, key);
    }
    let grace = |spec: &Map<String, Value>| spec.get("terminationGracePeriodSeconds").and_then(Value::as_i64);
    if grace(before).is_some_and(|seconds| seconds < 0) && grace(after) == Some(1) {
        restore(before, after, "terminationGracePeriodSeconds");
    }
    for key in ["containers", "initContainers"] {
        let Some(Value::Array(items)) = after.get_mut(key) else {
            continue;
        };
        let old = before.get(key).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        for (item, old) in items.iter_mut().zip(old) {
            if let (Some(item), Some(old)) = (item.as_object_mut(), old.as_object()) {
                restore(old, item, "image");
            }
        }
    }
}

fn restore(before: &Map<String, Value>, after: &mut Map<String, Value>, key: &str) {
    match before.get(key) {
        Some(value) => after.insert(key.to_owned(), value.clone()),
        None => after.remove(key),
    };
}

/// Paths of the smallest parts that differ.
fn differences(old: &Value, new: &Value, path: &str, found: &mut Vec<String>) {
    match (old, new) {
        (old, new) if old == new => {}
        (Value::Object(a), Value::Object(b)) => {
            let mut keys: Vec<&String> = a.keys().chain(b.keys().filter(|k| !a.contains_key(*k))).collect();
            keys.sort();
            for key in keys {
                let (a, b) = (a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null));
                differences(a, b, &child(path, key), found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter()
                .zip(b)
                .enumerate()
                .for_each(|(i, (a, b))| differences(a, b, &index(path, i), found));
        }
        _ => found.push(path.to_owned()),
    }
}

fn deadline(before: &Map<String, Value>, after: &Map<String, Value>, errors: &mut Vec<FieldError>) {
    let seconds = |spec: &Map<String, Value>| spec.get("activeDeadlineSeconds").and_then(Value::as_i64);
    let path = "spec.activeDeadlineSeconds";
    match (seconds(before), seconds(after)) {
        (_, Some(n)) if !(1..=i64::from(i32::MAX)).contains(&n) => {
            errors.push(invalid(path, n, "must be between 1 and 2147483647, inclusive"));
        }
        (Some(old), Some(new)) if new > old => {
            errors.push(invalid(path, new, "must be less than or equal to previous value"));
        }
        (Some(_), None) => errors.push(invalid(
            path,
            Value::Null,
            "must not update from a positive integer to nil value",
        )),
        _ => {}
    }
}

/// Tolerations may be added; of an old one only the seconds may change.
fn tolerations(before: &Map<String, Value>, after: &Map<String, Value>, errors: &mut Vec<FieldError>) {
    let stripped = |spec: &Map<String, Value>| -> Vec<Value> {
        let items = spec.get("tolerations").and_then(Value::as_array);
        let strip = |toleration: &Value| {
            let mut toleration = toleration.clone();
            if let Some(fields) = toleration.as_object_mut() {
                fields.remove("tolerationSeconds");
            }
            toleration
        };
        items.into_iter().flatten().map(strip).collect()
    };
    let new = stripped(after);
    if stripped(before).iter().any(|old| !new.contains(old)) {
        errors.push(forbidden(
            "spec.tolerations",
            "existing toleration can not be modified except its tolerationSeconds",
        ));
    }
}

/// Scheduling gates may go, never come.
fn gates(before: &Map<String, Value>, after: &Map<String, Value>, errors: &mut Vec<FieldError>) {
    let names = |spec: &Map<String, Value>| -> Vec<String> {
        let gates = spec.get("schedulingGates").and_then(Value::as_array);
        gates
            .into_iter()
            .flatten()
            .map(|g| text(g.get("name")).to_owned())
            .collect()
    };
    let old = names(before);
    for (i, name) in names(after).iter().enumerate().filter(|(_, name)| !old.contains(name)) {
        let detail = format!("only deletion is allowed, but found new scheduling gate '{name}'");
        errors.push(forbidden(index("spec.schedulingGates", i), &detail));
    }
}
