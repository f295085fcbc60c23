//! Revisions: a template's wire form, its hash and name, and when two templates mean the same.
//!
//! OpenKruise compares revisions byte by byte. Its bytes come from Go structs, with their artefacts and with the
//! defaults that a webhook stored. We write the same form as far as JSON tells it, but *compare by meaning*: otherwise
//! the first look at a cluster that OpenKruise managed would find every pod outdated.

use afloat_api::{API_VERSION, CloneSet, names};
use k8s_openapi::api::apps::v1::ControllerRevision;
use serde_json::{Map, Value, json};

/// The data of a revision: `{"spec":{"template":{…,"$patch":"replace"}}}` with the artefacts of Go's structs.
pub fn data(template: &Value) -> Value {
    let mut template = template.clone();
    if let Some(map) = template.as_object_mut() {
        map.insert("$patch".into(), json!("replace"));
        let metadata = map.entry("metadata").or_insert_with(|| json!({}));
        if let Some(metadata) = metadata.as_object_mut() {
            metadata.entry("creationTimestamp").or_insert(Value::Null);
        }
        for list in ["containers", "initContainers"] {
            let containers = map
                .get_mut("spec")
                .and_then(|spec| spec.get_mut(list))
                .and_then(Value::as_array_mut);
            for container in containers.into_iter().flatten().filter_map(Value::as_object_mut) {
                container.entry("resources").or_insert_with(|| json!({}));
            }
        }
    }
    json!({"spec": {"template": template}})
}

/// The bytes that are hashed: sorted keys, no spaces, and the characters escaped that Go's encoder escapes.
pub fn bytes(data: &Value) -> Vec<u8> {
    let text = data.to_string();
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            other => out.push(other),
        }
    }
    out.into_bytes()
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

/// The short hash of a revision's name.
pub fn short(name: &str) -> &str {
    name.rsplit('-').next().unwrap_or(name)
}

/// The template in a revision.
pub fn template(revision: &ControllerRevision) -> Option<&Value> {
    revision.data.as_ref()?.0.get("spec")?.get("template")
}

/// A new revision object.
pub fn object(set: &CloneSet, hash: &str, number: i64) -> Value {
    let mut labels: Map<String, Value> = set
        .spec
        .template
        .pointer("/metadata/labels")
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default();
    labels.insert(names::REVISION_HASH.into(), json!(hash));
    json!({
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": name(set.metadata.name.as_deref().unwrap_or_default(), hash),
            "namespace": set.metadata.namespace,
            "labels": labels,
            "annotations": set.metadata.annotations,
            "ownerReferences": [owner(set)],
        },
        "data": data(&set.spec.template),
        "revision": number,
    })
}

/// The owner reference that children of a CloneSet carry.
pub fn owner(set: &CloneSet) -> Value {
    json!({
        "apiVersion": API_VERSION,
        "kind": "CloneSet",
        "name": set.metadata.name,
        "uid": set.metadata.uid,
        "controller": true,
        "blockOwnerDeletion": true,
    })
}

/// Whether two templates mean the same.
pub fn equivalent(a: &Value, b: &Value) -> bool {
    canonical(a) == canonical(b)
}

/// A template without nulls, empties and the defaults that Kubernetes would fill in.
pub fn canonical(template: &Value) -> Value {
    let mut out = strip("", template).unwrap_or_else(|| json!({}));
    if let Some(map) = out.as_object_mut() {
        map.remove("$patch");
    }
    out
}

/// Fields whose stated value is what Kubernetes fills in when they are absent, by name wherever they stand in a pod
/// template (core/v1 defaults).
fn is_default(field: &str, value: &Value) -> bool {
    match field {
        "terminationMessagePath" => value == "/dev/termination-log",
        "terminationMessagePolicy" => value == "File",
        "dnsPolicy" => value == "ClusterFirst",
        "restartPolicy" => value == "Always",
        "schedulerName" => value == "default-scheduler",
        "terminationGracePeriodSeconds" => value == 30,
        "protocol" => value == "TCP",
        "scheme" => value == "HTTP",
        "timeoutSeconds" | "successThreshold" => value == 1,
        "periodSeconds" => value == 10,
        "failureThreshold" => value == 3,
        "initialDelaySeconds" => value == 0,
        "defaultMode" => value == 420,
        "enableServiceLinks" => value == true,
        "preemptionPolicy" => value == "PreemptLowerPriority",
        "hostNetwork" | "hostPID" | "hostIPC" | "stdin" | "stdinOnce" | "tty" | "readOnly" => value == false,
        _ => false,
    }
}

fn strip(field: &str, value: &Value) -> Option<Value> {
    match value {
        Value::Null => None,
        Value::Object(map) => {
            let mut out: Map<String, Value> = map
                .iter()
                .filter_map(|(key, value)| Some((key.clone(), strip(key, value)?)))
                .collect();
            out.retain(|key, value| !is_default(key, value));
            // A labels or annotations entry is data, not a field with defaults.
            if matches!(field, "labels" | "annotations" | "matchLabels" | "nodeSelector") {
                return (!map.is_empty()).then(|| value.clone());
            }
            drop_pull_policy(&mut out);
            if field == "fieldRef" && out.get("apiVersion").is_some_and(|v| v == "v1") {
                out.remove("apiVersion");
            }
            (!out.is_empty()).then_some(Value::Object(out))
        }
        Value::Array(items) => {
            // Positions matter, so an empty element stays.
            let out: Vec<_> = items
                .iter()
                .map(|item| strip("", item).unwrap_or_else(|| json!({})))
                .collect();
            (!out.is_empty()).then_some(Value::Array(out))
        }
        Value::String(text) if text.is_empty() => None,
        other => Some(other.clone()),
    }
}

/// `imagePullPolicy` defaults by the image's tag.
fn drop_pull_policy(container: &mut Map<String, Value>) {
    let (Some(image), Some(policy)) = (
        container.get("image").and_then(Value::as_str),
        container.get("imagePullPolicy").and_then(Value::as_str),
    ) else {
        return;
    };
    let last = image.rsplit('/').next().unwrap_or(image);
    let latest = !image.contains('@') && (!last.contains(':') || last.ends_with(":latest"));
    if policy == if latest { "Always" } else { "IfNotPresent" } {
        container.remove("imagePullPolicy");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_kubernetes_own() {
        // Check values of the specification: decimal digits map to 456789bcdf.
        assert_eq!(safe_encode("86995377"), "dbff97cc");
        assert_eq!(safe_encode("0123456789"), "456789bcdf");
        // FNV-1 of "0" is offset * prime ^ '0'.
        assert_eq!(
            hash(b"", 0),
            safe_encode(&(0x811c_9dc5_u32.wrapping_mul(0x0100_0193) ^ 0x30).to_string())
        );
        assert_ne!(hash(b"x", 0), hash(b"x", 1));
    }

    #[test]
    fn the_wire_form_is_gos() {
        let template =
            json!({"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "c", "image": "i<1>"}]}});
        assert_eq!(
            String::from_utf8(bytes(&data(&template))).unwrap(),
            r#"{"spec":{"template":{"$patch":"replace","metadata":{"creationTimestamp":null,"labels":{"app":"x"}},"spec":{"containers":[{"image":"i\u003c1\u003e","name":"c","resources":{}}]}}}}"#
        );
    }

    #[test]
    fn a_defaulted_template_means_the_same() {
        let plain = json!({"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{
            "name": "c", "image": "nginx:1", "ports": [{"containerPort": 80}],
            "readinessProbe": {"httpGet": {"path": "/", "port": 80}}}]}});
        let stored = json!({"$patch": "replace", "metadata": {"creationTimestamp": null, "labels": {"app": "x"}}, "spec": {
            "restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler",
            "securityContext": {}, "terminationGracePeriodSeconds": 30,
            "containers": [{
                "name": "c", "image": "nginx:1", "imagePullPolicy": "IfNotPresent", "resources": {},
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                "ports": [{"containerPort": 80, "protocol": "TCP"}],
                "readinessProbe": {"httpGet": {"path": "/", "port": 80, "scheme": "HTTP"}, "timeoutSeconds": 1,
                    "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}}]}});
        assert!(equivalent(&plain, &stored));
        let mut other = stored.clone();
        other["spec"]["containers"][0]["image"] = json!("nginx:2");
        assert!(!equivalent(&plain, &other));
        let mut slow = stored;
        slow["spec"]["containers"][0]["readinessProbe"]["timeoutSeconds"] = json!(2);
        assert!(!equivalent(&plain, &slow));
    }

    #[test]
    fn labels_are_data() {
        let with = json!({"metadata": {"labels": {"protocol": "TCP"}}});
        assert!(!equivalent(&with, &json!({"metadata": {}})));
    }
}
