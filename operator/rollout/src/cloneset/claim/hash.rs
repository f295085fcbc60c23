//! The hash of a set's volumeClaimTemplates, by which OpenKruise tells whether a pod's claims are those that are wanted. It stands
//! in an annotation of the revision that was wanted with them (`pkg/util/volumeclaimtemplate` of OpenKruise).

use afloat_api::CloneSet;
use serde_json::{Map, Value, json};

use crate::go::{bytes, bytes_hash};
use crate::pod::wire;

/// The value of [`afloat_api::names::CLAIMS_HASH`]; empty without templates.
pub(in crate::cloneset) fn claims_hash(set: &CloneSet) -> String {
    let mut templates: Vec<_> = super::templates(set).collect();
    if templates.is_empty() {
        return String::new();
    }
    templates.sort_by_key(|(name, _)| *name);
    let claims: Vec<_> = templates
        .into_iter()
        .map(|(name, template)| claim(name, template))
        .collect();
    bytes_hash(format!("[{}]", claims.join(",")).as_bytes()).to_string()
}

/// A claim as Go prints the struct that OpenKruise fills: name and spec, and what is never left out.
fn claim(name: &str, template: &Value) -> String {
    let spec = wire::claim(template.get("spec").unwrap_or(&Value::Null));
    let name = text(&json!(name));
    format!(
        r#"{{"metadata":{{"name":{name},"creationTimestamp":null}},"spec":{},"status":{{}}}}"#,
        fields(&spec)
    )
}

/// The fields of a claim's spec in the order of its Go struct.
fn fields(spec: &Map<String, Value>) -> String {
    const ORDER: [&str; 9] = [
        "accessModes",
        "selector",
        "resources",
        "volumeName",
        "storageClassName",
        "volumeMode",
        "dataSource",
        "dataSourceRef",
        "volumeAttributesClassName",
    ];
    let field = |key: &&str| {
        let value = spec.get(*key)?;
        let value = match *key {
            "selector" => selector(value),
            "dataSource" | "dataSourceRef" => source(value),
            // Sorted is the order of the struct.
            _ => text(value),
        };
        Some(format!("\"{key}\":{value}"))
    };
    format!("{{{}}}", ORDER.iter().filter_map(field).collect::<Vec<_>>().join(","))
}

fn selector(value: &Value) -> String {
    let field = |key: &&str| Some(format!("\"{key}\":{}", text(value.get(*key)?)));
    let fields: Vec<_> = ["matchLabels", "matchExpressions"].iter().filter_map(field).collect();
    format!("{{{}}}", fields.join(","))
}

/// Its group is never left out.
fn source(value: &Value) -> String {
    let mut value = value.clone();
    if let Some(map) = value.as_object_mut() {
        map.entry("apiGroup").or_insert(Value::Null);
    }
    text(&value)
}

fn text(value: &Value) -> String {
    String::from_utf8_lossy(&bytes(value)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(templates: Value) -> String {
        let set = json!({"spec": {"volumeClaimTemplates": templates}});
        claims_hash(&serde_json::from_value(set).unwrap())
    }

    /// The values are those of OpenKruise 1.9.1 itself (`getExpectHash`).
    #[test]
    fn hashes_are_openkruises() {
        assert_eq!(hash(json!([])), "");
        let claim = |name: &str, request: &str, limit: &str| {
            json!({"metadata": {"name": name, "labels": {"not": "hashed"}}, "spec": {
                "resources": {"requests": {"storage": request}, "limits": {"storage": limit}},
                "accessModes": ["ReadWriteOnce"]}, "status": {"phase": "Pending"}})
        };
        let both = [claim("pvc-2", "2Gi", "4Gi"), claim("pvc-1", "1024Mi", "2Gi")];
        assert_eq!(
            hash(json!(both)),
            "510584408",
            "sorted by name, amounts in canonical form"
        );
    }
}
