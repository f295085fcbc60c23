//! Requests and limits of containers.

use std::collections::BTreeSet;

use afloat_words::quantity::Quantity;
use serde_json::{Map, Value, json};

use crate::FieldError;
use crate::field::{child, duplicate, index, invalid, not_supported, required};
use crate::json::{each, list, set, text};

/// A limit without a request is the request as well.
pub(crate) fn requests_from_limits(container: &mut Map<String, Value>) {
    each(container, "resources", |resources| {
        let Some(Value::Object(limits)) = resources.get("limits").cloned() else {
            return;
        };
        if limits.is_empty() {
            return;
        }
        set(Some(resources), "requests", || json!({}));
        each(resources, "requests", |requests| {
            for (name, limit) in &limits {
                set(Some(requests), name, || limit.clone());
            }
        });
    });
}

/// The resources that may change in a living pod.
pub(crate) const RESIZABLE: &[&str] = &["cpu", "memory"];
const RESIZE_POLICIES: &[&str] = &["NotRequired", "RestartContainer"];

/// A container with a request is resized without a restart, unless it says otherwise.
pub(crate) fn default_resize_policy(container: &mut Map<String, Value>) {
    for name in RESIZABLE {
        let requests = container.get("resources").and_then(|r| r.get("requests"));
        if requests.and_then(|r| r.get(*name)).is_none_or(Value::is_null) {
            continue;
        }
        set(Some(container), "resizePolicy", || json!([]));
        if let Some(Value::Array(policies)) = container.get_mut("resizePolicy")
            && !policies.iter().any(|p| p.get("resourceName") == Some(&json!(name)))
        {
            policies.push(json!({"resourceName": name, "restartPolicy": "NotRequired"}));
        }
    }
}

/// Checks `resizePolicy` of a container at `path`; `never`: the pod's containers are never restarted.
pub(crate) fn check_resize_policy(container: &Value, path: &str, never: bool, errors: &mut Vec<FieldError>) {
    let path = child(path, "resizePolicy");
    let mut seen = BTreeSet::new();
    for (i, policy) in list(Some(container), "resizePolicy").iter().enumerate() {
        let (name, restart) = (text(policy.get("resourceName")), text(policy.get("restartPolicy")));
        if !seen.insert(name) {
            errors.push(duplicate(index(&path, i), name));
        }
        for (value, supported) in [(name, RESIZABLE), (restart, RESIZE_POLICIES)] {
            if value.is_empty() {
                errors.push(required(path.as_str(), ""));
            } else if !supported.contains(&value) {
                errors.push(not_supported(path.as_str(), value, supported));
            }
        }
        if never && restart != "NotRequired" {
            let detail = "must be 'NotRequired' when `restartPolicy` is 'Never'";
            errors.push(invalid(path.as_str(), restart, detail));
        }
    }
}

/// Whether the container has a cpu or memory figure above zero in `requests` or `limits`.
pub(crate) fn has_compute(container: &Value, which: &str) -> bool {
    RESIZABLE
        .iter()
        .any(|name| amount(container, which, name).is_some_and(|q| q.nano() > 0))
}

/// Whether cpu and memory have limits that equal the requests.
pub(crate) fn is_guaranteed(container: &Value) -> bool {
    RESIZABLE.iter().all(|name| {
        let limit = amount(container, "limits", name);
        let request = amount(container, "requests", name).or(limit);
        limit.is_some_and(|q| q.nano() > 0) && limit == request
    })
}

fn amount(container: &Value, which: &str, name: &str) -> Option<Quantity> {
    Quantity::of_json(crate::get(container, &["resources", which, name])?).ok()
}

/// Checks the `resources` of a container.
pub(crate) fn check(resources: Option<&Value>, path: &str, errors: &mut Vec<FieldError>) {
    let Some(resources) = resources else { return };
    for which in ["limits", "requests"] {
        let Some(Value::Object(amounts)) = resources.get(which) else {
            continue;
        };
        for (name, amount) in amounts {
            let field = index(child(path, which).as_str(), name);
            match Quantity::of_json(amount) {
                Err(why) => errors.push(invalid(field, amount.clone(), &why.to_string())),
                Ok(asked) if asked.nano() < 0 => {
                    errors.push(invalid(field, amount.clone(), "must be greater than or equal to 0"));
                }
                Ok(asked) if which == "requests" => {
                    let limit = crate::get(resources, &["limits", name]);
                    if let Some((limit, text)) = limit.and_then(|l| Some((Quantity::of_json(l).ok()?, l)))
                        && asked > limit
                    {
                        let limit = text.as_str().map_or_else(|| text.to_string(), str::to_owned);
                        let detail = format!("must be less than or equal to {name} limit of {limit}");
                        errors.push(invalid(child(path, "requests"), amount.clone(), &detail));
                    }
                }
                Ok(_) => {}
            }
        }
    }
}
