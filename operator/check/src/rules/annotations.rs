//! What is asked of the operator in annotations: a typing error there is silent otherwise.

use afloat_api::names::{DRAIN, DRAIN_OBSERVED, DRAIN_TIMED};
use serde_json::{Value, json};

use crate::object::{Workload, World, annotation};
use crate::{Hit, Rule, Severity, Test, patch};

const LINK: &str = "https://kubernetes.io/docs/concepts/overview/working-with-objects/annotations/";

pub(super) const VALUE: Rule = Rule {
    id: "annotation-value",
    severity: Severity::Error,
    title: "an annotation for the operator has a value that means nothing",
    why: "An annotation is free text: nobody refuses a value with a typing error, and what was asked for does not happen.",
    remedy: "afloat.dev/drain is Observed or Timed.",
    link: LINK,
    test: Test::Object(value),
};

fn pointer(key: &str) -> String {
    format!("/metadata/annotations/{}", patch::escape(key))
}

/// The listed value that is meant, up to upper and lower case; else the first.
fn nearest<'a>(text: &str, allowed: &[&'a str]) -> &'a str {
    let same = allowed.iter().find(|word| word.eq_ignore_ascii_case(text.trim()));
    same.or(allowed.first()).copied().unwrap_or_default()
}

fn value(_: &World<'_>, object: &Value) -> Vec<Hit> {
    let allowed = &[DRAIN_TIMED, DRAIN_OBSERVED];
    let Some(text) = annotation(object, DRAIN).filter(|text| !allowed.contains(text)) else {
        return Vec::new();
    };
    let message = format!("{DRAIN} is {text:?}, not one of {}", allowed.join(", "));
    let fix = vec![patch::set(object, &pointer(DRAIN), json!(nearest(text, allowed)))];
    vec![Hit::new(pointer(DRAIN), message).with_fix(fix)]
}

pub(super) const PLACE: Rule = Rule {
    id: "annotation-place",
    severity: Severity::Warning,
    title: "an annotation for the operator stands where it is not read",
    why: "The operator reads afloat.dev/drain from the CloneSet itself. On a pod template or on another kind it has no effect.",
    remedy: "Put it into the CloneSet's metadata.annotations.",
    link: LINK,
    test: Test::Workload(place),
};

fn place(_: &World<'_>, workload: &Workload<'_>) -> Vec<Hit> {
    let mut found = Vec::new();
    let template = format!("{}{}", workload.prefix, pointer(DRAIN));
    let inside = workload
        .object
        .pointer(&template)
        .filter(|_| !workload.prefix.is_empty());
    if let Some(value) = inside {
        let hit = Hit::new(template.clone(), format!("{DRAIN} stands in the pod template"));
        let mut fix = vec![patch::remove(&template)];
        if workload.kind == "CloneSet" && annotation(workload.object, DRAIN).is_none() {
            fix.push(patch::set(workload.object, &pointer(DRAIN), value.clone()));
        }
        found.push(hit.with_fix(fix));
    }
    if workload.kind != "CloneSet" && annotation(workload.object, DRAIN).is_some() {
        let message = format!("{DRAIN} has no effect on a {}", workload.kind);
        found.push(Hit::new(pointer(DRAIN), message).with_fix(vec![patch::remove(&pointer(DRAIN))]));
    }
    found
}
