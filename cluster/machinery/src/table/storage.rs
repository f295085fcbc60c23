//! Claims, volumes and their classes.

use serde_json::Value;

use super::age::since_creation;
use super::read::list;
use crate::json::text;

/// `RWO,ROX`, as kubectl shortens access modes.
fn access_modes(modes: Option<&Value>) -> String {
    let short = |mode: &str| match mode {
        "ReadWriteOnce" => "RWO",
        "ReadOnlyMany" => "ROX",
        "ReadWriteMany" => "RWX",
        "ReadWriteOncePod" => "RWOP",
        _ => "",
    };
    list(modes)
        .iter()
        .map(|m| short(text(Some(m))))
        .filter(|m| !m.is_empty())
        .collect::<Vec<_>>()
        .join(",")
}

/// `metadata.deletionTimestamp` comes before the phase.
fn phase(object: &Value) -> Value {
    let leaving = object.pointer("/metadata/deletionTimestamp").is_some();
    let phase = text(object.pointer("/status/phase"));
    if leaving { "Terminating" } else { phase }.into()
}

/// Clusters without such classes show that there is none.
fn attributes_class(object: &Value) -> Value {
    let name = text(object.pointer("/spec/volumeAttributesClassName"));
    if name.is_empty() { "<unset>" } else { name }.into()
}

pub(crate) fn claim(claim: &Value, now: &str) -> Vec<Value> {
    let volume = text(claim.pointer("/spec/volumeName"));
    let bound = |cell: String| Value::from(if volume.is_empty() { String::new() } else { cell });
    vec![
        phase(claim),
        volume.into(),
        bound(text(claim.pointer("/status/capacity/storage")).to_owned()),
        bound(access_modes(claim.pointer("/status/accessModes"))),
        text(claim.pointer("/spec/storageClassName")).into(),
        attributes_class(claim),
        since_creation(claim, now).into(),
        text(claim.pointer("/spec/volumeMode")).into(),
    ]
}

pub(crate) fn volume(volume: &Value, now: &str) -> Vec<Value> {
    let claim = volume.pointer("/spec/claimRef").map_or_else(String::new, |claim| {
        format!("{}/{}", text(claim.get("namespace")), text(claim.get("name")))
    });
    vec![
        text(volume.pointer("/spec/capacity/storage")).into(),
        access_modes(volume.pointer("/spec/accessModes")).into(),
        text(volume.pointer("/spec/persistentVolumeReclaimPolicy")).into(),
        phase(volume),
        claim.into(),
        text(volume.pointer("/spec/storageClassName")).into(),
        attributes_class(volume),
        text(volume.pointer("/status/reason")).into(),
        since_creation(volume, now).into(),
        text(volume.pointer("/spec/volumeMode")).into(),
    ]
}

pub(crate) fn class(class: &Value, now: &str) -> Vec<Value> {
    let mut name = text(class.pointer("/metadata/name")).to_owned();
    let default = class.pointer("/metadata/annotations/storageclass.kubernetes.io~1is-default-class");
    if text(default) == "true" {
        name.push_str(" (default)");
    }
    let top = |key: &str| Value::from(text(class.get(key)));
    let grows = class.get("allowVolumeExpansion") == Some(&Value::Bool(true));
    vec![
        name.into(),
        top("provisioner"),
        top("reclaimPolicy"),
        top("volumeBindingMode"),
        grows.to_string().into(),
        since_creation(class, now).into(),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_default_class_says_so() {
        let object = json!({"metadata": {"name": "standard", "creationTimestamp": "2026-01-01T00:00:00Z",
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
            "provisioner": "afloat.dev/local", "reclaimPolicy": "Delete", "volumeBindingMode": "WaitForFirstConsumer"});
        let cells = class(&object, "2026-01-01T00:00:05Z");
        let expected = [
            "standard (default)",
            "afloat.dev/local",
            "Delete",
            "WaitForFirstConsumer",
            "false",
            "5s",
        ];
        assert_eq!(cells, expected);
    }

    #[test]
    fn an_unbound_claim_shows_no_capacity() {
        let object = json!({"metadata": {"name": "c", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"storageClassName": "standard"}, "status": {"phase": "Pending"}});
        let cells = claim(&object, "2026-01-01T00:00:05Z");
        assert_eq!(cells[..6], ["Pending", "", "", "", "standard", "<unset>"]);
    }
}
