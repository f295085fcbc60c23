//! The scale subresource: `autoscaling/v1` Scale.

use serde_json::{Map, Value, json};

use crate::resource::Resource;

/// The Scale of an object.
///
/// # Errors
/// If the kind has no scale subresource, or the object has something other than a number where replicas belong.
pub fn scale_of(resource: &Resource, object: &Value) -> Result<Value, String> {
    let paths = resource.scale.as_ref().ok_or_else(|| no_scale(resource))?;
    let count = |path: &str| match follow(object, path) {
        None | Some(Value::Null) => Ok(0),
        Some(value) => value
            .as_i64()
            .ok_or_else(|| format!("{path} of {} is not a number: {value}", resource.kind)),
    };
    let mut status = json!({"replicas": count(&paths.status)?});
    if let Some(selector) = paths.selector.as_deref().and_then(|path| follow(object, path)) {
        let text = match selector {
            Value::String(text) => text.clone(),
            other => crate::selector::label_selector_text(other),
        };
        status["selector"] = text.into();
    }
    let mut metadata = Map::new();
    for key in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = crate::get(object, &["metadata", key]) {
            metadata.insert(key.to_owned(), value.clone());
        }
    }
    Ok(json!({
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": metadata,
        "spec": {"replicas": count(&paths.spec)?},
        "status": status,
    }))
}

/// Writes the wanted number of replicas into an object.
///
/// # Errors
/// If the kind has no scale subresource, or something on the path is not an object.
pub fn set_replicas(resource: &Resource, object: &mut Value, replicas: i64) -> Result<(), String> {
    let paths = resource.scale.as_ref().ok_or_else(|| no_scale(resource))?;
    let mut place = object;
    for step in paths.spec.split('.').filter(|s| !s.is_empty()) {
        let fields = place
            .as_object_mut()
            .ok_or_else(|| format!("{} does not lead through objects", paths.spec))?;
        place = fields.entry(step).or_insert_with(|| json!({}));
    }
    *place = replicas.into();
    Ok(())
}

fn no_scale(resource: &Resource) -> String {
    format!("{} has no scale subresource", resource.qualified_name())
}

fn follow<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.')
        .filter(|s| !s.is_empty())
        .try_fold(object, |value, step| value.get(step))
}
