//! What is to be done with a request for a certificate.

use std::time::Duration;

use afloat_certificates::{Facts, Request};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;

use super::rules::Signer;
use crate::objects::CertificateSigningRequest;

/// How long one that came to its end stays, and one that nobody decides on. Kubernetes' own figures.
const ENDED: i64 = 3600;
const PENDING: i64 = 24 * 3600;

/// What is next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing until then, unless somebody changes it.
    Wait(Option<Duration>),
    /// Its time is over.
    Remove,
    /// Approved if its author may do the first of these that is allowed: subresource, message.
    Ask(Vec<(&'static str, &'static str)>),
    /// Signed.
    Sign(Box<Request>),
    /// Never signed, for this reason.
    Fail(String),
}

/// Decides. `signs`: whether there is an authority.
pub(super) fn plan(object: &CertificateSigningRequest, signs: bool, now: Timestamp) -> Step {
    let deadline = deadline(object);
    if deadline.is_some_and(|deadline| deadline <= now.as_second()) || has_ended(object, now) {
        return Step::Remove;
    }
    let left = deadline.map(|deadline| deadline.saturating_sub(now.as_second()));
    let wait = Step::Wait(left.and_then(|left| u64::try_from(left).ok()).map(Duration::from_secs));
    let decided = |kind| object.condition(kind).is_some();
    if !object.status.certificate.is_empty() || decided("Denied") || decided("Failed") {
        return wait;
    }
    let Some(signer) = Signer::named(&object.spec.signer_name) else {
        return wait;
    };
    // The API server takes no others.
    let pem = STANDARD.decode(&object.spec.request).unwrap_or_default();
    let Ok(request) = Request::read(&pem) else {
        return wait;
    };
    let checked = signer.check(&request, &object.spec.usages);
    if decided("Approved") {
        return match checked {
            Err(why) => Step::Fail(why),
            Ok(()) if signs => Step::Sign(Box::new(request)),
            Ok(()) => wait,
        };
    }
    if signer != Signer::NodeClient || checked.is_err() {
        return wait;
    }
    let mut questions = Vec::new();
    if object.spec.username == request.common_name {
        let message = "Auto approving self kubelet client certificate after SubjectAccessReview.";
        questions.push(("selfnodeclient", message));
    }
    let message = "Auto approving kubelet client certificate after SubjectAccessReview.";
    questions.push(("nodeclient", message));
    Step::Ask(questions)
}

/// When it has to go, in seconds since 1970.
fn deadline(object: &CertificateSigningRequest) -> Option<i64> {
    let created = object
        .metadata
        .creation_timestamp
        .as_ref()
        .map(|time| time.0.as_second());
    if object.status.conditions.is_empty() {
        return created.map(|created| created + PENDING);
    }
    let updated = |condition: &Value| {
        let time: Timestamp = condition["lastUpdateTime"].as_str()?.parse().ok()?;
        Some(time.as_second() + ENDED)
    };
    let issued = object
        .condition("Approved")
        .filter(|_| !object.status.certificate.is_empty());
    let ended = [object.condition("Denied"), object.condition("Failed"), issued];
    ended.into_iter().flatten().filter_map(updated).min()
}

/// Whether its certificate is good no more.
fn has_ended(object: &CertificateSigningRequest, now: Timestamp) -> bool {
    let pem = STANDARD.decode(&object.status.certificate).ok();
    let facts = pem.and_then(|pem| Facts::read(&String::from_utf8_lossy(&pem)));
    object.condition("Approved").is_some() && facts.is_some_and(|facts| facts.days_left(now) < 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn now() -> Timestamp {
        "2026-01-10T12:00:00Z".parse().unwrap()
    }

    fn request(change: &Value) -> CertificateSigningRequest {
        let pem = STANDARD.encode(include_str!("node.csr"));
        let mut object = json!({
            "metadata": {"name": "a", "creationTimestamp": "2026-01-10T11:00:00Z"},
            "spec": {"request": pem, "signerName": "kubernetes.io/kube-apiserver-client-kubelet", "username": "bootstrap",
                "usages": ["digital signature", "client auth"]},
        });
        for part in ["spec", "status"] {
            for (key, value) in change[part].as_object().into_iter().flatten() {
                object[part][key] = value.clone();
            }
        }
        serde_json::from_value(object).unwrap()
    }

    fn condition(kind: &str, updated: &str) -> Value {
        json!({"type": kind, "status": "True", "lastUpdateTime": updated})
    }

    #[test]
    fn nodes_are_asked_about_and_others_wait() {
        let asks = |step: Step| match step {
            Step::Ask(questions) => questions.into_iter().map(|(subresource, _)| subresource).collect(),
            _ => vec![],
        };
        let ask = |change: Value| asks(plan(&request(&change), true, now()));
        assert_eq!(ask(json!({})), ["nodeclient"]);
        assert_eq!(
            ask(json!({"spec": {"username": "system:node:n1"}})),
            ["selfnodeclient", "nodeclient"]
        );
        let none: [&str; 0] = [];
        assert_eq!(ask(json!({"spec": {"usages": ["client auth"]}})), none);
        for signer in [
            "kubernetes.io/kube-apiserver-client",
            "kubernetes.io/kubelet-serving",
            "example.com/mine",
        ] {
            let waits = plan(&request(&json!({"spec": {"signerName": signer}})), true, now());
            assert_eq!(waits, Step::Wait(Some(Duration::from_secs(23 * 3600))), "{signer}");
        }
    }

    #[test]
    fn what_is_approved_is_signed_or_fails() {
        let approved = json!([condition("Approved", "2026-01-10T11:30:00Z")]);
        let step = |change: Value, signs| plan(&request(&change), signs, now());
        let good = json!({"status": {"conditions": approved}});
        assert!(matches!(step(good.clone(), true), Step::Sign(_)));
        assert_eq!(step(good, false), Step::Wait(None));
        let why = "missing required usage for client certificate: client auth";
        let bad = json!({"spec": {"signerName": "kubernetes.io/kube-apiserver-client", "usages": ["digital signature"]},
            "status": {"conditions": approved}});
        assert_eq!(step(bad, true), Step::Fail(why.into()));
        let others = json!({"spec": {"signerName": "example.com/mine"}, "status": {"conditions": approved}});
        assert_eq!(step(others, true), Step::Wait(None));
    }

    #[test]
    fn old_ones_go() {
        let step = |status: Value| plan(&request(&json!({"status": status})), true, now());
        let minutes = |minutes: u64| Step::Wait(Some(Duration::from_secs(60 * minutes)));
        for kind in ["Denied", "Failed"] {
            let late = json!({"conditions": [condition(kind, "2026-01-10T11:00:00Z")]});
            assert_eq!(step(late), Step::Remove, "{kind}");
            let fresh = json!({"conditions": [condition(kind, "2026-01-10T11:30:00Z")]});
            assert_eq!(step(fresh), minutes(30), "{kind}");
        }
        let issued = |updated| json!({"certificate": "eA==", "conditions": [condition("Approved", updated)]});
        assert_eq!(step(issued("2026-01-10T11:00:00Z")), Step::Remove);
        assert_eq!(step(issued("2026-01-10T11:59:00Z")), minutes(59));
        let mut pending = request(&json!({"spec": {"signerName": "example.com/mine"}}));
        pending.metadata.creation_timestamp = serde_json::from_value(json!("2026-01-09T12:00:00Z")).unwrap();
        assert_eq!(plan(&pending, true, now()), Step::Remove);
        let ended = afloat_certificates::authority("a", "2000-01-01T00:00:00Z".parse().unwrap()).unwrap();
        let ended = json!({"certificate": STANDARD.encode(ended.certificate),
            "conditions": [condition("Approved", "2026-01-10T11:59:00Z")]});
        assert_eq!(step(ended), Step::Remove);
    }
}
