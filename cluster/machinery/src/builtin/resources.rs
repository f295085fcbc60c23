//! Requests and limits of containers.

use serde_json::{Map, Value, json};

use super::{each, set};
use crate::FieldError;
use crate::field::{child, invalid};
use crate::quantity;

/// A limit without a request is the request as well.
pub(super) fn requests_from_limits(container: &mut Map<String, Value>) {
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

/// Whether the container has a cpu or memory figure above zero in `requests` or `limits`.
pub(super) fn has_compute(container: &Value, which: &str) -> bool {
    ["cpu", "memory"]
        .iter()
        .any(|name| amount(container, which, name).is_some_and(|n| n > 0))
}

/// Whether cpu and memory have limits that equal the requests.
pub(super) fn is_guaranteed(container: &Value) -> bool {
    ["cpu", "memory"].iter().all(|name| {
        let limit = amount(container, "limits", name);
        let request = amount(container, "requests", name).or(limit);
        limit.is_some_and(|n| n > 0) && limit == request
    })
}

fn amount(container: &Value, which: &str, name: &str) -> Option<i128> {
    quantity::nano(crate::get(container, &["resources", which, name])?)
}

/// Checks the `resources` of a container.
pub(super) fn check(resources: Option<&Value>, path: &str, errors: &mut Vec<FieldError>) {
    let Some(resources) = resources else { return };
    for which in ["limits", "requests"] {
        let Some(Value::Object(amounts)) = resources.get(which) else {
            continue;
        };
        for (name, amount) in amounts {
            let field = crate::field::index(child(path, which).as_str(), name);
            match quantity::nano(amount) {
                None => errors.push(invalid(field, amount.clone(), NOT_A_QUANTITY)),
                Some(n) if n < 0 => errors.push(invalid(field, amount.clone(), "must be greater than or equal to 0")),
                Some(n) if which == "requests" => {
                    let limit = crate::get(resources, &["limits", name]);
                    if let Some((limit, text)) = limit.and_then(|l| Some((quantity::nano(l)?, l)))
                        && n > limit
                    {
                        let limit = text.as_str().map_or_else(|| text.to_string(), str::to_owned);
                        let detail = format!("must be less than or equal to {name} limit of {limit}");
                        errors.push(invalid(child(path, "requests"), amount.clone(), &detail));
                    }
                }
                Some(_) => {}
            }
        }
    }
}

/// Kubernetes' text for something that is no quantity.
const NOT_A_QUANTITY: &str =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
