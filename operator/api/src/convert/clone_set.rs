//! CloneSet. The fields are those of OpenKruise's main line (`apis/apps/v1alpha1/cloneset_conversion.go` there).

use serde_json::{Value, json};

use super::fields::{Object, annotate, child, made, take_annotation, text};
use crate::names::{EXCLUDE_PREPARING_DELETE, POD_UPDATE_POLICY, PREDOWNLOAD};

/// What stands in `updateStrategy` itself in v1alpha1, and in its `rollingUpdate` in v1beta1.
const SETTINGS: [&str; 7] = [
    "partition",
    "maxUnavailable",
    "maxSurge",
    "paused",
    "priorityStrategy",
    "scatterStrategy",
    "inPlaceUpdateStrategy",
];

pub(super) fn to_v1beta1(set: &mut Object) {
    let excludes = text(set, "labels", EXCLUDE_PREPARING_DELETE) == Some("true");
    let kept_policy = text(set, "annotations", POD_UPDATE_POLICY).map(str::to_owned);
    let downloads = downloads(set);
    let Some(spec) = child(set, "spec") else { return };
    if let Some(scaling) = made(spec, "scaleStrategy") {
        // Written out even where it is the default: that of v1beta1 is the other one.
        let disabled = scaling.remove("disablePVCReuse").unwrap_or_default();
        scaling.insert("enablePVCReuse".into(), (disabled != json!(true)).into());
        if excludes {
            scaling.insert("excludePreparingDelete".into(), true.into());
        }
    }
    let Some(strategy) = made(spec, "updateStrategy") else {
        return;
    };
    let mut rolling = Object::new();
    for setting in SETTINGS {
        if let Some(value) = strategy.remove(setting) {
            rolling.insert(setting.into(), value);
        }
    }
    let kind = match strategy.get("type").and_then(Value::as_str) {
        Some("OnDelete") => {
            if let Some(policy) = kept_policy.as_ref() {
                rolling.insert("podUpdatePolicy".into(), policy.as_str().into());
            }
            "OnDelete"
        }
        Some(policy @ ("InPlaceIfPossible" | "InPlaceOnly")) => {
            rolling.insert("podUpdatePolicy".into(), policy.into());
            "RollingUpdate"
        }
        _ => {
            rolling.insert("podUpdatePolicy".into(), "ReCreate".into());
            "RollingUpdate"
        }
    };
    strategy.insert("type".into(), kind.into());
    if !downloads.is_empty()
        && let Some(in_place) = made(&mut rolling, "inPlaceUpdateStrategy")
    {
        let fields = downloads
            .iter()
            .map(|(_, field, value)| ((*field).to_owned(), value.clone()));
        in_place.extend(fields);
    }
    if !rolling.is_empty() {
        strategy.insert("rollingUpdate".into(), rolling.into());
    }
    for (annotation, _, _) in downloads {
        take_annotation(set, annotation);
    }
    if kept_policy.is_some() {
        take_annotation(set, POD_UPDATE_POLICY);
    }
}

pub(super) fn to_v1alpha1(set: &mut Object) {
    let excludes = text(set, "labels", EXCLUDE_PREPARING_DELETE) == Some("true");
    let Some(spec) = child(set, "spec") else { return };
    if let Some(scaling) = made(spec, "scaleStrategy") {
        let enabled = scaling.remove("enablePVCReuse").unwrap_or_default();
        if enabled != json!(true) {
            scaling.insert("disablePVCReuse".into(), true.into());
        }
        // The label says it, and whoever takes the label away means it.
        if excludes {
            scaling.remove("excludePreparingDelete");
        }
    }
    let Some(strategy) = made(spec, "updateStrategy") else {
        return;
    };
    let mut rolling = match strategy.remove("rollingUpdate") {
        Some(Value::Object(rolling)) => rolling,
        _ => Object::new(),
    };
    for setting in SETTINGS {
        if let Some(value) = rolling.remove(setting) {
            strategy.insert(setting.into(), value);
        }
    }
    let policy = match rolling.get("podUpdatePolicy").and_then(Value::as_str) {
        Some(policy @ ("InPlaceIfPossible" | "InPlaceOnly")) => policy.to_owned(),
        _ => "ReCreate".to_owned(),
    };
    let on_delete = strategy.get("type").and_then(Value::as_str) == Some("OnDelete");
    let kind = if on_delete { "OnDelete" } else { &policy };
    strategy.insert("type".into(), kind.into());
    let mut annotations = Vec::new();
    if let Some(in_place) = child(strategy, "inPlaceUpdateStrategy") {
        for (annotation, field) in PREDOWNLOAD {
            match in_place.remove(field) {
                None | Some(Value::Null) => {}
                Some(Value::String(text)) => annotations.push((annotation, text)),
                Some(value) => annotations.push((annotation, value.to_string())),
            }
        }
    }
    // OnDelete has no word for it left, and OpenKruise forgets it.
    if on_delete && policy != "ReCreate" {
        annotations.push((POD_UPDATE_POLICY, policy));
    }
    for (annotation, value) in annotations {
        annotate(set, annotation, value);
    }
}

/// What annotations say about the download of images beforehand: annotation, field and value. Who writes something that cannot be
/// read keeps it.
fn downloads(set: &Object) -> Vec<(&'static str, &'static str, Value)> {
    let read = |(annotation, field): (&'static str, &'static str)| {
        let text = text(set, "annotations", annotation).filter(|text| !text.is_empty())?;
        // "+5" or "05" would come back as "5".
        let number = text.parse::<i32>().ok().filter(|number| number.to_string() == text);
        // The first may be a percentage.
        let percentage = || (annotation == PREDOWNLOAD[0].0 && text.parse::<i32>().is_err()).then(|| text.into());
        let value = number.map(Value::from).or_else(percentage)?;
        Some((annotation, field, value))
    };
    PREDOWNLOAD.into_iter().filter_map(read).collect()
}
