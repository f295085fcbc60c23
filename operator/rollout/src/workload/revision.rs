//! Revisions: a template's wire form, its hash and name, and when two templates mean the same.
//!
//! OpenKruise compares revisions byte by byte. Its bytes come from Go structs, with their artefacts and with the
//! defaults that a webhook stored. We write the same form ([`wire`]), but *compare by meaning*: otherwise the first look
//! at a cluster that OpenKruise managed would find every pod outdated.

use std::collections::BTreeMap;

use afloat_api::{API_VERSION, CloneSet, names};
use k8s_openapi::api::apps::v1::ControllerRevision;
use serde_json::{Map, Value, json};

use crate::pod::wire;
use crate::quantity;

/// The data of a revision: `{"spec":{"template":{…,"$patch":"replace"}}}` in the wire form.
pub fn data(template: &Value) -> Value {
    let mut template = wire::form(template);
    template["$patch"] = json!("replace");
    json!({"spec": {"template": template}})
}

/// The bytes that are hashed and stored, as Go's encoder prints them: sorted keys, no spaces, numbers as floats, and
/// some characters escaped.
pub fn bytes(data: &Value) -> Vec<u8> {
    let mut out = String::new();
    print(data, &mut out);
    out.into_bytes()
}

fn print(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            out.push('{');
            let sorted: BTreeMap<_, _> = map.iter().collect();
            for (index, (key, value)) in sorted.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                print_text(key, out);
                out.push(':');
                print(value, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                print(item, out);
            }
            out.push(']');
        }
        Value::String(text) => print_text(text, out),
        // Beyond 2^53 Go's detour through floats rounds; all of it prints without an exponent below 1e21.
        Value::Number(number) => match number.as_f64() {
            Some(float) if float.abs() < 1e21 && (float == 0.0 || float.abs() >= 1e-6) => {
                out.push_str(&float.to_string());
            }
            _ => out.push_str(&number.to_string()),
        },
        other => out.push_str(&other.to_string()),
    }
}

fn print_text(text: &str, out: &mut String) {
    for character in Value::from(text).to_string().chars() {
        match character {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            other => out.push(other),
        }
    }
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

/// A template in its wire form without empties and the defaults that Kubernetes would fill in.
pub fn canonical(template: &Value) -> Value {
    let mut form = wire::form(template);
    if let Some(map) = form.as_object_mut() {
        map.remove("$patch");
    }
    if let Some(spec) = form.get_mut("spec") {
        settle_aliases(spec);
    }
    strip("template", &form).unwrap_or_else(|| json!({}))
}

/// Two ways to say one thing: `serviceAccount` is an old name, and on the host's network a port is a host port.
fn settle_aliases(spec: &mut Value) {
    let on_host = spec.get("hostNetwork") == Some(&Value::Bool(true));
    let Some(spec) = spec.as_object_mut() else { return };
    if let Some(old) = spec.remove("serviceAccount") {
        spec.entry("serviceAccountName").or_insert(old);
    }
    if !on_host {
        return;
    }
    for list in ["containers", "initContainers"] {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
        let ports = containers.filter_map(|container| container.get_mut("ports")?.as_array_mut());
        for port in ports.flatten().filter_map(Value::as_object_mut) {
            if port.get("hostPort") == port.get("containerPort") {
                port.remove("hostPort");
            }
        }
    }
}

/// Whether Kubernetes fills in this value where the field is absent (core/v1 defaults). `owner` is the name of the field,
/// or list, that the object stands in.
fn is_default(owner: &str, field: &str, value: &Value) -> bool {
    match owner {
        "spec" => match field {
            "dnsPolicy" => value == "ClusterFirst",
            "restartPolicy" => value == "Always",
            "schedulerName" => value == "default-scheduler",
            "terminationGracePeriodSeconds" => value == 30,
            "enableServiceLinks" => value == true,
            "preemptionPolicy" => value == "PreemptLowerPriority",
            "volumeMode" => value == "Filesystem",
            _ => false,
        },
        "containers" | "initContainers" | "ephemeralContainers" => match field {
            "terminationMessagePath" => value == "/dev/termination-log",
            "terminationMessagePolicy" => value == "File",
            _ => false,
        },
        "ports" => field == "protocol" && value == "TCP",
        "livenessProbe" | "readinessProbe" | "startupProbe" => match field {
            "timeoutSeconds" | "successThreshold" => value == 1,
            "periodSeconds" => value == 10,
            "failureThreshold" => value == 3,
            _ => false,
        },
        "httpGet" => field == "scheme" && value == "HTTP" || field == "path" && value == "/",
        "fieldRef" => field == "apiVersion" && value == "v1",
        "resourceFieldRef" => field == "divisor" && value == "0",
        "securityContext" => field == "procMount" && value == "Default",
        "secret" | "configMap" | "downwardAPI" | "projected" => field == "defaultMode" && value == 420,
        "serviceAccountToken" => field == "expirationSeconds" && value == 3600,
        "iscsi" => field == "iscsiInterface" && value == "default",
        "rbd" => match field {
            "pool" => value == "rbd",
            "user" => value == "admin",
            "keyring" => value == "/etc/ceph/keyring",
            _ => false,
        },
        "azureDisk" => match field {
            "cachingMode" => value == "ReadWrite",
            "kind" => value == "Shared",
            "fsType" => value == "ext4",
            "readOnly" => value == false,
            _ => false,
        },
        "scaleIO" => field == "storageMode" && value == "ThinProvisioned" || field == "fsType" && value == "xfs",
        _ => false,
    }
}

/// Whether an empty object means something else than none: an empty selector selects everything.
fn empty_means_all(field: &str) -> bool {
    matches!(field, "labelSelector" | "namespaceSelector" | "selector" | "preference")
}

/// Up to here floats tell whole numbers apart.
const EXACT: f64 = 9_007_199_254_740_991.0;

fn strip(field: &str, value: &Value) -> Option<Value> {
    match value {
        Value::Null => None,
        Value::Object(_) if wire::is_data(field) => Some(value.clone()),
        Value::Object(map) if wire::is_quantities(field) => {
            let rounded = |value: &Value| {
                let text = value.as_str().and_then(quantity::rounded);
                text.map_or_else(|| value.clone(), Value::String)
            };
            Some(map.iter().map(|(key, value)| (key.clone(), rounded(value))).collect())
        }
        Value::Object(map) => {
            let mut out: Map<String, Value> = map
                .iter()
                .filter(|(key, value)| !is_default(field, key, value))
                .filter_map(|(key, value)| Some((key.clone(), strip(key, value)?)))
                .collect();
            drop_pull_policy(&mut out);
            (!out.is_empty() || empty_means_all(field)).then_some(Value::Object(out))
        }
        Value::Array(items) => {
            // Positions matter, so an empty element stays.
            let item = |item: &Value| match item {
                Value::Object(_) => strip(field, item).unwrap_or_else(|| json!({})),
                other => other.clone(),
            };
            (!items.is_empty()).then(|| Value::Array(items.iter().map(item).collect()))
        }
        // Of the texts that the wire form keeps though they are empty, one means something.
        Value::String(text) if text.is_empty() && field != "storageClassName" => None,
        // A revision holds a float's digits of it.
        Value::Number(number) if number.as_f64().is_some_and(|float| float.abs() > EXACT) => {
            Some(json!(number.as_f64()))
        }
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
    use serde::Deserialize;

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

    #[derive(Deserialize)]
    struct Golden {
        case: String,
        workload: String,
        template: Value,
        plain: Form,
        defaulted: Form,
    }

    #[derive(Deserialize)]
    struct Form {
        name: String,
        raw: String,
    }

    /// Templates, and what core/v1 of Kubernetes 1.32.10 makes of each in a revision of OpenKruise: as it is, and with
    /// the defaults that its webhook stores. Written by a Go program around `SetObjectDefaults_PodTemplate`.
    fn golden() -> Vec<Golden> {
        serde_json::from_str(include_str!("golden.json")).unwrap()
    }

    #[test]
    fn revisions_are_kruises_byte_for_byte() {
        for Golden {
            case,
            workload,
            template,
            plain,
            defaulted,
        } in golden()
        {
            let stored: Value = serde_json::from_str(&defaulted.raw).unwrap();
            for (template, form) in [(&template, &plain), (&stored["spec"]["template"], &defaulted)] {
                let bytes = bytes(&data(template));
                assert_eq!(String::from_utf8_lossy(&bytes), form.raw, "{case}");
                assert_eq!(name(&workload, &hash(&bytes, 0)), form.name, "{case}");
            }
        }
    }

    #[test]
    fn a_defaulted_template_means_the_same() {
        for Golden {
            case,
            template,
            defaulted,
            ..
        } in golden()
        {
            let stored: Value = serde_json::from_str(&defaulted.raw).unwrap();
            let (plain, stored) = (canonical(&template), canonical(&stored["spec"]["template"]));
            assert_eq!(plain, stored, "{case}");
            for pointer in pointers(&stored) {
                let mut other = stored.clone();
                let value = other.pointer_mut(&pointer).unwrap();
                *value = match value {
                    Value::Bool(flag) => json!(!*flag),
                    Value::Number(number) => json!(number.as_f64().unwrap_or_default() * 2.0 + 7.0),
                    _ => json!("another"),
                };
                assert!(!equivalent(&stored, &other), "{case}: {pointer} does not count");
            }
        }
    }

    /// All values that are neither objects nor lists.
    fn pointers(value: &Value) -> Vec<String> {
        let below = |key: String, value: &Value| -> Vec<String> {
            let key = key.replace('~', "~0").replace('/', "~1");
            let inner = pointers(value).into_iter();
            inner.map(|rest| format!("/{key}{rest}")).collect()
        };
        match value {
            Value::Object(map) => map.iter().flat_map(|(key, value)| below(key.clone(), value)).collect(),
            Value::Array(items) => {
                let items = items.iter().enumerate();
                items
                    .flat_map(|(index, value)| below(index.to_string(), value))
                    .collect()
            }
            _ => vec![String::new()],
        }
    }

    #[test]
    fn what_looks_like_a_default_elsewhere_counts() {
        let spec = |spec: Value| json!({"spec": spec});
        let container = |extra: Value| {
            let mut container = json!({"name": "c", "image": "i:1"});
            container
                .as_object_mut()
                .unwrap()
                .extend(extra.as_object().unwrap().clone());
            json!([container])
        };
        for (what, a, b) in [
            (
                "a sidecar is no init container",
                json!({"initContainers": container(json!({"restartPolicy": "Always"}))}),
                json!({"initContainers": container(json!({}))}),
            ),
            (
                "a probe's own grace period",
                json!({"containers": container(json!({"livenessProbe": {"terminationGracePeriodSeconds": 30}}))}),
                json!({"containers": container(json!({"livenessProbe": {}}))}),
            ),
            (
                "every namespace, or this one",
                json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
                    [{"topologyKey": "t", "labelSelector": {}, "namespaceSelector": {}}]}}}),
                json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
                    [{"topologyKey": "t", "labelSelector": {}}]}}}),
            ),
            (
                "a volume attribute named like a field",
                json!({"volumes": [{"name": "v", "csi": {"driver": "d", "volumeAttributes": {"protocol": ""}}}]}),
                json!({"volumes": [{"name": "v", "csi": {"driver": "d"}}]}),
            ),
            (
                "an attribute of security",
                json!({"containers": container(json!({"securityContext": {"allowPrivilegeEscalation": false}}))}),
                json!({"containers": container(json!({"securityContext": {}}))}),
            ),
        ] {
            assert!(!equivalent(&spec(a), &spec(b)), "{what}");
        }
    }

    /// Revisions that older releases wrote have fewer defaults, or more.
    #[test]
    fn other_releases_defaults_mean_the_same() {
        let new = json!({"spec": {"hostNetwork": true, "serviceAccountName": "sa", "containers": [{"name": "c", "image": "i:1",
            "ports": [{"containerPort": 80}], "resources": {"limits": {"cpu": "1000m"}}}]}});
        let old = json!({"metadata": {"creationTimestamp": null}, "spec": {"hostNetwork": true, "serviceAccountName": "sa",
            "serviceAccount": "sa", "restartPolicy": "Always", "containers": [{"name": "c", "image": "i:1",
            "terminationMessagePath": "/dev/termination-log", "securityContext": {"procMount": "Default"},
            "ports": [{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}], "resources": {"limits": {"cpu": "1"}}}]}});
        assert!(equivalent(&new, &old));
    }

    #[test]
    fn labels_are_data() {
        let with = json!({"metadata": {"labels": {"protocol": "TCP"}}});
        assert!(!equivalent(&with, &json!({"metadata": {}})));
    }
}
