//! Pod templates: what tells them apart, and pods made of them.

use serde_json::{Value, json};

/// Label that tells the ReplicaSets of a Deployment apart.
pub(crate) const HASH_LABEL: &str = "pod-template-hash";

/// A pod of a template, owned by `owner`.
pub(crate) fn pod_from_template(template: &Value, namespace: &str, owner: Value) -> Value {
    let meta = template.get("metadata");
    json!({
        "metadata": {
            "namespace": namespace,
            "labels": meta.and_then(|meta| meta.get("labels")),
            "annotations": meta.and_then(|meta| meta.get("annotations")),
            "finalizers": meta.and_then(|meta| meta.get("finalizers")),
            "ownerReferences": [owner],
        },
        "spec": template.get("spec"),
    })
}

/// A template without the label that the controller adds; an absent and an empty map are the same.
pub(crate) fn without_hash(template: &Value) -> Value {
    let mut template = template.clone();
    if let Some(meta) = template.get_mut("metadata").and_then(Value::as_object_mut) {
        if let Some(labels) = meta.get_mut("labels").and_then(Value::as_object_mut) {
            labels.remove(HASH_LABEL);
        }
        meta.retain(|_, value| !value.is_null() && value.as_object().is_none_or(|object| !object.is_empty()));
    }
    template
}

/// Our own hash over the template: the API only asks that it tells templates apart.
pub(crate) fn template_hash(template: &Value, collisions: i32) -> String {
    const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    // FNV-1a; JSON text of sorted maps is the same for equal templates.
    let text = format!("{}#{collisions}", without_hash(template));
    let mut hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut name = String::with_capacity(10);
    for _ in 0..10 {
        name.push(char::from(ALPHABET[usize::try_from(hash % 27).unwrap_or(0)]));
        hash /= 27;
    }
    name
}
