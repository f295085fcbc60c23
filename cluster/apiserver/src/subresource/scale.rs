//! `scale`: the number of replicas of anything, read and written where the kind keeps it.

use afloat_machinery::kinds::{Resource, ScalePaths};
use afloat_machinery::strategy::{self, Part};
use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};

use crate::route::{Call, document};
use crate::status::Status;
use crate::write::{Change, ParsedPatch, check_versions, context};
use crate::{ApiServer, Body, reply, view};

/// Follows `.spec.replicas`.
fn at<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.')
        .filter(|s| !s.is_empty())
        .try_fold(object, |v, key| v.get(key))
}

fn set(object: &mut Value, path: &str, value: Value) {
    let mut keys: Vec<&str> = path.split('.').filter(|s| !s.is_empty()).collect();
    let Some(last) = keys.pop() else { return };
    let mut parent = object;
    for key in keys {
        view::child(parent, key);
        parent = &mut parent[key];
    }
    if let Some(map) = parent.as_object_mut() {
        map.insert(last.to_owned(), value);
    }
}

/// A selector as text: CRDs keep it so, built-in kinds as an object.
fn selector_text(selector: &Value) -> String {
    if let Some(text) = selector.as_str() {
        return text.to_owned();
    }
    // ReplicationControllers have a plain map.
    let plain = selector.get("matchLabels").is_none() && selector.get("matchExpressions").is_none();
    let exact = if plain { selector } else { &selector["matchLabels"] };
    let mut parts: Vec<String> = exact
        .as_object()
        .into_iter()
        .flatten()
        .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default()))
        .collect();
    for e in selector["matchExpressions"].as_array().into_iter().flatten() {
        let key = e["key"].as_str().unwrap_or_default();
        let values: Vec<&str> = e["values"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let values = values.join(",");
        parts.push(match e["operator"].as_str() {
            Some("In") => format!("{key} in ({values})"),
            Some("NotIn") => format!("{key} notin ({values})"),
            Some("DoesNotExist") => format!("!{key}"),
            _ => key.to_owned(),
        });
    }
    parts.join(",")
}

/// The `autoscaling/v1` Scale of an object.
fn scale_of(paths: &ScalePaths, object: &Value) -> Value {
    let number = |path: &str| at(object, path).and_then(Value::as_i64).unwrap_or(0);
    let meta = &object["metadata"];
    let mut kept = serde_json::Map::new();
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = meta.get(field) {
            kept.insert(field.to_owned(), value.clone());
        }
    }
    let mut scale = json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": kept,
        "spec": {"replicas": number(&paths.spec)}, "status": {"replicas": number(&paths.status)},
    });
    if let Some(selector) = paths.selector.as_ref().and_then(|path| at(object, path)) {
        scale["status"]["selector"] = selector_text(selector).into();
    }
    scale
}

/// The object with the replicas of a Scale.
fn scaled(resource: &Resource, paths: &ScalePaths, object: &Value, scale: &Value) -> Result<Value, Status> {
    let name = view::meta(object, "name");
    check_versions(resource, object, scale)?;
    let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
    if replicas < 0 || replicas > i64::from(i32::MAX) {
        let message = format!("Invalid value: {replicas}: must be greater than or equal to 0");
        return Err(Status::invalid_field(
            resource,
            name,
            "spec.replicas",
            "FieldValueInvalid",
            &message,
        ));
    }
    let mut new = object.clone();
    set(&mut new, &paths.spec, replicas.into());
    Ok(new)
}

impl ApiServer {
    pub(super) async fn scale(&self, call: &Call, body: &Bytes) -> Result<Response<Body>, Status> {
        let resource = &*call.resource;
        let paths = resource.scale.as_ref().ok_or_else(Status::no_such_resource)?;
        let answer = |stored: &Bytes| {
            let scale = scale_of(paths, &view::parse(resource, stored)?);
            reply::rendered(200, call.accept, scale.to_string().into())
        };
        if call.verb == "get" {
            let key = view::key(resource, call.namespace(), call.name());
            let entry = self
                .inner
                .store
                .get(&key)
                .ok_or_else(|| Status::not_found(resource, call.name()))?;
            return answer(&entry.value);
        }
        let patch = if call.verb == "patch" {
            Some(ParsedPatch::read(call, body)?)
        } else {
            None
        };
        let given = if patch.is_none() {
            document(&call.content_type, body)?
        } else {
            Value::Null
        };
        let written = self
            .modify(
                resource,
                call.namespace(),
                call.name(),
                call.query.dry_run()?,
                |current| {
                    let wanted = match &patch {
                        Some(patch) => patch.apply_to(resource, &scale_of(paths, current))?,
                        None => given.clone(),
                    };
                    let mut new = scaled(resource, paths, current, &wanted)?;
                    strategy::prepare_update(resource, Part::Main, current, &mut new, &context())
                        .map_err(|errors| Status::invalid(resource, call.name(), &errors))?;
                    Ok(Change::Put(new))
                },
            )
            .await?;
        if written.changed {
            self.inner
                .metrics
                .wrote(&call.user, call.verb, resource, "scale", call.namespace());
        }
        answer(&written.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_shows_replicas_and_selector() {
        let paths = ScalePaths {
            spec: ".spec.replicas".into(),
            status: ".status.replicas".into(),
            selector: Some(".spec.selector".into()),
        };
        let selector = json!({"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "c", "operator": "In", "values": ["d", "e"]}]});
        let object = json!({"metadata": {"name": "x"}, "spec": {"replicas": 3, "selector": selector}});
        let scale = scale_of(&paths, &object);
        assert_eq!(scale["spec"]["replicas"], 3);
        assert_eq!(scale["status"], json!({"replicas": 0, "selector": "a=b,c in (d,e)"}));
    }

    #[test]
    fn set_makes_missing_parents() {
        let mut object = json!({});
        set(&mut object, ".spec.replicas", 2.into());
        assert_eq!(object, json!({"spec": {"replicas": 2}}));
    }
}
