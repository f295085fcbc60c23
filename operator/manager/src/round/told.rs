//! What events say of an action: reasons and texts are OpenKruise's, because dashboards and alerts read them.

use std::borrow::Cow;

use afloat_api::{InPlaceUpdateState, names};
use afloat_rollout::action::patch::PodPatch;
use afloat_rollout::action::{Action, Why};

/// An event that is to be written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// `Normal` or `Warning`.
    pub(crate) kind: &'static str,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

pub(crate) fn normal(reason: &'static str, message: String) -> Told {
    Told {
        kind: "Normal",
        reason,
        message,
    }
}

pub(crate) fn warning(reason: &'static str, message: String) -> Told {
    Told {
        kind: "Warning",
        reason,
        message,
    }
}

/// The events that tell of an action that was carried out. `revision`: name of the revision that pods are updated to.
pub(crate) fn done(action: &Action, revision: &str) -> Vec<Told> {
    match action {
        Action::CreatePod { pod } => vec![normal(
            "SuccessfulCreate",
            format!("succeed to create pod {}", pod.name),
        )],
        Action::DeletePod { at, why, .. } => {
            let mut all = Vec::new();
            // OpenKruise marks the pod first and deletes what is marked: two events.
            if *why == Why::ReCreate {
                all.push(normal(
                    "SuccessfulUpdatePodReCreate",
                    format!(
                        "successfully patch pod {} specified-delete for update(revision {revision})",
                        at.name
                    ),
                ));
            }
            all.push(normal("SuccessfulDelete", format!("succeed to delete pod {}", at.name)));
            all
        }
        Action::PatchPod {
            at,
            patch,
            why: Why::Update,
        } => vec![normal(
            "SuccessfulUpdatePodInPlace",
            format!(
                "successfully update pod {} in-place(revision {})",
                at.name,
                target(patch, revision)
            ),
        )],
        _ => Vec::new(),
    }
}

/// The event that tells of an action that the API server refused, if any.
pub(crate) fn refused(action: &Action, revision: &str, error: &str) -> Option<Told> {
    Some(match action {
        // Without the whole object, which is many kilobytes: its name is enough to find it.
        Action::CreatePod { pod } => warning(
            "FailedCreate",
            format!("failed to create pod: {error}, pod: {}", pod.name),
        ),
        Action::CreateClaim { body } => warning(
            "FailedCreate",
            format!("failed to create pvc: {error}, pvc: {}", name(body)),
        ),
        Action::DeletePod {
            at, why: Why::ReCreate, ..
        } => warning(
            "FailedUpdatePodReCreate",
            format!(
                "failed to patch pod specified-delete {} for update(revision {revision}): {error}",
                at.name
            ),
        ),
        Action::DeletePod { at, .. } => warning("FailedDelete", format!("failed to delete pod {}: {error}", at.name)),
        Action::DeleteClaim { at } => warning("FailedDelete", format!("failed to delete pvc {}: {error}", at.name)),
        Action::ResizePod { at, .. } => update_failed(&at.name, revision, error),
        Action::PatchPod {
            at,
            patch,
            why: Why::Update,
        } => update_failed(&at.name, &target(patch, revision), error),
        _ => return None,
    })
}

fn update_failed(pod: &str, revision: &str, error: &str) -> Told {
    warning(
        "FailedUpdatePodInPlace",
        format!("failed to update pod {pod} in-place(revision {revision}): {error}"),
    )
}

/// The revision that a patch updates to, by its whole name, which the pod's label may lack; it is another than the update
/// revision when a pod goes back.
fn target<'a>(patch: &PodPatch, revision: &'a str) -> Cow<'a, str> {
    let state = patch.annotations.get(names::INPLACE_STATE).cloned().flatten();
    let state = state.and_then(|text| serde_json::from_str::<InPlaceUpdateState>(&text).ok());
    state.map_or(Cow::Borrowed(revision), |state| Cow::Owned(state.revision))
}

fn name(body: &serde_json::Value) -> &str {
    body.pointer("/metadata/name")
        .and_then(serde_json::Value::as_str)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use afloat_rollout::action::At;

    fn at(name: &str) -> At {
        At {
            name: name.into(),
            uid: String::new(),
            resource_version: String::new(),
        }
    }

    fn delete(why: Why) -> Action {
        Action::DeletePod {
            at: at("web-a"),
            claims: Vec::new(),
            why,
        }
    }

    fn texts(told: Vec<Told>) -> Vec<(&'static str, String)> {
        told.into_iter().map(|told| (told.reason, told.message)).collect()
    }

    #[test]
    fn a_pod_that_is_recreated_is_told_of_twice_as_by_openkruise() {
        assert_eq!(
            texts(done(&delete(Why::ReCreate), "web-1")),
            [
                (
                    "SuccessfulUpdatePodReCreate",
                    "successfully patch pod web-a specified-delete for update(revision web-1)".to_owned()
                ),
                ("SuccessfulDelete", "succeed to delete pod web-a".to_owned()),
            ]
        );
        assert_eq!(texts(done(&delete(Why::ScaleDown), "web-1")).len(), 1);
    }

    #[test]
    fn a_refused_creation_says_why_before_it_says_what() {
        let create = Action::CreatePod {
            pod: afloat_rollout::action::NewPod {
                name: "web-a".into(),
                labels: Vec::new(),
                common: std::sync::Arc::default(),
                own: Default::default(),
            },
        };
        let told = refused(&create, "web-1", "exceeded quota").expect("an event");
        assert_eq!(
            (told.kind, told.reason, told.message.as_str()),
            (
                "Warning",
                "FailedCreate",
                "failed to create pod: exceeded quota, pod: web-a"
            )
        );
    }
}
