//! The wire form of a pod template: what is left of it once it went through Go's structs.
//!
//! OpenKruise's revisions have this form, and OpenKruise compares revisions byte by byte. So that it finds its place again
//! after us, ours have it too: empty optional fields gone, empty structs kept, quantities canonical, a null
//! `creationTimestamp`, `resources: {}`. Defaults are not filled in: OpenKruise's webhook does that when a template
//! changes, its controller takes the stored template as it is. Fields that we do not know stay, in whatever form they are.
//!
//! Derived from core/v1 of Kubernetes 1.32; tested against its own output (`golden.json`).

use afloat_words::quantity;
use serde_json::{Map, Value, json};

/// Where containers stand in a pod's spec.
pub(crate) const LISTS: [&str; 2] = ["containers", "initContainers"];

/// All containers of a template, those that only prepare a pod among them.
pub(crate) fn containers_of(template: &Value) -> impl Iterator<Item = &Value> {
    let lists = LISTS
        .iter()
        .filter_map(|list| template.get("spec")?.get(list)?.as_array());
    lists.flatten()
}

/// The wire form of a template.
pub fn form(template: &Value) -> Value {
    let mut map = match template {
        Value::Object(map) => object("template", map),
        _ => Map::new(),
    };
    stamp(&mut map);
    let spec = map.entry("spec").or_insert_with(|| json!({}));
    if let Some(spec) = spec.as_object_mut() {
        spec.entry("containers").or_insert(Value::Null);
    }
    Value::Object(map)
}

/// The wire form of a volume claim's spec.
pub(crate) fn claim(spec: &Value) -> Map<String, Value> {
    let mut spec = match spec {
        Value::Object(map) => object("spec", map),
        _ => Map::new(),
    };
    spec.entry("resources").or_insert_with(|| json!({}));
    spec
}

/// Metadata that Go never leaves out.
fn stamp(owner: &mut Map<String, Value>) {
    let metadata = owner.entry("metadata").or_insert_with(|| json!({}));
    if let Some(metadata) = metadata.as_object_mut() {
        metadata.entry("creationTimestamp").or_insert(Value::Null);
    }
}

/// Maps of text: entries are data, not fields.
pub(crate) fn is_data(field: &str) -> bool {
    matches!(
        field,
        "labels" | "annotations" | "matchLabels" | "nodeSelector" | "volumeAttributes"
    )
}

/// Maps of quantities.
pub(crate) fn is_quantities(field: &str) -> bool {
    matches!(field, "limits" | "requests" | "overhead")
}

/// One object, reached through the field `name` (of itself, or of the list that it stands in).
fn object(name: &str, map: &Map<String, Value>) -> Map<String, Value> {
    let mut out = Map::new();
    for (key, value) in map {
        if let Some(value) = field(name, key, value) {
            out.insert(key.clone(), value);
        }
    }
    match name {
        "containers" | "initContainers" | "ephemeralContainers" => {
            out.entry("resources").or_insert_with(|| json!({}));
        }
        "resourceFieldRef" => {
            out.entry("divisor").or_insert(json!("0"));
        }
        "grpc" => {
            out.entry("service").or_insert(Value::Null);
        }
        "volumeClaimTemplate" => {
            stamp(&mut out);
            let spec = out.entry("spec").or_insert_with(|| json!({}));
            if let Some(spec) = spec.as_object_mut() {
                spec.entry("resources").or_insert_with(|| json!({}));
            }
        }
        _ => {}
    }
    out
}

/// The value of a field, None if Go leaves it out.
fn field(owner: &str, key: &str, value: &Value) -> Option<Value> {
    match value {
        Value::Null => None,
        Value::Object(map) if is_data(key) => {
            let text = |value: &Value| if value.is_null() { json!("") } else { value.clone() };
            let out: Map<_, _> = map.iter().map(|(key, value)| (key.clone(), text(value))).collect();
            (!out.is_empty()).then_some(Value::Object(out))
        }
        Value::Object(map) if is_quantities(key) => {
            let out: Map<_, _> = map.iter().map(|(key, value)| (key.clone(), amount(value))).collect();
            (!out.is_empty()).then_some(Value::Object(out))
        }
        Value::Object(map) => Some(Value::Object(object(key, map))),
        Value::Array(items) => {
            let item = |item: &Value| match item {
                Value::Object(map) => Value::Object(object(key, map)),
                other => other.clone(),
            };
            (!items.is_empty()).then(|| Value::Array(items.iter().map(item).collect()))
        }
        Value::String(text) if text.is_empty() => keeps_empty_text(owner, key).then(|| value.clone()),
        Value::Bool(false) => (!omits_false(owner, key)).then_some(Value::Bool(false)),
        Value::String(_) | Value::Number(_) if matches!(key, "divisor" | "sizeLimit") => Some(amount(value)),
        Value::Number(number) if number.as_f64() == Some(0.0) && omits_zero(owner, key) => None,
        other => Some(other.clone()),
    }
}

fn amount(value: &Value) -> Value {
    let text = match value {
        Value::Null => return json!("0"),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    quantity::canonical(&text).map_or_else(|| value.clone(), Value::String)
}

/// Text that Go holds by pointer, or that is no optional field.
fn keeps_empty_text(owner: &str, key: &str) -> bool {
    matches!(
        (owner, key),
        ("hostPath", "type")
            | ("grpc", "service")
            | ("httpHeaders" | "options" | "sysctls", "value")
            | (
                "securityContext" | "seccompProfile" | "appArmorProfile",
                "localhostProfile"
            )
            | (_, "storageClassName" | "volumeAttributesClassName" | "runtimeClassName")
    )
}

/// Truth values that Go holds plainly, so that false is as good as absent.
fn omits_false(owner: &str, key: &str) -> bool {
    match key {
        "hostNetwork" | "hostPID" | "hostIPC" | "stdin" | "stdinOnce" | "tty" => true,
        "chapAuthDiscovery" | "chapAuthSession" => owner == "iscsi",
        "sslEnabled" => owner == "scaleIO",
        "readOnly" => !matches!(owner, "csi" | "azureDisk"),
        _ => false,
    }
}

/// Numbers that Go holds plainly, so that zero is as good as absent.
fn omits_zero(owner: &str, key: &str) -> bool {
    match owner {
        "ports" => key == "hostPort",
        "livenessProbe" | "readinessProbe" | "startupProbe" => matches!(
            key,
            "initialDelaySeconds" | "timeoutSeconds" | "periodSeconds" | "successThreshold" | "failureThreshold"
        ),
        "awsElasticBlockStore" | "gcePersistentDisk" => key == "partition",
        _ => false,
    }
}
