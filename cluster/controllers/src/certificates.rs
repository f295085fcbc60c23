//! Requests for certificates: those of nodes are approved, approved ones signed, old ones taken away. In Kubernetes these are three loops
//! (`csrapproving`, `csrsigning`, `csrcleaner`) with one service account.

mod plan;
mod rules;

use std::sync::Arc;
use std::time::Duration;

use afloat_certificates::{Pair, Request, Terms};
use afloat_watching::Queue;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use serde_json::{Value, json};

use crate::Error;
use crate::context::Context;
use crate::objects::{CertificateSigningRequest, Key};
use plan::{Step, plan};

/// How long a certificate is good unless less was asked for (`--cluster-signing-duration`).
const LIFETIME: SignedDuration = SignedDuration::from_hours(365 * 24);

/// Runs the loop until shutdown.
pub(crate) async fn run_certificates(context: Context) -> Result<(), Error> {
    let requests = &context.caches.requests;
    requests.ready().await;
    let queue = Arc::new(Queue::default());
    queue.follow(requests, |request| Some(Key::of(&request.metadata)));
    context.work_off(&queue, 4, |key| sync(&context, key)).await;
    Ok(())
}

/// What is written about a request.
enum Write {
    Remove,
    /// A subresource, and the status in it.
    Put(&'static str, Value),
}

async fn sync(context: &Context, key: Key) -> Result<Option<Duration>, Error> {
    let (shell, requests) = (&context.shell, &context.caches.requests);
    let looking = shell.settle(&key).await?;
    let found = looking.at(requests).get(&key);
    let Some(object) = found else { return Ok(None) };
    let authority = context.options.certificate_authority.as_ref();
    let write = match (plan(&object, authority.is_some(), Timestamp::now()), authority) {
        (Step::Wait(wait), _) => return Ok(wait),
        (Step::Sign(_), None) => return Ok(None),
        (Step::Remove, _) => Write::Remove,
        (Step::Ask(questions), _) => match first_allowed(context, &object, questions).await? {
            Some(message) => Write::Put("approval", with(&object, approved(message))),
            None => return Ok(None),
        },
        (Step::Sign(request), Some(authority)) => Write::Put("status", signed(&object, &request, authority)),
        (Step::Fail(why), _) => Write::Put("status", with(&object, failed(&why))),
    };
    let metadata = object.metadata.clone();
    let writing = looking.write();
    match write {
        Write::Remove => shell.delete(&writing, requests, &metadata, None).await?,
        Write::Put(subresource, status) => {
            let whole = json!({"metadata": metadata, "status": status});
            shell.replace_part(&writing, requests, subresource, whole).await?;
        }
    }
    Ok(None)
}

fn approved(message: &str) -> Value {
    json!({"type": "Approved", "status": "True", "reason": "AutoApproved", "message": message})
}

fn failed(why: &str) -> Value {
    json!({"type": "Failed", "status": "True", "reason": "SignerValidationFailure", "message": why})
}

/// The status with one condition more.
fn with(object: &CertificateSigningRequest, condition: Value) -> Value {
    let mut conditions = object.status.conditions.clone();
    conditions.push(condition);
    json!({"conditions": conditions})
}

/// The status with the certificate, or with the reason why there is none.
fn signed(object: &CertificateSigningRequest, request: &Request, authority: &Pair) -> Value {
    let asked = object.spec.expiration_seconds.map(SignedDuration::from_secs);
    let terms = Terms {
        usages: &object.spec.usages,
        lifetime: asked.unwrap_or(LIFETIME).clamp(SignedDuration::from_mins(10), LIFETIME),
        serial: serial(object.metadata.uid.as_deref().unwrap_or_default()),
    };
    match request.sign(authority, terms, Timestamp::now()) {
        Ok(pem) => json!({"conditions": object.status.conditions, "certificate": STANDARD.encode(pem)}),
        Err(why) => with(object, failed(&format!("cannot sign: {why}"))),
    }
}

/// A certificate's number is that of its request, which no other has: the hexadecimal digits of a UUID.
fn serial(uid: &str) -> [u8; 16] {
    let mut serial = [0; 16];
    let digits = uid.chars().filter_map(|digit| digit.to_digit(16));
    for (at, digit) in digits.take(32).enumerate() {
        // A digit has four bits.
        serial[at / 2] = serial[at / 2] << 4 | u8::try_from(digit).unwrap_or_default();
    }
    serial
}

/// The message of the first approval that who made a request may have.
async fn first_allowed(
    context: &Context,
    object: &CertificateSigningRequest,
    questions: Vec<(&'static str, &'static str)>,
) -> Result<Option<&'static str>, Error> {
    let spec = &object.spec;
    for (subresource, message) in questions {
        let review = json!({"metadata": {}, "spec": {
            "user": spec.username, "uid": spec.uid, "groups": spec.groups, "extra": spec.extra,
            "resourceAttributes": {"group": "certificates.k8s.io", "resource": "certificatesigningrequests",
                "verb": "create", "subresource": subresource, "version": "*"},
        }});
        let review = context.shell.ask::<SubjectAccessReview>(review).await?;
        if review["status"]["allowed"] == true {
            return Ok(Some(message));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_its_requests() {
        let serial = serial("8d79603b-e129-4cc2-a59e-0f0cbbd2a9f8");
        assert_eq!((serial[0], serial[4], serial[15]), (0x8d, 0xe1, 0xf8));
    }
}
