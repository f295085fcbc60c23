//! What Kubernetes' own types know: values of a wrong type.
//!
//! Objects stay JSON; they are only *read* into the typed structs here. Kinds that people write by hand have one in their
//! row; the others are taken as they are.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::FieldError;
use crate::field::{child, index, invalid};

/// Reads an object into the type of its kind.
pub(crate) type Read = fn(&Value) -> Result<(), serde_json::Error>;

/// Reads it as a `T`.
pub(crate) fn reads<T: DeserializeOwned>(object: &Value) -> Result<(), serde_json::Error> {
    T::deserialize(object).map(drop)
}

/// The first place where a value has another type than its field; metadata and status are not looked at.
pub(crate) fn wrong_type(kind: &str, read: Read, object: &Value) -> Option<FieldError> {
    let mut object = with_text_quantities(object);
    if let Some(fields) = object.as_object_mut() {
        // Both have validators of their own, or are the server's.
        fields.retain(|key, _| !["metadata", "status"].contains(&key.as_str()));
    }
    let problem = read(&object).err()?;
    let mut path = Vec::new();
    while let Some(step) = culprit(&object, &path, read) {
        path.push(step);
    }
    let place = path.iter().fold(String::new(), |place, step| match step {
        Step::Field(name) => child(&place, name),
        Step::Item(i) => index(&place, i),
    });
    let value = at(&mut object, &path).map_or(Value::Null, |v| v.clone());
    let field = if place.is_empty() { "<root>".to_owned() } else { place };
    Some(invalid(field, value, &format!("cannot be read as a {kind}: {problem}")))
}

/// One step on the way to a value.
#[derive(Clone, Debug)]
enum Step {
    Field(String),
    Item(usize),
}

/// The one child of the value at `path` without which the object can be read.
fn culprit(object: &Value, path: &[Step], read: Read) -> Option<Step> {
    let mut copy = object.clone();
    let steps: Vec<Step> = match at(&mut copy, path)? {
        Value::Object(fields) => fields.keys().cloned().map(Step::Field).collect(),
        Value::Array(items) => (0..items.len()).map(Step::Item).collect(),
        _ => Vec::new(),
    };
    steps.into_iter().find(|step| {
        let mut without = object.clone();
        match (at(&mut without, path), step) {
            (Some(Value::Object(fields)), Step::Field(name)) => {
                fields.remove(name);
            }
            (Some(Value::Array(items)), Step::Item(i)) => {
                items.remove(*i);
            }
            _ => {}
        }
        read(&without).is_ok()
    })
}

fn at<'a>(object: &'a mut Value, path: &[Step]) -> Option<&'a mut Value> {
    path.iter().try_fold(object, |value, step| match step {
        Step::Field(name) => value.get_mut(name),
        Step::Item(i) => value.get_mut(i),
    })
}

/// Fields whose values are maps of quantities, and fields that are one.
const QUANTITY_MAPS: &[&str] = &[
    "limits",
    "requests",
    "capacity",
    "allocatable",
    "allocatedResources",
    "overhead",
];
const QUANTITIES: &[&str] = &["sizeLimit", "divisor"];

/// Kubernetes reads a bare number as a quantity; the typed structs want text.
fn with_text_quantities(value: &Value) -> Value {
    let as_text = |value: &Value| {
        if value.is_number() {
            value.to_string().into()
        } else {
            with_text_quantities(value)
        }
    };
    match value {
        Value::Object(fields) => Value::Object(
            fields
                .iter()
                .map(|(key, value)| {
                    let value = match value {
                        Value::Object(map) if QUANTITY_MAPS.contains(&key.as_str()) => {
                            Value::Object(map.iter().map(|(k, v)| (k.clone(), as_text(v))).collect())
                        }
                        value if QUANTITIES.contains(&key.as_str()) => as_text(value),
                        value => with_text_quantities(value),
                    };
                    (key.clone(), value)
                })
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.iter().map(with_text_quantities).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::Registry;

    #[test]
    fn a_wrong_type_is_found_where_it_is() {
        let registry = Registry::builtin();
        let wrong = |api_version: &str, kind: &str, spec: Value| {
            let resource = registry.by_kind(api_version, kind).unwrap();
            let read = resource.builtin.and_then(|row| row.typed).unwrap();
            wrong_type(kind, read, &json!({"metadata": {"name": 5}, "spec": spec}))
                .map(|e| format!("{}: {}", e.field, e.message))
        };
        let pod = wrong(
            "v1",
            "Pod",
            json!({"containers": [{"name": "a"}, {"name": "b", "command": "sh"}]}),
        )
        .unwrap();
        assert!(
            pod.starts_with(
                r#"spec.containers[1].command: Invalid value: "sh": cannot be read as a Pod: invalid type"#
            ),
            "{pod}"
        );
        let labels = wrong(
            "apps/v1",
            "Deployment",
            json!({"replicas": 1, "template": {"metadata": {"labels": {"a": 5}}}}),
        )
        .unwrap();
        assert!(
            labels.starts_with("spec.template.metadata.labels.a: Invalid value: 5"),
            "{labels}"
        );
        assert_eq!(
            wrong(
                "apps/v1",
                "Deployment",
                json!({"replicas": 1, "strategy": {"rollingUpdate": {"maxSurge": "25%"}}})
            ),
            None
        );
        assert_eq!(
            wrong(
                "v1",
                "Pod",
                json!({"containers": [{"resources": {"limits": {"cpu": 1.5}}}], "volumes": null})
            ),
            None
        );
    }
}
