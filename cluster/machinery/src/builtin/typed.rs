//! What Kubernetes' own types know: fields that do not exist, and values of a wrong type.
//!
//! Objects stay JSON; they are only *read* into the typed structs here, and what comes out again is compared. Kinds that
//! people write by hand are covered; the others are taken as they are.

use k8s_openapi::api::{apps, batch, core, policy};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::FieldError;
use crate::field::{child, index, invalid};
use crate::kinds::Resource;

/// Reads an object into the type of its kind and writes it again.
type RoundTrip = fn(&Value) -> Result<Value, serde_json::Error>;

fn round_trip_of(resource: &Resource) -> Option<RoundTrip> {
    Some(match (resource.group.as_str(), resource.kind.as_str()) {
        ("", "ConfigMap") => round_trip::<core::v1::ConfigMap>,
        ("", "Namespace") => round_trip::<core::v1::Namespace>,
        ("", "PersistentVolumeClaim") => round_trip::<core::v1::PersistentVolumeClaim>,
        ("", "Pod") => round_trip::<core::v1::Pod>,
        ("", "Secret") => round_trip::<core::v1::Secret>,
        ("", "Service") => round_trip::<core::v1::Service>,
        ("", "ServiceAccount") => round_trip::<core::v1::ServiceAccount>,
        ("apps", "DaemonSet") => round_trip::<apps::v1::DaemonSet>,
        ("apps", "Deployment") => round_trip::<apps::v1::Deployment>,
        ("apps", "ReplicaSet") => round_trip::<apps::v1::ReplicaSet>,
        ("apps", "StatefulSet") => round_trip::<apps::v1::StatefulSet>,
        ("batch", "CronJob") => round_trip::<batch::v1::CronJob>,
        ("batch", "Job") => round_trip::<batch::v1::Job>,
        ("policy", "PodDisruptionBudget") => round_trip::<policy::v1::PodDisruptionBudget>,
        _ => return None,
    })
}

fn round_trip<T: DeserializeOwned + Serialize>(object: &Value) -> Result<Value, serde_json::Error> {
    serde_json::to_value(T::deserialize(object)?)
}

/// Paths of fields that the kind's type does not have. Nothing if the object cannot be read at all.
pub(crate) fn unknown_fields(resource: &Resource, object: &Value) -> Vec<String> {
    let mut unknown = Vec::new();
    if let Some(known) = round_trip_of(resource).and_then(|read| read(&with_text_quantities(object)).ok()) {
        lost(object, &known, "", &mut unknown);
    }
    unknown
}

/// The first place where a value has another type than its field; metadata and status are not looked at.
pub(super) fn wrong_type(resource: &Resource, object: &Value) -> Option<FieldError> {
    let read = round_trip_of(resource)?;
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
    Some(invalid(
        field,
        value,
        &format!("cannot be read as a {}: {problem}", resource.kind),
    ))
}

/// One step on the way to a value.
#[derive(Clone, Debug)]
enum Step {
    Field(String),
    Item(usize),
}

/// The one child of the value at `path` without which the object can be read.
fn culprit(object: &Value, path: &[Step], read: RoundTrip) -> Option<Step> {
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

/// Notes what was there before and is not there after. Nulls and empty values mean nothing, so they are not missed.
fn lost(before: &Value, after: &Value, path: &str, unknown: &mut Vec<String>) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            for (key, value) in before.iter().filter(|(_, value)| !value.is_null()) {
                match after.get(key) {
                    Some(kept) => lost(value, kept, &child(path, key), unknown),
                    None => unknown.push(child(path, key)),
                }
            }
        }
        (Value::Array(before), Value::Array(after)) => {
            let pairs = before.iter().zip(after).enumerate();
            pairs.for_each(|(i, (before, after))| lost(before, after, &index(path, i), unknown));
        }
        _ => {}
    }
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
    fn unknown_fields_are_found_and_known_ones_are_not() {
        let registry = Registry::builtin();
        let deployment = registry.by_kind("apps/v1", "Deployment").unwrap();
        let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x", "creationTimestamp": null, "labels": {"any": "thing"}},
            "spec": {"replica": 3, "replicas": 3, "template": {"spec": {"containers": [
                {"name": "a", "image": "a", "imagePullPolice": "Always", "resources": {"limits": {"cpu": 1, "memory": "1Gi"}}, "env": []}],
                "volumes": [{"name": "v", "emptyDir": {"sizeLimit": 5}}]}}}, "typo": 1});
        let wanted = [
            "spec.replica",
            "spec.template.spec.containers[0].imagePullPolice",
            "typo",
        ];
        assert_eq!(unknown_fields(&deployment, &object), wanted);
        let lease = registry.by_kind("coordination.k8s.io/v1", "Lease").unwrap();
        assert!(unknown_fields(&lease, &json!({"typo": 1})).is_empty());
    }

    #[test]
    fn a_wrong_type_is_found_where_it_is() {
        let registry = Registry::builtin();
        let wrong = |api_version: &str, kind: &str, spec: Value| {
            let resource = registry.by_kind(api_version, kind).unwrap();
            wrong_type(&resource, &json!({"metadata": {"name": 5}, "spec": spec}))
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
