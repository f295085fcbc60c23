//! What `kubectl apply` would make of an object that is there: fields that an earlier apply set and this one does not have
//! go, fields that others set stay.
//!
//! The patch is the one that kubectl would send, by its rules
//! (<https://kubernetes.io/docs/tasks/manage-kubernetes-objects/declarative-config/#merge-patch-calculation>); the API
//! server is asked what it would store, and stores nothing.

use std::time::Duration;

use afloat_words::annotation::LAST_APPLIED;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use serde_json::{Map, Value, json};

/// Where kubectl keeps what it applied last.
/// Time limit of the request.
const LIMIT: Duration = Duration::from_secs(15);

/// What came of asking.
pub(super) enum Applied {
    /// This would be stored.
    Stored(Value),
    /// It would be refused, with these words.
    Refused(String),
    /// The API server could not be asked.
    Unknown(String),
}

/// Asks the API server what applying `new` over `live` would store.
pub(super) async fn ask(client: &Client, namespace: &str, live: &Value, new: &Value) -> Applied {
    let api_version = new["apiVersion"].as_str().unwrap_or_default();
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let kind = new["kind"].as_str().unwrap_or_default();
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let name = new["metadata"]["name"].as_str().unwrap_or_default();
    let last = live["metadata"]["annotations"][LAST_APPLIED].as_str();
    let last: Value = last
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    // Only kinds of Kubernetes itself know the keys of their lists.
    let builtin = group == "apps" || group.is_empty();
    let patch = patch(&last, new, builtin);
    let parameters = PatchParams {
        dry_run: true,
        ..PatchParams::default()
    };
    let patch = if builtin {
        Patch::Strategic(patch)
    } else {
        Patch::Merge(patch)
    };
    match tokio::time::timeout(LIMIT, api.patch(name, &parameters, &patch)).await {
        Ok(Ok(object)) => match serde_json::to_value(object) {
            Ok(mut stored) => {
                stored["apiVersion"] = new["apiVersion"].clone();
                stored["kind"] = new["kind"].clone();
                Applied::Stored(stored)
            }
            Err(error) => Applied::Unknown(error.to_string()),
        },
        Ok(Err(kube::Error::Api(status))) if [400, 422].contains(&status.code) => Applied::Refused(status.message),
        Ok(Err(error)) => Applied::Unknown(error.to_string()),
        Err(_) => Applied::Unknown(format!("no answer within {LIMIT:?}")),
    }
}

/// The patch: all of `new`, and the end of what only `last` has. With `strategic`, elements of lists that have a key are
/// told by it; other lists are one value.
fn patch(last: &Value, new: &Value, strategic: bool) -> Value {
    let mut patch = maps(last, new, strategic, "");
    if let Some(patch) = patch.as_object_mut() {
        // Not the client's to say.
        patch.remove("status");
        if let Some(meta) = patch.get_mut("metadata").and_then(Value::as_object_mut) {
            for key in [
                "resourceVersion",
                "uid",
                "generation",
                "creationTimestamp",
                "managedFields",
            ] {
                meta.remove(key);
            }
        }
    }
    patch
}

fn maps(last: &Value, new: &Value, strategic: bool, field: &str) -> Value {
    let (Some(last), Some(new)) = (last.as_object(), new.as_object()) else {
        return new.clone();
    };
    let mut patch = Map::new();
    for (key, value) in new {
        let before = last.get(key).unwrap_or(&Value::Null);
        let value = match (value, list_key(key, field).filter(|_| strategic)) {
            (Value::Object(_), _) => maps(before, value, strategic, key),
            (Value::Array(items), Some(by)) => lists(before, items, by, key),
            _ => value.clone(),
        };
        patch.insert(key.clone(), value);
    }
    for key in last.keys().filter(|key| !new.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    Value::Object(patch)
}

fn lists(last: &Value, new: &[Value], by: &str, field: &str) -> Value {
    let before: Vec<&Value> = last.as_array().into_iter().flatten().collect();
    let same = |a: &Value, b: &Value| a.get(by).is_some() && a.get(by) == b.get(by);
    let mut patch: Vec<Value> = new
        .iter()
        .map(|item| {
            let old = before.iter().find(|old| same(old, item));
            let mut changed = maps(old.unwrap_or(&&Value::Null), item, true, field);
            // A volume is of one kind: what it was before goes.
            if let (true, Some(keys)) = (field == "volumes", item.as_object()) {
                changed["$retainKeys"] = json!(keys.keys().collect::<Vec<_>>());
            }
            changed
        })
        .collect();
    for old in before.iter().filter(|old| !new.iter().any(|item| same(old, item))) {
        if let Some(key) = old.get(by) {
            patch.push(json!({"$patch": "delete", by: key}));
        }
    }
    Value::Array(patch)
}

/// What tells the elements of a list of Kubernetes' own pod templates apart; `field`: where the list is in. (From the
/// `patchMergeKey` of the API's reference.)
fn list_key(list: &str, field: &str) -> Option<&'static str> {
    Some(match list {
        "containers" | "initContainers" | "volumes" | "env" | "imagePullSecrets" => "name",
        "ports" if ["containers", "initContainers"].contains(&field) => "containerPort",
        "volumeMounts" => "mountPath",
        "volumeDevices" => "devicePath",
        "hostAliases" => "ip",
        "topologySpreadConstraints" => "topologyKey",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_set_stays_and_what_was_applied_before_goes() {
        let last = json!({"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"replicas": 3, "x": [1, 2]}});
        let new = json!({"metadata": {"labels": {"a": "1"}, "uid": "u"}, "spec": {"x": [1]}, "status": {}});
        assert_eq!(
            patch(&last, &new, false),
            json!({"metadata": {"labels": {"a": "1", "b": null}}, "spec": {"x": [1], "replicas": null}})
        );
        assert_eq!(
            patch(&Value::Null, &new, false),
            json!({"metadata": {"labels": {"a": "1"}}, "spec": {"x": [1]}}),
            "never applied before"
        );
    }

    #[test]
    fn elements_of_lists_are_told_apart_by_their_keys() {
        let container = |name: &str, env: &[&str]| {
            let env: Vec<_> = env.iter().map(|name| json!({"name": name, "value": "1"})).collect();
            json!({"name": name, "env": env, "ports": [{"containerPort": 80}]})
        };
        let last = json!({"spec": {"containers": [container("a", &["X", "Y"]), container("gone", &[])],
            "volumes": [{"name": "v", "emptyDir": {}}], "tolerations": [{"key": "k"}]}});
        let new = json!({"spec": {"containers": [container("a", &["X"])], "volumes": [{"name": "v", "secret": {}}],
            "tolerations": []}});
        assert_eq!(
            patch(&last, &new, true),
            json!({"spec": {
                "containers": [
                    {"name": "a", "ports": [{"containerPort": 80}],
                     "env": [{"name": "X", "value": "1"}, {"$patch": "delete", "name": "Y"}]},
                    {"$patch": "delete", "name": "gone"},
                ],
                "volumes": [{"name": "v", "secret": {}, "emptyDir": null, "$retainKeys": ["name", "secret"]}],
                "tolerations": [],
            }})
        );
    }
}
