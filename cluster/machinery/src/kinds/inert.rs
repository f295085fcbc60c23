//! What is stored here and does nothing: whoever writes it is told, in a Warning header, and it is listed in
//! `docs/compatibility.md`, which is held to what the rows say.

use serde_json::Value;

use crate::resource::{Inert, Kind, When};

/// Fields of all pods, and of all templates of pods. Paths begin below the pod's `spec`; `containers` are those of all kinds.
const OF_PODS: &[Inert] = &[
    Inert::set("affinity.podAffinity", "the scheduler does not look at it"),
    Inert::set("affinity.podAntiAffinity", "the scheduler does not look at it"),
    Inert::set("topologySpreadConstraints", "the scheduler does not look at it"),
    Inert::set("resourceClaims", "no device is allocated"),
    Inert {
        when: When::Is("OnRootMismatch"),
        ..Inert::set(
            "securityContext.fsGroupChangePolicy",
            "the files of volumes are gone through at every start",
        )
    },
    Inert {
        when: When::Is("HostToContainer"),
        ..Inert::set(
            "containers[].volumeMounts[].mountPropagation",
            "what is mounted later is not passed on",
        )
    },
    Inert {
        when: When::Is("Bidirectional"),
        ..Inert::set(
            "containers[].volumeMounts[].mountPropagation",
            "what is mounted later is not passed on",
        )
    },
    Inert::set(
        "containers[].volumeMounts[].recursiveReadOnly",
        "mounts below a mount that is read-only are as they were",
    ),
    Inert::set(
        "containers[].resources.limits.ephemeral-storage",
        "it is not measured, and nothing is evicted for it",
    ),
];

/// Where containers are.
const CONTAINERS: &[&str] = &["containers[]", "initContainers[]", "ephemeralContainers[]"];

/// What to say to whoever writes the object.
pub(crate) fn warnings(row: &Kind, object: &Value) -> Vec<String> {
    let mut told: Vec<String> = row
        .inert
        .map(|says| format!("{}: {says}", row.kind))
        .into_iter()
        .collect();
    let mut tell = |root: &Value, prefix: &str, path: &str, field: &Inert| {
        let steps: Vec<&str> = path.split('.').collect();
        if let Some(place) = find(root, &steps, prefix, field) {
            told.push(format!("{place}: {}", field.says));
        }
    };
    for field in row.inert_fields {
        tell(object, "", field.path, field);
    }
    if let Some(path) = row.describes_pods {
        let spec = crate::get(object, path).and_then(|pod| pod.get("spec"));
        let prefix = [path, &["spec"]].concat().join(".");
        for field in OF_PODS {
            for path in paths(field) {
                tell(spec.unwrap_or(&Value::Null), &prefix, &path, field);
            }
        }
    }
    told
}

fn paths(field: &Inert) -> Vec<String> {
    match field.path.strip_prefix(CONTAINERS[0]) {
        Some(rest) => CONTAINERS
            .iter()
            .map(|containers| format!("{containers}{rest}"))
            .collect(),
        None => vec![field.path.to_owned()],
    }
}

/// The first place at the end of the path whose value does nothing.
fn find(value: &Value, steps: &[&str], at: &str, field: &Inert) -> Option<String> {
    let Some((step, rest)) = steps.split_first() else {
        return applies(value, field.when).then(|| at.to_owned());
    };
    let (name, list) = step.strip_suffix("[]").map_or((*step, false), |name| (name, true));
    let (below, at) = (value.get(name)?, crate::field::child(at, name));
    if !list {
        return find(below, rest, &at, field);
    }
    let items = below.as_array()?.iter().enumerate();
    let mut found = items.filter_map(|(index, item)| find(item, rest, &crate::field::index(&at, index), field));
    found.next()
}

fn applies(value: &Value, when: When) -> bool {
    match (when, value) {
        (When::Is(wanted), value) => value.as_str() == Some(wanted),
        (When::Set, Value::Null | Value::Bool(false)) => false,
        (When::Set, Value::String(text)) => !text.is_empty() && text != "Disabled",
        (When::Set, Value::Array(items)) => !items.is_empty(),
        (When::Set, Value::Object(fields)) => !fields.is_empty(),
        (When::Set, _) => true,
    }
}

#[cfg(test)]
mod tests;
