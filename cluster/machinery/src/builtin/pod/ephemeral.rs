//! What may change through `pods/ephemeralcontainers`: containers for debugging are added, and stay. Source: Kubernetes'
//! `ValidatePodEphemeralContainersUpdate` and `validateEphemeralContainers`.

use serde_json::{Map, Value};

use crate::FieldError;
use crate::field::{child, forbidden, index, not_found, required};
use crate::json::{list, text};

const PATH: &str = "spec.ephemeralContainers";
/// Fields of a container that one without guarantees cannot have.
const FORBIDDEN: [&str; 8] = [
    "lifecycle",
    "livenessProbe",
    "ports",
    "readinessProbe",
    "resizePolicy",
    "resources",
    "restartPolicy",
    "startupProbe",
];

/// The old pod with the ephemeral containers of the new one: nothing else changes.
pub(crate) fn keep_all_but_ephemeral_containers(old: &Value, new: &mut Value) {
    let mut result = old.clone();
    let wanted = new
        .get("spec")
        .and_then(|spec| spec.get("ephemeralContainers"))
        .cloned();
    if let Some(Value::Object(spec)) = result.get_mut("spec") {
        match wanted {
            Some(wanted) => spec.insert("ephemeralContainers".to_owned(), wanted),
            None => spec.remove("ephemeralContainers"),
        };
    }
    *new = result;
}

/// Checks a new pod, which has none.
pub(crate) fn validate_create(pod: &Value) -> Vec<FieldError> {
    if list(pod.get("spec"), "ephemeralContainers").is_empty() {
        return vec![];
    }
    vec![forbidden(PATH, "cannot be set on create")]
}

/// Checks the step from one pod to the next.
pub(crate) fn validate(old: &Value, new: &Value) -> Vec<FieldError> {
    let (before, after) = (
        list(old.get("spec"), "ephemeralContainers"),
        list(new.get("spec"), "ephemeralContainers"),
    );
    let mut errors = Vec::new();
    for old in before {
        let name = text(old.get("name"));
        match after.iter().find(|new| text(new.get("name")) == name) {
            None => errors.push(forbidden(
                PATH,
                &format!("existing ephemeral containers {name:?} may not be removed\n"),
            )),
            Some(new) if new != old => errors.push(forbidden(
                PATH,
                &format!("existing ephemeral containers {name:?} may not be changed\n"),
            )),
            Some(_) => {}
        }
    }
    let target = |name: &str| {
        let lists = ["containers", "initContainers"].iter();
        lists
            .flat_map(|key| list(new.get("spec"), key))
            .any(|container| text(container.get("name")) == name)
    };
    for (i, container) in after.iter().enumerate() {
        let path = index(PATH, i);
        let Some(fields) = container.as_object() else { continue };
        let wanted = text(fields.get("targetContainerName"));
        if !wanted.is_empty() && !target(wanted) {
            errors.push(not_found(child(&path, "targetContainerName"), wanted));
        }
        if text(fields.get("image")).is_empty() {
            errors.push(required(child(&path, "image"), ""));
        }
        errors.extend(forbidden_fields(fields, &path));
    }
    errors
}

fn forbidden_fields(container: &Map<String, Value>, path: &str) -> Vec<FieldError> {
    let set = |field: &&&str| match container.get(**field) {
        Some(Value::Object(object)) => !object.is_empty(),
        Some(Value::Array(items)) => !items.is_empty(),
        other => other.is_some_and(|value| !value.is_null()),
    };
    let mut errors: Vec<FieldError> = FORBIDDEN
        .iter()
        .filter(set)
        .map(|field| forbidden(child(path, field), "cannot be set for an Ephemeral Container"))
        .collect();
    let mounts = container.get("volumeMounts").and_then(Value::as_array);
    for (i, mount) in mounts.into_iter().flatten().enumerate() {
        for field in ["subPath", "subPathExpr"] {
            if !text(mount.get(field)).is_empty() {
                let at = child(&index(child(path, "volumeMounts").as_str(), i), field);
                errors.push(forbidden(at, "cannot be set for an Ephemeral Container"));
            }
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(ephemeral: Value) -> Value {
        json!({"spec": {"containers": [{"name": "web", "image": "web"}], "ephemeralContainers": ephemeral}})
    }

    fn refused(old: Value, new: Value) -> Vec<String> {
        let errors = validate(&pod(old), &pod(new));
        errors.iter().map(|e| format!("{}: {}", e.field, e.message)).collect()
    }

    #[test]
    fn they_are_added_and_stay() {
        let debug = json!([{"name": "debug", "image": "busybox", "targetContainerName": "web"}]);
        assert_eq!(refused(json!([]), debug.clone()), Vec::<String>::new());
        let removed = refused(debug.clone(), json!([]));
        assert!(removed[0].contains("\"debug\" may not be removed"), "{removed:?}");
        let changed = refused(debug, json!([{"name": "debug", "image": "other"}]));
        assert!(changed[0].contains("\"debug\" may not be changed"), "{changed:?}");
        assert_eq!(validate_create(&pod(json!([{"name": "x"}]))).len(), 1);
        assert!(validate_create(&pod(json!([]))).is_empty());
    }

    #[test]
    fn they_have_no_guarantees() {
        let container = json!([{
            "name": "d", "image": "", "targetContainerName": "nobody", "ports": [{"containerPort": 1}],
            "resources": {"limits": {"cpu": "1"}}, "lifecycle": {}, "volumeMounts": [{"name": "v", "subPath": "x"}],
        }]);
        assert_eq!(
            refused(json!([]), container),
            [
                "spec.ephemeralContainers[0].targetContainerName: Not found: \"nobody\"",
                "spec.ephemeralContainers[0].image: Required value",
                "spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container",
                "spec.ephemeralContainers[0].resources: Forbidden: cannot be set for an Ephemeral Container",
                "spec.ephemeralContainers[0].volumeMounts[0].subPath: Forbidden: cannot be set for an Ephemeral Container",
            ]
        );
    }

    #[test]
    fn nothing_else_changes() {
        let old = pod(json!([]));
        let mut new = pod(json!([{"name": "d"}]));
        new["spec"]["containers"][0]["image"] = json!("other");
        keep_all_but_ephemeral_containers(&old, &mut new);
        assert_eq!(new, pod(json!([{"name": "d"}])));
    }
}
