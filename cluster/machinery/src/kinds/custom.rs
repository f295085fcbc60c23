//! The rows that a CustomResourceDefinition adds.

use std::sync::Arc;

use serde_json::Value;

use crate::convert::custom::Conversion;
use crate::get;
use crate::resource::{Resource, ScalePaths};
use crate::schema::Rules;

/// One for each version that is served.
///
/// # Errors
/// Names the first field that is missing or has another type.
pub(super) fn rows(crd: &Value) -> Result<Vec<Resource>, String> {
    let text = |path: &[&str]| {
        get(crd, path)
            .and_then(Value::as_str)
            .map(str::to_owned)
            .ok_or_else(|| format!("{}: Required value", path.join(".")))
    };
    let list = |path: &[&str]| strings(get(crd, path));
    let versions = get(crd, &["spec", "versions"])
        .and_then(Value::as_array)
        .ok_or("spec.versions: Required value")?;
    let is = |version: &Value, flag: &str| version.get(flag).and_then(Value::as_bool) == Some(true);
    let name = |version: &Value| version.get("name").and_then(Value::as_str).map(str::to_owned);
    let storage = versions
        .iter()
        .find(|v| is(v, "storage"))
        .and_then(name)
        .ok_or("spec.versions: no version has storage: true")?;
    let (group, kind) = (text(&["spec", "group"])?, text(&["spec", "names", "kind"])?);
    let base = Resource {
        storage_group: group.clone(),
        group,
        version: String::new(),
        storage_version: storage,
        list_kind: text(&["spec", "names", "listKind"]).unwrap_or_else(|_| format!("{kind}List")),
        plural: text(&["spec", "names", "plural"])?,
        singular: text(&["spec", "names", "singular"]).unwrap_or_else(|_| kind.to_lowercase()),
        kind,
        short_names: list(&["spec", "names", "shortNames"]),
        categories: list(&["spec", "names", "categories"]),
        namespaced: text(&["spec", "scope"])? == "Namespaced",
        status: false,
        scale: None,
        subresources: Vec::new(),
        builtin: None,
        schema: None,
        rules: None,
        columns: Arc::new(Value::Null),
        conversion: Conversion::of(crd).map(Arc::new),
    };
    let served = versions.iter().filter(|v| is(v, "served"));
    served
        .map(|v| {
            Ok(row(
                base.clone(),
                name(v).ok_or("spec.versions[].name: Required value")?,
                v,
            ))
        })
        .collect()
}

fn row(base: Resource, name: String, version: &Value) -> Resource {
    let schema = get(version, &["schema", "openAPIV3Schema"])
        .cloned()
        .unwrap_or_else(|| serde_json::json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}));
    let scale = get(version, &["subresources", "scale"]);
    let path = |key: &str| {
        scale
            .and_then(|s| s.get(key))
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    Resource {
        version: name,
        status: get(version, &["subresources", "status"]).is_some_and(|s| !s.is_null()),
        scale: path("specReplicasPath")
            .zip(path("statusReplicasPath"))
            .map(|(spec, status)| ScalePaths {
                spec,
                status,
                selector: path("labelSelectorPath"),
            }),
        rules: Rules::compile(&schema),
        schema: Some(Arc::new(schema)),
        columns: Arc::new(version.get("additionalPrinterColumns").cloned().unwrap_or(Value::Null)),
        ..base
    }
}

fn strings(value: Option<&Value>) -> Vec<String> {
    let items = value.and_then(Value::as_array);
    items
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}
