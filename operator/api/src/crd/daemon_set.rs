//! The schema of Advanced DaemonSets, one for each version, with the defaults that OpenKruise's mutating webhook writes. Two that go by
//! several fields a schema cannot say, and the controller assumes them: maxUnavailable is 1 where `rollingUpdate` states neither it nor
//! maxSurge, and Surging has a maxSurge of 1. That webhook leaves templates of DaemonSets as they are, and so do we.

use serde_json::{Value, json};

use super::serving::{Serving, Version};
use super::workload::{age, condition, hook, number, selector, selector_matches_template, wide};
use crate::daemonset::{IN_PLACE, STANDARD, SURGING};
use crate::schema::{
    boolean, int_or_percent, int32, int64, integer, label_selector, list, object, one_of, or, pod_template, string,
};

/// What `kubectl get` shows.
pub(super) fn columns() -> Value {
    json!([
        number("DESIRED", ".status.desiredNumberScheduled"),
        number("CURRENT", ".status.currentNumberScheduled"),
        number("READY", ".status.numberReady"),
        number("UP-TO-DATE", ".status.updatedNumberScheduled"),
        number("AVAILABLE", ".status.numberAvailable"),
        age(),
        wide("CONTAINERS", ".spec.template.spec.containers[*].name"),
        wide("IMAGES", ".spec.template.spec.containers[*].image"),
    ])
}

/// `spec` of a version.
pub(super) fn spec(version: Version, _: &Serving) -> Value {
    let mut lifecycle = object(
        json!({"preDelete": hook(), "inPlaceUpdate": hook(), "preNormal": hook()}),
        &[],
    );
    lifecycle["x-kubernetes-validations"] = json!([{
        "rule": "!has(self.inPlaceUpdate)", "message": "inPlaceUpdate hook has not supported yet",
    }]);
    let mut fields = json!({
        "selector": selector(),
        "template": template(),
        "updateStrategy": update_strategy(version),
        "minReadySeconds": int32(Some(0)),
        "burstReplicas": or(int_or_percent(), json!(250)),
        "revisionHistoryLimit": or(int32(Some(0)), json!(10)),
        "lifecycle": lifecycle,
    });
    if version == Version::V1beta1 {
        fields["scaleStrategy"] = object(json!({"partitionedScaling": boolean()}), &[]);
    }
    let mut spec = object(fields, &["selector", "template"]);
    spec["x-kubernetes-validations"] = selector_matches_template();
    spec
}

fn template() -> Value {
    let mut template = pod_template(false);
    let spec = &mut template["properties"]["spec"];
    spec["properties"]["activeDeadlineSeconds"] = integer();
    spec["x-kubernetes-validations"] = json!([{
        "rule": "!has(self.activeDeadlineSeconds)", "message": "activeDeadlineSeconds in DaemonSet is not Supported",
    }]);
    template
}

/// A number, or a percentage of the nodes.
fn nodes() -> Value {
    let mut schema = int_or_percent();
    schema["pattern"] = json!("^(100|[0-9]{1,2})%$");
    schema
}

fn update_strategy(version: Version) -> Value {
    let mut types = vec![STANDARD, IN_PLACE, ""];
    if version == Version::V1alpha1 {
        types.push(SURGING);
    }
    let rolling = object(
        json!({
            "rollingUpdateType": or(one_of(&types), json!(STANDARD)),
            "maxUnavailable": nodes(),
            "maxSurge": nodes(),
            "selector": label_selector(),
            "partition": nodes(),
            "paused": boolean(),
        }),
        &[],
    );
    let default = json!({"rollingUpdateType": STANDARD, "maxUnavailable": 1, "maxSurge": 0});
    let kind = or(one_of(&["RollingUpdate", "OnDelete", ""]), json!("RollingUpdate"));
    let mut strategy = object(json!({"type": kind, "rollingUpdate": or(rolling, default)}), &[]);
    strategy["x-kubernetes-validations"] = rules(version);
    or(strategy, json!({}))
}

/// What OpenKruise's webhook refuses, in its words.
fn rules(version: Version) -> Value {
    let given = |field: &str| format!("has(self.rollingUpdate.{field})");
    let some = |field: &str| {
        format!(
            "{} && !(string(self.rollingUpdate.{field}) in ['0', '0%'])",
            given(field)
        )
    };
    let is = |kind: &str| {
        format!("has(self.rollingUpdate.rollingUpdateType) && self.rollingUpdate.rollingUpdateType == '{kind}'")
    };
    let (unavailable, surge) = (some("maxUnavailable"), some("maxSurge"));
    let neither = format!("!{} && !{}", given("maxUnavailable"), given("maxSurge"));
    let old = match version {
        Version::V1alpha1 => format!("({} && !{}) || ", is(SURGING), given("maxSurge")),
        Version::V1beta1 => String::new(),
    };
    let mut rules = vec![
        (
            format!("!({unavailable} && {surge})"),
            "rollingUpdate.maxSurge: may not be set when maxUnavailable is non-zero",
        ),
        (
            format!("{old}({neither}) || ({unavailable}) || ({surge})"),
            "rollingUpdate.maxUnavailable: cannot be 0 when maxSurge is 0",
        ),
        (
            format!("!({} && {surge})", is(IN_PLACE)),
            "rollingUpdate.maxSurge: must be 0 for InPlaceIfPossible type",
        ),
    ];
    if version == Version::V1alpha1 {
        rules.push((
            format!("!({} && {unavailable})", is(SURGING)),
            "rollingUpdate.maxUnavailable: must be 0 for Surging type",
        ));
    }
    let rule = |(rule, message): (String, &str)| {
        json!({
            "rule": format!("self.type == 'OnDelete' || !has(self.rollingUpdate) || ({rule})"),
            "message": format!("spec.updateStrategy.{message}"),
        })
    };
    rules.into_iter().map(rule).collect()
}

/// `status` of a version: two words for one thing.
pub(super) fn status(version: Version) -> Value {
    let mut fields = json!({
        "currentNumberScheduled": int32(None),
        "numberMisscheduled": int32(None),
        "desiredNumberScheduled": int32(None),
        "numberReady": int32(None),
        "observedGeneration": int64(),
        "updatedNumberScheduled": int32(None),
        "numberAvailable": int32(None),
        "numberUnavailable": int32(None),
        "collisionCount": int32(None),
        "conditions": list(condition()),
    });
    let revision = match version {
        Version::V1alpha1 => "daemonSetHash",
        Version::V1beta1 => "updateRevision",
    };
    fields[revision] = string();
    object(
        fields,
        &[
            "currentNumberScheduled",
            "numberMisscheduled",
            "desiredNumberScheduled",
            "numberReady",
            "updatedNumberScheduled",
        ],
    )
}
