//! What is asked of the operator in annotations: a typing error there is silent otherwise.

use afloat_api::names::{DRAIN, DRAIN_OBSERVED, DRAIN_TIMED, MAX_LOSS, ON_LOSS, ON_LOSS_PAUSE, ON_LOSS_ROLLBACK};
use afloat_rollout::workload::limit::Limit;
use serde_json::{Value, json};

use crate::cel::{Cel, On, Part};
use crate::object::{Workload, World, annotation};
use crate::patch;
use crate::rule::{Hit, Rule, Severity, Test};

const LINK: &str = "https://kubernetes.io/docs/concepts/overview/working-with-objects/annotations/";

/// What the operator reads from a workload of its kinds.
const KEYS: [&str; 3] = [DRAIN, MAX_LOSS, ON_LOSS];

pub(super) const VALUE: Rule = Rule {
    id: "annotation-value",
    severity: Severity::Error,
    title: "an annotation for the operator has a value that means nothing",
    why: "An annotation is free text: nobody refuses a value with a typing error, and what was asked for does not happen.",
    remedy: "afloat.dev/drain is Observed or Timed, afloat.dev/max-loss a number or a percentage, afloat.dev/on-loss Pause \
             or Rollback.",
    link: LINK,
    test: Test::Object(value),
    cel: Cel::Finds {
        on: On::Workloads,
        part: Part::Annotations,
        found: "variables.keys.filter(k, k in variables.annotations).filter(k, \
                k == 'afloat.dev/drain' ? !(variables.annotations[k] in ['Timed', 'Observed']) \
                : k == 'afloat.dev/on-loss' ? !(variables.annotations[k] in ['Pause', 'Rollback']) \
                : !variables.annotations[k].trim().matches('^[+]?0*[0-9]{1,19}$') && \
                !(variables.annotations[k].trim().matches('^[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]+)? *%$') && \
                double(variables.annotations[k].replace('%', '').trim()) >= 0.0 && \
                double(variables.annotations[k].replace('%', '').trim()) <= 100.0))",
    },
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
    let mut found = Vec::new();
    let words: [(&str, &[&str]); 2] = [
        (DRAIN, &[DRAIN_TIMED, DRAIN_OBSERVED]),
        (ON_LOSS, &[ON_LOSS_PAUSE, ON_LOSS_ROLLBACK]),
    ];
    for (key, allowed) in words {
        if let Some(text) = annotation(object, key).filter(|text| !allowed.contains(text)) {
            let message = format!("{key} is {text:?}, not one of {}", allowed.join(", "));
            let fix = vec![patch::set(object, &pointer(key), json!(nearest(text, allowed)))];
            found.push(Hit::new(pointer(key), message).with_fix(fix));
        }
    }
    if let Some(text) = annotation(object, MAX_LOSS).filter(|text| Limit::read(text).is_none()) {
        let message =
            format!("{MAX_LOSS} is {text:?}, neither a number nor a percentage up to 100%: nothing may be lost");
        let fix = vec![patch::set(object, &pointer(MAX_LOSS), json!("0"))];
        found.push(Hit::new(pointer(MAX_LOSS), message).with_fix(fix));
    }
    found
}

pub(super) const PLACE: Rule = Rule {
    id: "annotation-place",
    severity: Severity::Warning,
    title: "an annotation for the operator stands where it is not read",
    why: "The operator reads afloat.dev/drain, afloat.dev/max-loss and afloat.dev/on-loss from the CloneSet, StatefulSet or \
          DaemonSet of apps.kruise.io itself. On a pod template or on another kind they have no effect.",
    remedy: "Put it into the metadata.annotations of such a workload.",
    link: LINK,
    test: Test::Workload(place),
    cel: Cel::Finds {
        on: On::Workloads,
        part: Part::Both,
        found: "variables.keys.filter(k, k in variables.podAnnotations).map(k, k + ' in the pod template') + \
                variables.keys.filter(k, !object.apiVersion.startsWith('apps.kruise.io/') && k in variables.annotations)",
    },
};

fn place(_: &World<'_>, workload: &Workload<'_>) -> Vec<Hit> {
    let mut found = Vec::new();
    for key in KEYS {
        let template = format!("{}{}", workload.prefix, pointer(key));
        let inside = workload
            .object
            .pointer(&template)
            .filter(|_| !workload.prefix.is_empty());
        if let Some(value) = inside {
            let hit = Hit::new(template.clone(), format!("{key} stands in the pod template"));
            let mut fix = vec![patch::remove(&template)];
            if workload.is_ours() && annotation(workload.object, key).is_none() {
                fix.push(patch::set(workload.object, &pointer(key), value.clone()));
            }
            found.push(hit.with_fix(fix));
        }
        if !workload.is_ours() && annotation(workload.object, key).is_some() {
            let message = format!("{key} has no effect on a {}", workload.kind);
            found.push(Hit::new(pointer(key), message).with_fix(vec![patch::remove(&pointer(key))]));
        }
    }
    found
}
