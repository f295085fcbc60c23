//! Checks of a Job's status: whoever runs a Job (`managedBy`), it keeps the promises that clients rely on.
//!
//! Source: Kubernetes' `pkg/apis/batch/validation` and `pkg/registry/batch/job`. What is wrong is told only of what the write changes.

use std::collections::BTreeSet;

use serde_json::Value;

use super::batch_policies::indexes_of;
use super::workload_checks::{at_least_zero, number, spec_of};
use crate::FieldError;
use crate::field::{child, duplicate, error, index, invalid, required};
use crate::json::{list, text};

/// A status and what belongs to it.
struct Side<'a> {
    status: &'a Value,
}

impl<'a> Side<'a> {
    fn of(object: &'a Value) -> Self {
        Self {
            status: object.get("status").unwrap_or(&Value::Null),
        }
    }

    fn holds(&self, type_: &str) -> bool {
        self.says(type_, "True")
    }

    fn says(&self, type_: &str, status: &str) -> bool {
        let mut conditions = list(Some(self.status), "conditions").iter();
        conditions.any(|one| text(one.get("type")) == type_ && text(one.get("status")) == status)
    }

    fn finished(&self) -> bool {
        self.holds("Complete") || self.holds("Failed")
    }

    fn get(&self, key: &str) -> Option<&'a Value> {
        self.status.get(key).filter(|value| !value.is_null())
    }

    fn number(&self, key: &str) -> i64 {
        number(self.status, key).unwrap_or(0)
    }

    fn uncounted(&self) -> usize {
        let pods = self.get("uncountedTerminatedPods");
        list(pods, "succeeded").len() + list(pods, "failed").len()
    }
}

fn conditions(detail: &str) -> FieldError {
    error(
        "status.conditions",
        "FieldValueInvalid",
        format!("Invalid value: {detail}"),
    )
}

/// Checks a write of a Job's status.
pub(crate) fn job(old: &Value, new: &Value) -> Vec<FieldError> {
    let (before, after) = (Side::of(old), Side::of(new));
    let mut errors = Vec::new();
    numbers(&after, &mut errors);
    ends(&before, &after, &mut errors);
    times(&before, &after, &mut errors);
    targets(&before, &after, &mut errors);
    let ended = before.finished() != after.finished();
    leftover("active", ended, &before, &after, &mut errors);
    start(spec_of(new), &before, &after, &mut errors);
    uncounted(ended, &before, &after, &mut errors);
    indexes(spec_of(new), &before, &after, &mut errors);
    leftover("terminating", ended, &before, &after, &mut errors);
    ready(&before, &after, &mut errors);
    success(spec_of(new), &before, &after, &mut errors);
    steps(spec_of(new), &before, &after, &mut errors);
    errors
}

fn numbers(after: &Side<'_>, errors: &mut Vec<FieldError>) {
    for key in ["active", "succeeded", "failed", "ready", "terminating"] {
        at_least_zero(after.status, key, "status", errors);
    }
    let mut seen = BTreeSet::new();
    for key in ["succeeded", "failed"] {
        for (at, uid) in list(after.get("uncountedTerminatedPods"), key).iter().enumerate() {
            let path = index(&child("status.uncountedTerminatedPods", key), at);
            let uid = text(Some(uid));
            if uid.is_empty() {
                errors.push(invalid(path, uid, "must not be empty"));
            } else if !seen.insert(uid) {
                errors.push(duplicate(path, uid));
            }
        }
    }
}

/// Which ends go together.
fn ends(before: &Side<'_>, after: &Side<'_>, errors: &mut Vec<FieldError>) {
    let changed = |type_: &str| before.holds(type_) != after.holds(type_);
    let (complete, failed) = (after.holds("Complete"), after.holds("Failed"));
    if complete && failed && (changed("Complete") || changed("Failed")) {
        errors.push(conditions("cannot set Complete=True and Failed=true conditions"));
    }
    if complete && after.holds("FailureTarget") && (changed("Complete") || changed("FailureTarget")) {
        errors.push(conditions("cannot set Complete=True and FailureTarget=true conditions"));
    }
}

/// An end has been said beforehand.
fn targets(before: &Side<'_>, after: &Side<'_>, errors: &mut Vec<FieldError>) {
    let changed = |type_: &str| before.holds(type_) != after.holds(type_);
    let indexes_changed = before.get("failedIndexes") != after.get("failedIndexes");
    if after.holds("Failed") && !after.holds("FailureTarget") && (changed("Failed") || indexes_changed) {
        let detail = "cannot set Failed=True condition without the FailureTarget=true condition";
        errors.push(conditions(detail));
    }
    let met = after.holds("SuccessCriteriaMet");
    if after.holds("Complete") && !met && (changed("Complete") || changed("SuccessCriteriaMet")) {
        let detail = "cannot set Complete=True condition without the SuccessCriteriaMet=true condition";
        errors.push(conditions(detail));
    }
}

/// A time as Go prints it.
fn printed(time: &Value) -> String {
    text(Some(time)).replace('T', " ").replace('Z', " +0000 UTC")
}

fn at(path: &str, time: &Value, detail: &str) -> FieldError {
    error(
        path,
        "FieldValueInvalid",
        format!("Invalid value: {}: {detail}", printed(time)),
    )
}

fn times(before: &Side<'_>, after: &Side<'_>, errors: &mut Vec<FieldError>) {
    let changed = |key: &str| before.get(key) != after.get(key);
    let complete = after.holds("Complete");
    let completion = after.get("completionTime");
    let path = "status.completionTime";
    if before.holds("Complete") != complete || changed("completionTime") {
        match (completion, complete) {
            (Some(time), false) => {
                let detail = "cannot set completionTime when there is no Complete=True condition";
                errors.push(at(path, time, detail));
            }
            (None, true) => errors.push(required(path, "completionTime is required for Complete jobs")),
            _ => {}
        }
    }
    if let (Some(start), Some(completion)) = (after.get("startTime"), completion)
        && (changed("startTime") || changed("completionTime"))
        && text(Some(completion)) < text(Some(start))
    {
        errors.push(at(path, completion, "completionTime cannot be set before startTime"));
    }
}

fn start(spec: &Value, before: &Side<'_>, after: &Side<'_>, errors: &mut Vec<FieldError>) {
    let idle = spec.get("suspend") == Some(&Value::Bool(true)) && number(spec, "completions") == Some(0);
    let news = before.finished() != after.finished() || before.get("startTime") != after.get("startTime");
    if after.finished() && after.get("startTime").is_none() && news && !idle {
        errors.push(required("status.startTime", "startTime is required for finished job"));
    }
}

/// A Job that is over has no such pods.
fn leftover(key: &str, ended: bool, before: &Side<'_>, after: &Side<'_>, errors: &mut Vec<FieldError>) {
    let number = after.number(key);
    if after.finished() && number > 0 && (ended || before.number(key) != number) {
        let detail = format!("{key}>0 is invalid for finished job");
        errors.push(invalid(child("status", key), number, &detail));
    }
}

fn uncounted(ended: bool, before: &Side<'_>, after: &Side<'_>, errors: &mut Vec<FieldError>) {
    let key = "uncountedTerminatedPods";
    if after.finished() && after.uncounted() > 0 && (ended || before.get(key) != after.get(key)) {
        let shown = after.get(key).cloned().unwrap_or(Value::Null);
        let detail = "uncountedTerminatedPods needs to be empty for finished job";
        errors.push(invalid("status.uncountedTerminatedPods", shown, detail));
    }
}

fn ready(before: &Side<'_>, after: &Side<'_>, errors: &mut Vec<FieldError>) {
    let (ready, active) = (after.number("ready"), after.number("active"));
    let changed = before.get("ready") != after.get("ready") || before.number("active") != active;
    if after.get("ready").is_some() && ready > active && changed {
        errors.push(invalid("status.ready", ready, "cannot set more ready pods than active"));
    }
}

fn indexes(spec: &Value, before: &Side<'_>, after: &Side<'_>, errors: &mut Vec<FieldError>) {
    let changed = |key: &str| before.get(key) != after.get(key);
    let (completed, failed) = (text(after.get("completedIndexes")), after.get("failedIndexes"));
    let completions = number(spec, "completions");
    let read = |text: &str| completions.map_or(Ok(Vec::new()), |completions| indexes_of(text, completions));
    let each = number(spec, "backoffLimitPerIndex").is_some();
    if changed("completedIndexes") {
        if let Err(problem) = read(completed) {
            let detail = format!("error parsing completedIndexes: {problem}");
            errors.push(invalid("status.completedIndexes", completed, &detail));
        }
        if !completed.is_empty() && text(spec.get("completionMode")) != "Indexed" {
            let detail = "cannot set non-empty completedIndexes when non-indexed completion mode";
            errors.push(invalid("status.completedIndexes", completed, detail));
        }
    }
    let Some(failed) = failed else { return };
    let path = "status.failedIndexes";
    let shown = text(Some(failed));
    if changed("failedIndexes") {
        if each {
            if let Err(problem) = read(shown) {
                errors.push(invalid(path, shown, &format!("error parsing failedIndexes: {problem}")));
            }
        } else {
            let detail = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
            errors.push(invalid(path, shown, detail));
        }
    }
    if !(changed("failedIndexes") || changed("completedIndexes")) {
        return;
    }
    // What cannot be read has been told of above.
    let readable = |text: &str| -> Vec<(i64, i64)> {
        let each = text.split(',').filter_map(|interval| read(interval).ok());
        each.flatten().collect()
    };
    let (completed, failed) = (readable(completed), readable(shown));
    let common = completed.iter().flat_map(|done| {
        failed
            .iter()
            .map(move |failed| (done.0.max(failed.0), done.1.min(failed.1)))
    });
    if let Some((first, _)) = common.into_iter().find(|(first, last)| first <= last) {
        let detail = format!("failedIndexes and completedIndexes overlap at index: {first}");
        errors.push(invalid(path, shown, &detail));
    }
}

fn success(spec: &Value, before: &Side<'_>, after: &Side<'_>, errors: &mut Vec<FieldError>) {
    let met = after.holds("SuccessCriteriaMet");
    if met && after.holds("Failed") {
        errors.push(conditions(
            "cannot set SuccessCriteriaMet=True and Failed=true conditions",
        ));
    }
    if met && after.holds("FailureTarget") {
        errors.push(conditions(
            "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions",
        ));
    }
    if spec.get("successPolicy").is_some_and(Value::is_object) && !met && after.holds("Complete") {
        let detail = "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True";
        errors.push(conditions(detail));
    }
    if before.holds("Complete") && !before.holds("SuccessCriteriaMet") && met {
        let detail = "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions";
        errors.push(conditions(detail));
    }
}

/// What only goes one way.
fn steps(spec: &Value, before: &Side<'_>, after: &Side<'_>, errors: &mut Vec<FieldError>) {
    for type_ in ["Failed", "Complete", "FailureTarget"] {
        if before.holds(type_) && !after.holds(type_) {
            errors.push(conditions(&format!(
                "cannot disable the terminal {type_}=True condition"
            )));
        }
    }
    let elastic =
        text(spec.get("completionMode")) == "Indexed" && number(spec, "completions") == number(spec, "parallelism");
    for key in ["failed", "succeeded"] {
        let (was, is) = (before.number(key), after.number(key));
        if is < was && !(key == "succeeded" && elastic) {
            let detail = format!("cannot decrease the {key} counter");
            errors.push(invalid(child("status", key), is, &detail));
        }
    }
    if let (Some(was), Some(is)) = (before.get("completionTime"), after.get("completionTime"))
        && was != is
    {
        errors.push(at("status.completionTime", is, "completionTime cannot be mutated"));
    }
    let resumes = before.holds("Suspended") && after.says("Suspended", "False");
    let suspended = spec.get("suspend") == Some(&Value::Bool(true));
    let start = before.get("startTime");
    if start.is_some() && start != after.get("startTime") && !suspended && !resumes {
        errors.push(required(
            "status.startTime",
            "startTime cannot be removed for unsuspended job",
        ));
    }
    if before.holds("SuccessCriteriaMet") && !after.holds("SuccessCriteriaMet") {
        errors.push(conditions("cannot disable the SuccessCriteriaMet=True condition"));
    }
}
