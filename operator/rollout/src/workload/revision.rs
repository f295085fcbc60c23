//! Revisions: a template's data in its wire form, its hash and its name. OpenKruise compares revisions byte by byte, so ours
//! are its own.

use k8s_openapi::api::apps::v1::ControllerRevision;
use serde_json::{Map, Value, json};

use super::owner::Owner;
use crate::pod::wire;

/// The data of a revision: `{"spec":{"template":{…,"$patch":"replace"}}}` in the wire form.
pub fn data(template: &Value) -> Value {
    let mut template = wire::form(template);
    template["$patch"] = json!("replace");
    json!({"spec": {"template": template}})
}

/// The hash text: FNV-1 (not 1a), 32 bit, over the bytes and the decimal collision count, in an alphabet without vowels.
pub fn hash(bytes: &[u8], collisions: i32) -> String {
    let mut hash: u32 = 0x811c_9dc5;
    for byte in bytes.iter().copied().chain(collisions.to_string().into_bytes()) {
        hash = hash.wrapping_mul(0x0100_0193) ^ u32::from(byte);
    }
    safe_encode(&hash.to_string())
}

/// Kubernetes' SafeEncodeString.
fn safe_encode(text: &str) -> String {
    const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    text.bytes()
        .map(|byte| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()]))
        .collect()
}

/// Name of a revision; the workload's name is cut so that the whole stays a valid name.
pub fn name(workload: &str, hash: &str) -> String {
    let cut: String = workload.chars().take(223).collect();
    format!("{cut}-{hash}")
}

/// The template in a revision.
pub fn template(revision: &ControllerRevision) -> Option<&Value> {
    revision.data.as_ref()?.0.get("spec")?.get("template")
}

/// A new revision object.
pub fn object(owner: Owner<'_>, hash: &str, number: i64) -> Value {
    let mut labels: Map<String, Value> = owner
        .template
        .pointer("/metadata/labels")
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default();
    labels.insert(owner.naming.hash_label().into(), json!(hash));
    json!({
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": name(owner.name(), hash),
            "namespace": owner.metadata.namespace,
            "labels": labels,
            "annotations": owner.metadata.annotations,
            "ownerReferences": [owner.reference()],
        },
        "data": data(owner.template),
        "revision": number,
    })
}

#[cfg(test)]
mod tests;
