//! Checks of a Job's policies: what failed pods mean to it, and when it has succeeded.

use std::collections::BTreeSet;

use serde_json::Value;

use super::workload_checks::{at_least_zero, number};
use crate::FieldError;
use crate::field::{child, duplicate, error, index, invalid, not_supported, required, too_long, too_many};
use crate::json::{list, text};
use crate::names::qualified_name;

/// Kubernetes' limits.
const RULES_MOST: usize = 20;
const EXIT_CODES_MOST: usize = 255;
const CONDITIONS_MOST: usize = 20;
const INDEXES_MOST: usize = 64 * 1024;

const ACTIONS: [&str; 4] = ["Count", "FailIndex", "FailJob", "Ignore"];
const OPERATORS: [&str; 2] = ["In", "NotIn"];
const STATUSES: [&str; 3] = ["False", "True", "Unknown"];

/// The values that a field must have one of, as Kubernetes lists them.
fn listed(values: &[&str]) -> String {
    let quoted: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
    format!("valid values: [{}]", quoted.join(" "))
}

fn wrong(path: &str, detail: &str) -> FieldError {
    error(path, "FieldValueInvalid", format!("Invalid value: {detail}"))
}

/// One of a few words, which must be there.
fn word(parent: &Value, key: &str, known: &[&str], path: &str, errors: &mut Vec<FieldError>) {
    match text(parent.get(key)) {
        "" => errors.push(required(child(path, key), &listed(known))),
        other if !known.contains(&other) => errors.push(not_supported(child(path, key), other, known)),
        _ => {}
    }
}

/// Checks a `podFailurePolicy`.
pub(super) fn failure(spec: &Value, policy: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let (rules, path) = (list(Some(policy), "rules"), child(path, "rules"));
    if rules.len() > RULES_MOST {
        errors.push(too_many(path.as_str(), rules.len(), RULES_MOST));
    }
    let pod = crate::get(spec, &["template", "spec"]);
    let containers = list(pod, "containers").iter().chain(list(pod, "initContainers"));
    let containers: BTreeSet<&str> = containers.map(|container| text(container.get("name"))).collect();
    for (at, rule) in rules.iter().enumerate() {
        let path = index(&path, at);
        if text(rule.get("action")) == "FailIndex" {
            if number(spec, "backoffLimitPerIndex").is_none() {
                let detail = "requires the backoffLimitPerIndex to be set";
                errors.push(invalid(child(&path, "action"), "FailIndex", detail));
            }
        } else {
            word(rule, "action", &ACTIONS, &path, errors);
        }
        let codes = rule.get("onExitCodes").filter(|codes| codes.is_object());
        let conditions = list(Some(rule), "onPodConditions");
        if let Some(codes) = codes {
            exit_codes(codes, &containers, &child(&path, "onExitCodes"), errors);
        }
        pod_conditions(conditions, &child(&path, "onPodConditions"), errors);
        match (codes.is_some(), conditions.is_empty()) {
            (true, false) => {
                errors.push(wrong(
                    &path,
                    "specifying both OnExitCodes and OnPodConditions is not supported",
                ));
            }
            (false, true) => errors.push(wrong(
                &path,
                "specifying one of OnExitCodes and OnPodConditions is required",
            )),
            _ => {}
        }
    }
}

fn pod_conditions(conditions: &[Value], path: &str, errors: &mut Vec<FieldError>) {
    if conditions.len() > CONDITIONS_MOST {
        errors.push(too_many(path, conditions.len(), CONDITIONS_MOST));
    }
    for (at, pattern) in conditions.iter().enumerate() {
        let path = index(path, at);
        let type_ = text(pattern.get("type"));
        let problems = qualified_name(type_);
        errors.extend(
            problems
                .iter()
                .map(|problem| invalid(child(&path, "type"), type_, problem)),
        );
        word(pattern, "status", &STATUSES, &path, errors);
    }
}

fn exit_codes(codes: &Value, containers: &BTreeSet<&str>, path: &str, errors: &mut Vec<FieldError>) {
    word(codes, "operator", &OPERATORS, path, errors);
    if let Some(name) = codes
        .get("containerName")
        .and_then(Value::as_str)
        .filter(|name| !containers.contains(name))
    {
        let detail = "must be one of the container or initContainer names in the pod template";
        errors.push(invalid(child(path, "containerName"), name, detail));
    }
    let (values, path) = (list(Some(codes), "values"), child(path, "values"));
    let numbers = || values.iter().map(Value::to_string).collect::<Vec<_>>().join(", ");
    let shown = || format!("[]int32{{{}}}", numbers());
    if values.is_empty() {
        errors.push(wrong(&path, &format!("{}: at least one value is required", shown())));
    } else if values.len() > EXIT_CODES_MOST {
        errors.push(too_many(path.as_str(), values.len(), EXIT_CODES_MOST));
    }
    let numbers: Vec<i64> = values.iter().filter_map(Value::as_i64).collect();
    let mut seen = BTreeSet::new();
    for (at, code) in numbers.iter().enumerate() {
        if *code == 0 && text(codes.get("operator")) == "In" {
            errors.push(invalid(index(&path, at), 0, "must not be 0 for the In operator"));
        }
        if !seen.insert(code) {
            errors.push(duplicate(index(&path, at), *code));
        }
    }
    if !numbers.is_sorted() {
        errors.push(wrong(&path, &format!("{}: must be ordered", shown())));
    }
}

/// Checks a `successPolicy` of an Indexed Job.
pub(super) fn success(spec: &Value, policy: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let (rules, path) = (list(Some(policy), "rules"), child(path, "rules"));
    if rules.is_empty() {
        let detail = "at least one rules must be specified when the successPolicy is specified";
        errors.push(required(path.as_str(), detail));
    }
    if rules.len() > RULES_MOST {
        errors.push(too_many(path.as_str(), rules.len(), RULES_MOST));
    }
    let completions = number(spec, "completions").unwrap_or(0);
    for (at, rule) in rules.iter().enumerate() {
        let path = index(&path, at);
        let (count, indexes) = (
            number(rule, "succeededCount"),
            rule.get("succeededIndexes").and_then(Value::as_str),
        );
        if count.is_none() && indexes.is_none() {
            let detail = "at least one of succeededCount or succeededIndexes must be specified";
            errors.push(required(path.as_str(), detail));
        }
        let mut total = 0;
        if let Some(text) = indexes {
            let path = child(&path, "succeededIndexes");
            if text.len() > INDEXES_MOST {
                errors.push(too_long(path.as_str(), INDEXES_MOST));
            }
            match indexes_of(text, completions) {
                Ok(found) => total = found.iter().map(|(first, last)| last - first + 1).sum(),
                Err(problem) => {
                    let detail = format!("error parsing succeededIndexes: {problem}");
                    errors.push(invalid(path, text, &detail));
                }
            }
        }
        let Some(count) = count else { continue };
        at_least_zero(rule, "succeededCount", &path, errors);
        let path = child(&path, "succeededCount");
        if count > completions {
            let detail = format!("must be less than or equal to {completions} (the number of specified completions)");
            errors.push(invalid(path.as_str(), count, &detail));
        }
        if indexes.is_some() && count > total {
            let what = "the number of indexes in the specified succeededIndexes field";
            let detail = format!("must be less than or equal to {total} ({what})");
            errors.push(invalid(path, count, &detail));
        }
    }
}

/// Intervals of indexes as a Job has them in texts: "1,3-5".
pub(super) fn indexes_of(text: &str, completions: i64) -> Result<Vec<(i64, i64)>, String> {
    let mut found: Vec<(i64, i64)> = Vec::new();
    let ordered = |before: i64, after: i64| {
        let detail = || format!("non-increasing order, previous: {before}, current: {after}");
        if before < after { Ok(()) } else { Err(detail()) }
    };
    for interval in text.split(',').filter(|_| !text.is_empty()) {
        let limits: Vec<&str> = interval.split('-').collect();
        let read = |limit: &str| {
            let number: i64 = limit
                .parse()
                .map_err(|_| format!("cannot convert string to integer for index: {limit:?}"))?;
            if number < completions {
                Ok(number)
            } else {
                Err(format!("too large index: {limit:?}"))
            }
        };
        let (first, last) = match limits[..] {
            [only] => (read(only)?, None),
            [first, last] => (read(first)?, Some(read(last)?)),
            _ => {
                let rule = "an index interval can have at most two parts separated by '-'";
                return Err(format!(
                    "the fragment {interval:?} violates the requirement that {rule}"
                ));
            }
        };
        last.map_or(Ok(()), |last| ordered(first, last))?;
        found.last().map_or(Ok(()), |(_, before)| ordered(*before, first))?;
        found.push((first, last.unwrap_or(first)));
    }
    Ok(found)
}
