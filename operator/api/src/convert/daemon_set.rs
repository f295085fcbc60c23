//! The Advanced DaemonSet. The fields are those of OpenKruise's main line (`apis/apps/v1alpha1/daemonset_conversion.go` there).
//!
//! Type Surging, which v1beta1 does not have, is another spelling of Standard with a maxSurge; OpenKruise's webhook rewrites it before it
//! is stored, and so does this.

use serde_json::{Value, json};

use super::fields::{Object, annotate, child, made, take_annotation, text};
use crate::daemonset::{STANDARD, SURGING};
use crate::names::PROGRESSIVE_CREATE;

pub(super) fn to_v1beta1(set: &mut Object) {
    rename_revision(set, "daemonSetHash", "updateRevision");
    let progressive = text(set, "annotations", PROGRESSIVE_CREATE) == Some("true");
    let Some(spec) = child(set, "spec") else { return };
    if let Some(rolling) = child(spec, "updateStrategy").and_then(|strategy| child(strategy, "rollingUpdate"))
        && rolling.get("rollingUpdateType").and_then(Value::as_str) == Some(SURGING)
    {
        rolling.insert("rollingUpdateType".into(), STANDARD.into());
        for (field, default) in [("maxSurge", 1), ("maxUnavailable", 0)] {
            let value = rolling.entry(field).or_insert(Value::Null);
            if value.is_null() {
                *value = json!(default);
            }
        }
    }
    // Where scaleStrategy is something else than an object the annotation keeps saying it.
    if progressive && let Some(scaling) = made(spec, "scaleStrategy") {
        scaling.insert("partitionedScaling".into(), true.into());
        take_annotation(set, PROGRESSIVE_CREATE);
    }
}

pub(super) fn to_v1alpha1(set: &mut Object) {
    rename_revision(set, "updateRevision", "daemonSetHash");
    let Some(spec) = child(set, "spec") else { return };
    let Some(scaling) = child(spec, "scaleStrategy") else {
        return;
    };
    let progressive = scaling.remove("partitionedScaling") == Some(json!(true));
    if scaling.is_empty() {
        spec.remove("scaleStrategy");
    }
    if progressive {
        annotate(set, PROGRESSIVE_CREATE, "true".into());
    }
}

fn rename_revision(set: &mut Object, from: &str, to: &str) {
    if let Some(status) = child(set, "status")
        && let Some(revision) = status.remove(from)
    {
        status.insert(to.into(), revision);
    }
}
