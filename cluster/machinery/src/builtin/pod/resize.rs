//! What may change through `pods/resize`: cpu and memory of containers. Source: Kubernetes' `ValidatePodResize` (KEP-1287).
//!
//! As since 1.34 a memory limit may shrink without a restart; the node then waits until the container uses less.

use afloat_words::quantity::Quantity;
use serde_json::{Map, Value, json};

use super::qos_class;
use super::resources::RESIZABLE;
use crate::FieldError;
use crate::field::{child, forbidden, index, invalid};
use crate::json::{list, text};

const LISTS: [&str; 2] = ["containers", "initContainers"];

/// The old pod with the resources and resize policies of the new one. Containers that were added, removed, renamed or
/// reordered stay as they are, for the validation to find.
pub(crate) fn keep_all_but_resources(old: &Value, new: &mut Value) {
    let mut result = old.clone();
    if same_containers(old, new) {
        for key in LISTS {
            let Some(Value::Array(containers)) = result.get_mut("spec").and_then(|s| s.get_mut(key)) else {
                continue;
            };
            let wanted = containers.iter_mut().zip(list(new.get("spec"), key));
            for (container, wanted) in wanted.filter_map(|(c, w)| Some((c.as_object_mut()?, w))) {
                for field in ["resources", "resizePolicy"] {
                    match wanted.get(field) {
                        Some(value) => container.insert(field.to_owned(), value.clone()),
                        None => container.remove(field),
                    };
                }
            }
        }
    } else if let (Some(result), Some(spec)) = (result.as_object_mut(), new.get("spec")) {
        result.insert("spec".to_owned(), spec.clone());
    }
    *new = result;
}

fn same_containers(old: &Value, new: &Value) -> bool {
    let names = |pod: &'_ Value, key: &str| -> Vec<String> {
        let containers = list(pod.get("spec"), key).iter();
        containers.map(|c| text(c.get("name")).to_owned()).collect()
    };
    LISTS.iter().all(|key| names(old, key) == names(new, key))
}

/// Checks the step from one pod to the next.
pub(crate) fn validate(old: &Value, new: &Value) -> Vec<FieldError> {
    let refuse = |why: &str| vec![forbidden("", why)];
    if [old, new].into_iter().any(has_pod_resources) {
        return refuse("pods with pod-level resources cannot be resized");
    }
    if crate::get(old, &["metadata", "annotations", "kubernetes.io/config.mirror"]).is_some() {
        return refuse("static pods cannot be resized");
    }
    if crate::get(old, &["spec", "os", "name"]) == Some(&json!("windows")) {
        return refuse("windows pods cannot be resized");
    }
    let mut errors = Vec::new();
    // The class that the pod was created with, as the original has it.
    let class = text(crate::get(old, &["status", "qosClass"]));
    let class = if class.is_empty() { qos_class(old) } else { class };
    if class != qos_class(new) {
        errors.push(invalid(
            "spec",
            class,
            "Pod QOS Class may not change as a result of resizing",
        ));
    }
    if !node_resizes(old) {
        errors.push(forbidden("spec", "Pod running on node without support for resize"));
    }
    let order = containers_changed(old, new);
    if !order.is_empty() {
        errors.extend(order);
        return errors;
    }
    for key in ["initContainers", "containers"] {
        let pairs = list(old.get("spec"), key).iter().zip(list(new.get("spec"), key));
        for (i, (old, new)) in pairs.enumerate() {
            let path = child(&index(&child("spec", key), i), "resources");
            let plain_init = key == "initContainers" && old.get("restartPolicy") != Some(&json!("Always"));
            if plain_init {
                if semantic(old, false) != semantic(new, false) {
                    let why = "resources for non-sidecar init containers are immutable";
                    errors.push(forbidden("spec", why));
                }
                continue;
            }
            nothing_removed(old, new, &path, &mut errors);
            if semantic(old, true) != semantic(new, true) {
                let whose = if key == "containers" {
                    ""
                } else {
                    " for sidecar containers"
                };
                errors.push(forbidden(
                    "spec",
                    &format!("only cpu and memory resources{whose} are mutable"),
                ));
            }
        }
    }
    errors
}

fn has_pod_resources(pod: &Value) -> bool {
    ["requests", "limits"].iter().any(|which| {
        let amounts = crate::get(pod, &["spec", "resources", which]).and_then(Value::as_object);
        amounts.is_some_and(|a| !a.is_empty())
    })
}

/// Whether the pod's node reports the resources of what it runs; nobody can tell while nothing runs.
fn node_resizes(pod: &Value) -> bool {
    let mut statuses = list(pod.get("status"), "containerStatuses").iter();
    let running = statuses.find(|s| crate::get(s, &["state", "running"]).is_some_and(|r| !r.is_null()));
    running.is_none_or(|s| s.get("resources").is_some_and(|r| !r.is_null()))
}

fn containers_changed(old: &Value, new: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for key in LISTS {
        let (before, after) = (list(old.get("spec"), key), list(new.get("spec"), key));
        if before.len() != after.len() {
            let why = format!("{key} may not be added or removed on resize");
            errors.push(forbidden(child("spec", key), &why));
            continue;
        }
        let renamed = before.iter().zip(after).enumerate();
        for (i, _) in renamed.filter(|(_, (old, new))| old.get("name") != new.get("name")) {
            let field = child(&index(&child("spec", key), i), "name");
            errors.push(forbidden(
                field,
                &format!("{key} may not be renamed or reordered on resize"),
            ));
        }
    }
    errors
}

fn nothing_removed(old: &Value, new: &Value, path: &str, errors: &mut Vec<FieldError>) {
    for which in ["requests", "limits"] {
        let removed = amounts(old, which)
            .keys()
            .any(|name| crate::get(new, &["resources", which, name]).is_none_or(Value::is_null));
        if removed {
            errors.push(forbidden(
                child(path, which),
                &format!("resource {which} cannot be removed"),
            ));
        }
    }
}

fn amounts(container: &Value, which: &str) -> Map<String, Value> {
    let amounts = crate::get(container, &["resources", which]).and_then(Value::as_object);
    let amounts = amounts.into_iter().flatten().filter(|(_, amount)| !amount.is_null());
    amounts.map(|(name, amount)| (name.clone(), amount.clone())).collect()
}

/// A container in a form in which equal ones are equal: quantities by value, nothing empty. `resized`: without what a
/// resize may change, and without the default policy that a new request brings with it.
fn semantic(container: &Value, resized: bool) -> Value {
    let mut form = container.clone();
    let Some(fields) = form.as_object_mut() else {
        return form;
    };
    let mut resources = Map::new();
    for which in ["requests", "limits"] {
        let kept = amounts(container, which)
            .into_iter()
            .filter(|(name, _)| !(resized && RESIZABLE.contains(&name.as_str())))
            .map(|(name, amount)| {
                let value = Quantity::of_json(&amount).map_or(amount, |q| q.nano().to_string().into());
                (name, value)
            })
            .collect::<Map<_, _>>();
        resources.insert(which.to_owned(), kept.into());
    }
    let claims = list(container.get("resources"), "claims").to_vec();
    resources.insert("claims".to_owned(), claims.into());
    fields.insert("resources".to_owned(), resources.into());
    let policies = list(Some(container), "resizePolicy")
        .iter()
        .filter(|policy| !resized || policy.get("restartPolicy") != Some(&json!("NotRequired")));
    let policies = policies.cloned().collect();
    fields.insert("resizePolicy".to_owned(), Value::Array(policies));
    form
}
