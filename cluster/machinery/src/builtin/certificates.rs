//! Requests for certificates (Kubernetes' `pkg/apis/certificates/validation` and `registry/certificates/certificates`).

use std::collections::BTreeSet;

use afloat_certificates::Request;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::FieldError;
use crate::field::{duplicate, error, forbidden, index, invalid, not_supported, required, too_long};
use crate::json::{list, text};
use crate::names;

/// The signer whose certificates let their holder in as whoever they say.
pub const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";
/// The same, for nodes.
pub const NODE_CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";
/// The one for what kubelets show to who asks them.
pub const NODE_SERVING_SIGNER: &str = "kubernetes.io/kubelet-serving";

const LEGACY_SIGNER: &str = "kubernetes.io/legacy-unknown";
const LEAST_SECONDS: i64 = 600;
/// A longer request is not repeated in what is said of it.
const SHOWN_BYTES: usize = 8 << 10;
const CONDITIONS: &str = "status.conditions";

const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

/// The request inside of an object.
///
/// # Errors
/// That it is none.
pub fn request(object: &Value) -> Result<Request, String> {
    Request::read(&bytes(object, "/spec/request"))
}

fn bytes(object: &Value, path: &str) -> Vec<u8> {
    STANDARD.decode(text(object.pointer(path))).unwrap_or_default()
}

/// Who asks stands in a new request, whatever its client says of it.
pub fn requested_by(object: &mut Value, who: Value) {
    let spec = object.get_mut("spec").and_then(Value::as_object_mut);
    let (Some(spec), Value::Object(who)) = (spec, who) else {
        return;
    };
    for field in ["username", "uid", "groups", "extra"] {
        spec.remove(field);
    }
    spec.extend(who);
}

/// A request stays what it was.
pub(crate) fn keep_spec(old: &Value, new: &mut Value) {
    if let (Some(object), Some(spec)) = (new.as_object_mut(), old.get("spec")) {
        object.insert("spec".to_owned(), spec.clone());
    }
}

/// Everything that is wrong with a request.
pub(crate) fn validate(object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = object.get("spec");
    if let Err(why) = request(object) {
        let message = format!("Invalid value: {}: {why}", shown(&bytes(object, "/spec/request")));
        errors.push(error("spec.request", "FieldValueInvalid", message));
    }
    let usages = list(spec, "usages");
    if usages.is_empty() {
        errors.push(required("spec.usages", ""));
    }
    for (at, usage) in usages.iter().enumerate() {
        if !USAGES.contains(&text(Some(usage))) {
            errors.push(not_supported(index("spec.usages", at), usage.clone(), &USAGES));
        }
    }
    for (at, usage) in usages.iter().enumerate() {
        if usages[..at].contains(usage) {
            errors.push(duplicate(index("spec.usages", at), usage.clone()));
        }
    }
    errors.extend(signer(text(object.pointer("/spec/signerName"))));
    if let Some(seconds) = object.pointer("/spec/expirationSeconds").and_then(Value::as_i64)
        && seconds < LEAST_SECONDS
    {
        let why = "may not specify a duration less than 600 seconds (10 minutes)";
        errors.push(invalid("spec.expirationSeconds", seconds, why));
    }
    errors.extend(conditions(list(object.get("status"), "conditions")));
    errors
}

/// Bytes as Go prints them.
fn shown(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "[]byte(nil)".to_owned();
    }
    if bytes.len() > SHOWN_BYTES {
        return format!("<{} bytes>", bytes.len());
    }
    let each: Vec<String> = bytes.iter().map(|byte| format!("{byte:#x}")).collect();
    format!("[]byte{{{}}}", each.join(", "))
}

/// `example.com/name` (Kubernetes' `ValidateSignerName`).
fn signer(name: &str) -> Vec<FieldError> {
    const FIELD: &str = "spec.signerName";
    if name.is_empty() {
        return vec![required(FIELD, "")];
    }
    if name == LEGACY_SIGNER {
        let why = "the legacy signerName is not allowed via this API version";
        return vec![invalid(FIELD, name, why)];
    }
    let Some((domain, path)) = name.split_once('/').filter(|(_, path)| !path.contains('/')) else {
        let why = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        return vec![invalid(FIELD, name, why)];
    };
    let mut errors = Vec::new();
    let mut labels = |part: &str, rule: fn(&str) -> Vec<String>| {
        for label in part.split('.') {
            for why in rule(label) {
                errors.push(invalid(FIELD, part, &format!("validating label {label:?}: {why}")));
            }
        }
    };
    labels(domain, names::dns_label);
    labels(path, names::dns_subdomain);
    if domain.len() > 253 {
        errors.push(too_long(FIELD, 253));
    }
    if !domain.contains('.') {
        let why = "should be a domain with at least two segments separated by dots";
        errors.push(invalid(FIELD, domain, why));
    }
    errors
}

/// Whether a condition of this type is only ever true.
fn is_final(kind: &str) -> bool {
    matches!(kind, "Approved" | "Denied" | "Failed")
}

fn conditions(all: &[Value]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen = BTreeSet::new();
    for (at, condition) in all.iter().enumerate() {
        let path = |field: &str| format!("{CONDITIONS}[{at}].{field}");
        let (kind, status) = (text(condition.get("type")), text(condition.get("status")));
        if kind.is_empty() {
            errors.push(required(path("type"), ""));
        }
        let allowed: &[&str] = if is_final(kind) {
            &["True"]
        } else {
            &["False", "True", "Unknown"]
        };
        if status.is_empty() {
            errors.push(required(path("status"), ""));
        } else if !allowed.contains(&status) {
            errors.push(not_supported(path("status"), status, allowed));
        }
        let other = match kind {
            "Approved" => "Denied",
            "Denied" => "Approved",
            _ => "",
        };
        if !other.is_empty() && seen.contains(other) {
            let why = "Approved and Denied conditions are mutually exclusive";
            errors.push(invalid(path("type"), kind, why));
        }
        if !seen.insert(kind) {
            errors.push(duplicate(path("type"), kind));
        }
    }
    errors
}

fn of_kind<'a>(object: &'a Value, kind: &str) -> Vec<&'a Value> {
    let all = list(object.get("status"), "conditions").iter();
    all.filter(|condition| text(condition.get("type")) == kind).collect()
}

/// `certificatesigningrequests/approval`: only conditions change.
pub(crate) fn keep_all_but_conditions(old: &Value, new: &mut Value, now: &str) {
    let conditions = new.pointer("/status/conditions").cloned();
    let meta = new.get("metadata").cloned();
    let mut result = old.clone();
    if let Some(status) = result.as_object_mut() {
        let status = status.entry("status").or_insert_with(|| json!({}));
        if let Some(status) = status.as_object_mut() {
            match conditions {
                Some(conditions) => status.insert("conditions".to_owned(), conditions),
                None => status.remove("conditions"),
            };
        }
    }
    if let (Some(object), Some(meta)) = (result.as_object_mut(), meta) {
        object.insert("metadata".to_owned(), meta);
    }
    *new = result;
    set_times(old, new, now);
}

/// The status: what was approved or denied stays as it was, if it is still there.
pub(crate) fn keep_approval(old: &Value, new: &mut Value, now: &str) {
    for kind in ["Approved", "Denied"] {
        let before: Vec<Value> = of_kind(old, kind).into_iter().cloned().collect();
        if before.len() != of_kind(new, kind).len() {
            continue;
        }
        let all = new.pointer_mut("/status/conditions").and_then(Value::as_array_mut);
        let places = all.into_iter().flatten().filter(|condition| condition["type"] == kind);
        places.zip(before).for_each(|(place, before)| *place = before);
    }
    set_times(old, new, now);
}

/// Conditions without times get them; one that was there with the same status keeps the time of its last transition.
fn set_times(old: &Value, new: &mut Value, now: &str) {
    let before = list(old.get("status"), "conditions");
    let all = new.pointer_mut("/status/conditions").and_then(Value::as_array_mut);
    for condition in all.into_iter().flatten() {
        let same = |other: &&Value| {
            ["type", "status"]
                .iter()
                .all(|field| other.get(field) == condition.get(field))
        };
        let known = before
            .iter()
            .find(same)
            .and_then(|other| other.get("lastTransitionTime"))
            .cloned();
        let Some(condition) = condition.as_object_mut() else {
            continue;
        };
        condition.entry("lastUpdateTime").or_insert_with(|| now.into());
        let since = known.unwrap_or_else(|| now.into());
        condition.entry("lastTransitionTime").or_insert(since);
    }
}

/// What a write of the approval may not do.
pub(crate) fn validate_approval(old: &Value, new: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for kind in ["Approved", "Denied", "Failed"] {
        if of_kind(new, kind).len() < of_kind(old, kind).len() {
            let why = format!("updates may not remove a condition of type {kind:?}");
            errors.push(forbidden(CONDITIONS, &why));
        }
    }
    errors
}

/// What a write of the status may not do.
pub(crate) fn validate_status(old: &Value, new: &Value) -> Vec<FieldError> {
    let mut errors = validate_approval(old, new);
    for kind in ["Approved", "Denied"] {
        if of_kind(new, kind).len() > of_kind(old, kind).len() {
            let why = format!("updates may not add a condition of type {kind:?}");
            errors.push(forbidden(CONDITIONS, &why));
        }
    }
    let certificate = |object| bytes(object, "/status/certificate");
    let (before, now) = (certificate(old), certificate(new));
    if before != now {
        if let Err(why) = afloat_certificates::check_chain(&now) {
            let message = format!("Invalid value: \"<certificate data>\": {why}");
            errors.push(error("status.certificate", "FieldValueInvalid", message));
        }
        if !before.is_empty() {
            let why = "updates may not modify existing certificate content";
            errors.push(forbidden("status.certificate", why));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(conditions: Value) -> Value {
        json!({"spec": {"request": ""}, "status": {"conditions": conditions}})
    }

    #[test]
    fn who_signs_does_not_approve() {
        let approved = json!({"type": "Approved", "status": "True", "lastUpdateTime": "a", "lastTransitionTime": "b"});
        let old = object(json!([approved]));
        let mut new = object(
            json!([{"type": "Approved", "status": "True", "message": "mine"}, {"type": "Failed", "status": "True"}]),
        );
        keep_approval(&old, &mut new, "now");
        let failed = json!({"type": "Failed", "status": "True", "lastUpdateTime": "now", "lastTransitionTime": "now"});
        assert_eq!(new["status"]["conditions"], json!([approved, failed]));
        assert_eq!(validate_status(&old, &new), []);
        let told = |old: &Value, new: &Value| {
            validate_status(old, new)
                .into_iter()
                .map(|error| error.message)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            told(&object(json!([])), &old),
            ["Forbidden: updates may not add a condition of type \"Approved\""]
        );
        assert_eq!(
            told(&old, &object(json!([]))),
            ["Forbidden: updates may not remove a condition of type \"Approved\""]
        );
    }

    #[test]
    fn an_approval_changes_conditions_only() {
        let old = json!({"metadata": {"name": "a"}, "spec": {"request": "x"}, "status": {"certificate": "c"}});
        let mut new = json!({"metadata": {"name": "a"}, "spec": {"request": "y"}, "status": {"conditions": [{"type": "Denied"}]}});
        keep_all_but_conditions(&old, &mut new, "now");
        let denied = json!({"type": "Denied", "lastUpdateTime": "now", "lastTransitionTime": "now"});
        assert_eq!(
            new,
            json!({"metadata": {"name": "a"}, "spec": {"request": "x"},
                "status": {"certificate": "c", "conditions": [denied]}})
        );
    }
}
