//! What to do about one volume. Pure.

use serde_json::{Value, json};

use crate::loops::events::Tone;
use crate::objects::storage::{BOUND_BY_CONTROLLER, VOLUME_PROTECTION};
use crate::objects::{Claim, Volume, annotation};

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// Merge patch of the volume.
    Patch(Value),
    /// Merge patch of its status.
    PatchStatus(Value),
    /// Its claim is gone (to be asked for once more before it counts): nobody may use it any more.
    Release,
    /// Delete the contents, then the object.
    Reclaim,
    /// Tell users.
    Tell(Tone, &'static str, String),
}

/// Decides. `claim`: the one that the volume names, if it exists and is the same.
pub(crate) fn plan(volume: &Volume, claim: Option<&Claim>) -> Vec<Action> {
    let phase = volume.status.phase.as_str();
    let leaving = volume.metadata.deletion_timestamp.is_some();
    let reference = volume.spec.claim_ref.as_ref();
    let Some(reference) = reference.filter(|reference| !reference.uid.is_empty()) else {
        return if leaving {
            unprotect(volume)
        } else {
            become_phase(volume, "Available")
        };
    };
    match claim {
        None if !matches!(phase, "Released" | "Failed") => vec![Action::Release],
        None => reclaim(volume, leaving),
        // The claim's side of the binding is still to come.
        Some(claim) if claim.spec.volume_name.is_empty() => vec![],
        Some(claim) if claim.spec.volume_name == volume.name() => become_phase(volume, "Bound"),
        // It got another one.
        Some(_) if volume.is_ours() && volume.spec.persistent_volume_reclaim_policy == "Delete" => {
            if phase == "Released" {
                reclaim(volume, leaving)
            } else {
                become_phase(volume, "Released")
            }
        }
        Some(_) if annotation(&volume.metadata, BOUND_BY_CONTROLLER).is_some() => {
            vec![Action::Patch(
                json!({"metadata": {"annotations": {BOUND_BY_CONTROLLER: null}}, "spec": {"claimRef": null}}),
            )]
        }
        Some(_) => {
            let kept =
                json!({"namespace": reference.namespace, "name": reference.name, "uid": null, "resourceVersion": null});
            vec![Action::Patch(json!({"spec": {"claimRef": kept}}))]
        }
    }
}

fn become_phase(volume: &Volume, phase: &str) -> Vec<Action> {
    if volume.status.phase == phase {
        return vec![];
    }
    vec![Action::PatchStatus(
        json!({"status": {"phase": phase, "message": null, "reason": null}}),
    )]
}

fn reclaim(volume: &Volume, leaving: bool) -> Vec<Action> {
    match volume.spec.persistent_volume_reclaim_policy.as_str() {
        "Delete" if volume.is_ours() => vec![Action::Reclaim],
        _ if leaving => unprotect(volume),
        // Whoever made it deletes it.
        "Delete" if annotation(&volume.metadata, crate::objects::storage::PROVISIONED_BY).is_some() => vec![],
        "Delete" => {
            let why = "error getting deleter volume plugin for volume";
            fail(
                volume,
                "VolumeFailedDelete",
                &format!("{why} \"{}\": no deletable volume plugin matched", volume.name()),
            )
        }
        "Recycle" => fail(
            volume,
            "VolumeFailedRecycle",
            "no volume plugin for recycling: use Retain or Delete",
        ),
        _ => vec![],
    }
}

fn fail(volume: &Volume, reason: &'static str, message: &str) -> Vec<Action> {
    if volume.status.phase == "Failed" {
        return vec![];
    }
    vec![
        Action::Tell(Tone::Warning, reason, message.to_owned()),
        Action::PatchStatus(json!({"status": {"phase": "Failed", "message": message}})),
    ]
}

/// The volume's finalizers without the protection that it does not need any more; none if it has none.
pub(crate) fn unprotected(volume: &Volume) -> Option<Value> {
    let all = volume.metadata.finalizers.as_deref().unwrap_or_default();
    let left: Vec<&String> = all.iter().filter(|name| *name != VOLUME_PROTECTION).collect();
    (left.len() < all.len()).then(|| json!({"metadata": {"finalizers": left}}))
}

fn unprotect(volume: &Volume) -> Vec<Action> {
    unprotected(volume).map(Action::Patch).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(policy: &str, phase: &str, change: impl FnOnce(&mut Value)) -> Volume {
        let mut object = json!({"metadata": {"name": "v", "finalizers": [VOLUME_PROTECTION]},
            "spec": {"claimRef": {"namespace": "d", "name": "c", "uid": "u"}, "persistentVolumeReclaimPolicy": policy},
            "status": {"phase": phase}});
        change(&mut object);
        serde_json::from_value(object).unwrap()
    }

    fn ours(object: &mut Value) {
        object["metadata"]["annotations"] = json!({"pv.kubernetes.io/provisioned-by": "afloat.dev/local"});
    }

    fn claim(volume: &str) -> Claim {
        serde_json::from_value(json!({"metadata": {"uid": "u"}, "spec": {"volumeName": volume}})).unwrap()
    }

    fn phase(actions: &[Action]) -> Option<&str> {
        match actions {
            [.., Action::PatchStatus(patch)] => patch["status"]["phase"].as_str(),
            _ => None,
        }
    }

    #[test]
    fn phases_follow_the_claim() {
        let free = volume("Retain", "Pending", |v| v["spec"]["claimRef"] = Value::Null);
        assert_eq!(phase(&plan(&free, None)), Some("Available"));
        assert_eq!(
            phase(&plan(&volume("Retain", "Available", |_| {}), Some(&claim("v")))),
            Some("Bound")
        );
        assert!(plan(&volume("Retain", "Available", |_| {}), Some(&claim(""))).is_empty());
        assert!(plan(&volume("Retain", "Bound", |_| {}), Some(&claim("v"))).is_empty());
        assert_eq!(plan(&volume("Retain", "Bound", |_| {}), None), [Action::Release]);
    }

    #[test]
    fn contents_go_only_where_the_policy_and_the_maker_say_so() {
        assert_eq!(plan(&volume("Delete", "Released", ours), None), [Action::Reclaim]);
        assert!(plan(&volume("Retain", "Released", ours), None).is_empty());
        assert_eq!(
            phase(&plan(&volume("Delete", "Released", |_| {}), None)),
            Some("Failed")
        );
        assert!(plan(&volume("Delete", "Failed", |_| {}), None).is_empty());
    }

    #[test]
    fn a_deleted_volume_waits_for_its_claim() {
        let leaving = |policy: &str, phase: &str| {
            volume(policy, phase, |v| {
                v["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            })
        };
        assert!(plan(&leaving("Retain", "Bound"), Some(&claim("v"))).is_empty());
        assert_eq!(
            plan(&leaving("Retain", "Released"), None),
            [Action::Patch(json!({"metadata": {"finalizers": []}}))]
        );
    }

    #[test]
    fn a_claim_that_got_another_one_gives_it_back() {
        let by_controller = volume("Retain", "Bound", |v| {
            v["metadata"]["annotations"] = json!({BOUND_BY_CONTROLLER: "yes"});
        });
        let Action::Patch(patch) = &plan(&by_controller, Some(&claim("w")))[0] else {
            panic!("a patch")
        };
        assert_eq!(patch["spec"]["claimRef"], Value::Null);
        let Action::Patch(patch) = &plan(&volume("Retain", "Bound", |_| {}), Some(&claim("w")))[0] else {
            panic!("a patch")
        };
        assert_eq!(patch["spec"]["claimRef"]["name"], "c");
    }
}
