//! Volumes of pods, claims and persistent volumes: defaults.

use serde_json::{Map, Value, json};

use crate::json::{each, each_in, set, set_number, set_status, set_text};

/// File mode 0644, which Kubernetes shows in decimal.
const DEFAULT_MODE: i64 = 0o644;

/// Defaults of one volume of a pod.
pub(crate) fn default_volume(volume: &mut Map<String, Value>) {
    let has_source = volume.iter().any(|(key, value)| key != "name" && !value.is_null());
    if !has_source {
        volume.insert("emptyDir".into(), json!({}));
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        each(volume, source, |source| {
            set(Some(source), "defaultMode", || json!(DEFAULT_MODE));
            each(source, "items", downward_item);
            each(source, "sources", |source| {
                each(source, "downwardAPI", |api| each(api, "items", downward_item));
                each(source, "serviceAccountToken", |token| {
                    set_number(token, "expirationSeconds", 3600);
                });
            });
        });
    }
    each(volume, "hostPath", |path| set(Some(path), "type", || json!("")));
    each(volume, "ephemeral", |e| {
        each(e, "volumeClaimTemplate", |template| each(template, "spec", claim_spec));
    });
}

fn downward_item(item: &mut Map<String, Value>) {
    each(item, "fieldRef", |field| set_text(field, "apiVersion", "v1"));
}

/// Defaults of a PersistentVolumeClaim's spec.
pub(crate) fn claim_spec(spec: &mut Map<String, Value>) {
    set_text(spec, "volumeMode", "Filesystem");
}

/// Defaults of a PersistentVolumeClaim.
pub(crate) fn default_claim(claim: &mut Value) {
    each_in(Some(claim), "spec", claim_spec);
}

/// The first status of a PersistentVolumeClaim or PersistentVolume.
pub(crate) fn begin(object: &mut Value) {
    set_status(object, json!({"phase": "Pending"}));
}

/// Defaults of a PersistentVolume.
pub(crate) fn default_persistent_volume(volume: &mut Value) {
    each_in(Some(volume), "spec", |spec| {
        claim_spec(spec);
        set_text(spec, "persistentVolumeReclaimPolicy", "Retain");
    });
}
