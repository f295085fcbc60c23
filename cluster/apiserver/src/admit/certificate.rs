//! Requests for certificates: who asks stands in them, and nobody approves or signs for a signer without being allowed to (Kubernetes'
//! admission plugins CertificateSubjectRestriction, CertificateApproval and CertificateSigning).

use afloat_machinery::authorization::{Attributes, MASTERS, User};
use afloat_machinery::certificates;
use serde_json::{Value, json};

use crate::auth::authorization::Authorization;
use crate::wire::call::Call;
use crate::wire::status::Status;

const GROUP: &str = "certificates.k8s.io";

/// Puts into a new request who sent it.
pub(super) fn requested_by(user: &User, object: &mut Value) {
    let mut who = json!({"username": user.name, "groups": user.groups});
    if !user.uid.is_empty() {
        who["uid"] = user.uid.as_str().into();
    }
    if !user.extra.is_empty() {
        who["extra"] = json!(user.extra);
    }
    certificates::requested_by(object, who);
}

/// Whether a client may write a request, its approval or its status. `old`: as it is stored, if it is.
///
/// # Errors
/// 403 says why not.
pub(super) fn check(
    authorization: &Authorization,
    call: &Call,
    old: Option<&Value>,
    new: &Value,
) -> Result<(), Status> {
    let name = new["metadata"]["name"].as_str().unwrap_or_default();
    let refuse = |why: String| Err(Status::forbidden(&call.resource, name, &why));
    let Some(old) = old else {
        // What is no request is refused with all else that is wrong.
        let asked = certificates::request(new)
            .map(|request| request.organizations)
            .unwrap_or_default();
        let signer = certificates::CLIENT_SIGNER;
        if new["spec"]["signerName"] == signer && asked.iter().any(|group| group == MASTERS) {
            return refuse(format!("use of {signer} signer with {MASTERS} group is not allowed"));
        }
        return Ok(());
    };
    let changed = |field: &str| old["status"].get(field) != new["status"].get(field);
    let verb = match call.subresource() {
        "approval" => "approve",
        "status" if changed("certificate") || changed("conditions") => "sign",
        _ => return Ok(()),
    };
    let signer = old["spec"]["signerName"].as_str().unwrap_or_default();
    if is_allowed(authorization, &call.user, verb, signer) {
        return Ok(());
    }
    refuse(format!(
        "user not permitted to {verb} requests with signerName \"{signer}\""
    ))
}

/// For this signer, or for all of its domain.
fn is_allowed(authorization: &Authorization, user: &User, verb: &str, signer: &str) -> bool {
    let domain = signer.split('/').next().unwrap_or_default();
    let all = format!("{domain}/*");
    [signer, &all].iter().any(|name| {
        authorization.allows(&Attributes {
            version: "*",
            name,
            ..Attributes::resource(user, verb, GROUP, "signers")
        })
    })
}
