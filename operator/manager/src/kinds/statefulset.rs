//! StatefulSet: its claims are found by their names, as they belong to nobody unless somebody asked for that; and its events have words of
//! their own, which are those of Kubernetes' StatefulSets.

use afloat_api::StatefulSet;
use afloat_rollout::action::{Action, Why};
use serde_json::Value;

use crate::kept::{Group, numbered};
use crate::kind::Kind;
use crate::round::told::{self, Told, normal, warning};

impl Kind for StatefulSet {
    const COMPONENT: &'static str = "statefulset-controller";

    fn claims(&self) -> Vec<Group> {
        let (namespace, name) = (self.metadata.namespace.as_deref(), self.metadata.name.as_deref());
        let templates = self.spec.volume_claim_templates.iter().flatten();
        let stem = |template: &Value| {
            let template = template.pointer("/metadata/name")?.as_str()?;
            let stem = format!("{template}-{}", name.unwrap_or_default());
            Some(numbered(namespace.unwrap_or_default(), &stem))
        };
        templates.filter_map(stem).collect()
    }

    fn done(&self, action: &Action, revision: &str) -> Vec<Told> {
        let Some(said) = Said::of(action) else {
            return told::done(action, revision);
        };
        let set = self.metadata.name.as_deref().unwrap_or_default();
        let what = said.what(set, "");
        let end = if said.claim.is_some() { "success" } else { "successful" };
        vec![normal(
            said.reasons.0,
            format!("{} {what} in StatefulSet {set} {end}", said.verb),
        )]
    }

    fn refused(&self, action: &Action, revision: &str, error: &str) -> Option<Told> {
        let Some(said) = Said::of(action) else {
            return told::refused(action, revision, error);
        };
        let set = self.metadata.name.as_deref().unwrap_or_default();
        let what = said.what(set, "for ");
        let message = format!("{} {what} in StatefulSet {set} failed error: {error}", said.verb);
        Some(warning(said.reasons.1, message))
    }
}

/// An action in the words of an event.
struct Said<'a> {
    verb: &'static str,
    /// Of an event that tells of its success, and of its failure.
    reasons: (&'static str, &'static str),
    /// The pod; where it is about a claim, the claim says which.
    pod: &'a str,
    claim: Option<&'a str>,
}

impl<'a> Said<'a> {
    /// None: it is told of as with all kinds.
    fn of(action: &'a Action) -> Option<Self> {
        const CREATE: (&str, &str) = ("SuccessfulCreate", "FailedCreate");
        let (verb, reasons, pod, claim) = match action {
            Action::CreatePod { pod } => ("create", CREATE, pod.name.as_str(), None),
            Action::DeletePod { at, .. } => ("delete", ("SuccessfulDelete", "FailedDelete"), at.name.as_str(), None),
            Action::PatchPod {
                at, why: Why::Identity, ..
            } => ("update", ("SuccessfulUpdate", "FailedUpdate"), at.name.as_str(), None),
            Action::CreateClaim { body } => ("create", CREATE, "", body.pointer("/metadata/name")?.as_str()),
            Action::PatchClaim { at, patch } if patch.storage.is_some() => (
                "resize",
                ("SuccessfulResize", "FailedResize"),
                "",
                Some(at.name.as_str()),
            ),
            _ => return None,
        };
        Some(Self {
            verb,
            reasons,
            pod,
            claim,
        })
    }

    fn what(&self, set: &str, link: &str) -> String {
        let Some(claim) = self.claim else {
            return format!("Pod {}", self.pod);
        };
        let ordinal = claim.rsplit('-').next().unwrap_or_default();
        format!("Claim {claim} {link}Pod {set}-{ordinal}")
    }
}

#[cfg(test)]
mod tests {
    use afloat_rollout::action::At;
    use serde_json::json;

    use super::*;

    fn set() -> StatefulSet {
        let set = json!({"metadata": {"name": "web", "namespace": "n"}, "spec": {"volumeClaimTemplates": [
            {"metadata": {"name": "data"}}, {"metadata": {"name": "log"}}]}});
        serde_json::from_value(set).unwrap()
    }

    #[test]
    fn claims_are_looked_for_by_their_names() {
        assert_eq!(set().claims(), [numbered("n", "data-web"), numbered("n", "log-web")]);
    }

    #[test]
    fn events_are_those_of_statefulsets() {
        let delete = Action::DeletePod {
            at: At {
                name: "web-2".into(),
                uid: String::new(),
                resource_version: String::new(),
            },
            why: Why::ReCreate,
            claims: Vec::new(),
        };
        let claim = Action::CreateClaim {
            body: json!({"metadata": {"name": "data-web-2"}}),
        };
        let done = |action: &Action| {
            let told = set().done(action, "web-1").remove(0);
            (told.reason, told.message)
        };
        assert_eq!(
            done(&delete),
            (
                "SuccessfulDelete",
                "delete Pod web-2 in StatefulSet web successful".to_owned()
            )
        );
        assert_eq!(
            done(&claim),
            (
                "SuccessfulCreate",
                "create Claim data-web-2 Pod web-2 in StatefulSet web success".to_owned()
            )
        );
        let refused = set().refused(&claim, "web-1", "exceeded quota").expect("an event");
        assert_eq!((refused.kind, refused.reason), ("Warning", "FailedCreate"));
        assert_eq!(
            refused.message,
            "create Claim data-web-2 for Pod web-2 in StatefulSet web failed error: exceeded quota"
        );
    }
}
