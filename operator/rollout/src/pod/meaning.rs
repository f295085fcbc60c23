//! When two pod templates mean the same.
//!
//! OpenKruise compares revisions byte by byte. Its bytes come from Go structs, with their artefacts and with the
//! defaults that a webhook stored. We write the same form ([`wire`]), but *compare by meaning*: otherwise the first look
//! at a cluster that OpenKruise managed would find every pod outdated.

use afloat_words::quantity;
use serde_json::{Map, Value, json};

use crate::pod::{defaults, wire};

/// Whether two templates mean the same: they differ at most by what somebody fills in where nothing is said.
pub fn equivalent(a: &Value, b: &Value) -> bool {
    same("template", &canonical(a), &canonical(b))
}

/// A template in its wire form without empties and what is filled in ([`defaults`]). Pull policies stay, as they have two
/// defaults: whoever compares two of these uses [`same`].
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

/// Whether two values out of templates in [`canonical`] form, each reached through the field or list `owner`, mean the same.
pub fn same(owner: &str, a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(_), Value::Object(_)) if wire::is_data(owner) => a == b,
        (Value::Object(a), Value::Object(b)) => {
            let policy = defaults::pull_fields(owner).map(|(_, policy)| policy);
            let counts = |map: &Map<String, Value>| map.keys().filter(|key| Some(key.as_str()) != policy).count();
            let mut fields = a.iter().filter(|(key, _)| Some(key.as_str()) != policy);
            counts(a) == counts(b)
                && fields.all(|(key, value)| b.get(key).is_some_and(|other| same(key, value, other)))
                && defaults::same_pull_policy(owner, a, b)
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(owner, a, b)),
        _ => a == b,
    }
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
                .filter(|(key, value)| !defaults::is_default(field, key, value))
                .filter_map(|(key, value)| Some((key.clone(), strip(key, value)?)))
                .collect();
            defaults::drop_derived(field, &mut out);
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

#[cfg(test)]
mod tests {
    use super::*;

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
