//! Which volume a claim gets, if there is one. Pure.

use std::sync::Arc;

use crate::objects::selector::Labels;
use crate::objects::{Claim, Volume};

/// Why a volume will not do for a claim, in the words of Kubernetes' own controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Mismatch {
    #[error("the volume is being deleted")]
    IsLeaving,
    #[error("requested PV is too small")]
    TooSmall,
    #[error("storageClassName does not match")]
    Class,
    #[error("incompatible volumeMode")]
    VolumeMode,
    #[error("incompatible accessMode")]
    AccessMode,
}

/// Why the volume will not do for the claim; none if it does.
pub(crate) fn mismatch(claim: &Claim, volume: &Volume) -> Option<Mismatch> {
    if volume.metadata.deletion_timestamp.is_some() {
        return Some(Mismatch::IsLeaving);
    }
    if volume.bytes() < claim.bytes() {
        return Some(Mismatch::TooSmall);
    }
    if volume.spec.storage_class_name != claim.class() {
        return Some(Mismatch::Class);
    }
    let mode = |mode: &Option<String>| mode.clone().unwrap_or_else(|| "Filesystem".to_owned());
    if mode(&claim.spec.volume_mode) != mode(&volume.spec.volume_mode) {
        return Some(Mismatch::VolumeMode);
    }
    let modes = &claim.spec.access_modes;
    let all = modes.iter().all(|mode| volume.spec.access_modes.contains(mode));
    (!all).then_some(Mismatch::AccessMode)
}

/// The volumes that would do and that nobody has, the smallest first; one that is reserved for the claim before all.
pub(crate) fn candidates(claim: &Claim, volumes: &[Arc<Volume>]) -> Vec<Arc<Volume>> {
    if let Some(reserved) = volumes.iter().find(|volume| volume.is_for(claim)) {
        let fits = mismatch(claim, reserved).is_none();
        return fits.then(|| reserved.clone()).into_iter().collect();
    }
    let selector = claim.spec.selector.as_ref().map(Labels::parse);
    let selected = |volume: &Volume| match &selector {
        None => true,
        Some(Ok(labels)) => labels.matches(volume.metadata.labels.as_ref()),
        Some(Err(_)) => false,
    };
    let free = |volume: &&Arc<Volume>| volume.spec.claim_ref.is_none() && volume.status.phase == "Available";
    let mut found: Vec<_> = volumes
        .iter()
        .filter(free)
        .filter(|volume| selected(volume) && mismatch(claim, volume).is_none())
        .cloned()
        .collect();
    found.sort_by_key(|volume| (volume.bytes(), volume.name().to_owned()));
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn claim(spec: Value) -> Claim {
        serde_json::from_value(json!({"metadata": {"namespace": "d", "name": "c", "uid": "u"}, "spec": spec})).unwrap()
    }

    fn volume(name: &str, size: &str, spec: Value) -> Arc<Volume> {
        let mut object = json!({"metadata": {"name": name, "labels": {"disk": name}},
            "spec": {"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"]}, "status": {"phase": "Available"}});
        for (key, value) in spec.as_object().unwrap() {
            object["spec"][key] = value.clone();
        }
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn names(claim: &Claim, volumes: &[Arc<Volume>]) -> Vec<String> {
        candidates(claim, volumes).iter().map(|v| v.name().to_owned()).collect()
    }

    #[test]
    fn the_smallest_that_does_comes_first() {
        let wants = |more: Value| {
            let mut spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "5Gi"}}});
            for (key, value) in more.as_object().unwrap() {
                spec[key] = value.clone();
            }
            claim(spec)
        };
        let volumes = [
            volume("large", "50Gi", json!({})),
            volume("small", "1Gi", json!({})),
            volume("right", "5Gi", json!({})),
            volume("taken", "5Gi", json!({"claimRef": {"namespace": "d", "name": "other"}})),
            volume("classy", "5Gi", json!({"storageClassName": "fast"})),
            volume("block", "5Gi", json!({"volumeMode": "Block"})),
            volume("reader", "5Gi", json!({"accessModes": ["ReadOnlyMany"]})),
        ];
        assert_eq!(names(&wants(json!({})), &volumes), ["right", "large"]);
        assert_eq!(names(&wants(json!({"storageClassName": "fast"})), &volumes), ["classy"]);
        let selector = json!({"matchLabels": {"disk": "large"}});
        assert_eq!(names(&wants(json!({"selector": selector})), &volumes), ["large"]);
        assert!(names(&wants(json!({"accessModes": ["ReadWriteMany"]})), &volumes).is_empty());
    }

    #[test]
    fn a_reserved_one_comes_before_all_and_alone() {
        let wants = claim(json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": 5}}}));
        let reserved = |size: &str| volume("mine", size, json!({"claimRef": {"namespace": "d", "name": "c"}}));
        assert_eq!(names(&wants, &[volume("a", "5", json!({})), reserved("9")]), ["mine"]);
        assert!(names(&wants, &[volume("a", "5", json!({})), reserved("1")]).is_empty());
    }
}
