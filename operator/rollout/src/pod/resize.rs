//! What an in-place update may change of cpu and memory, through the `resize` subresource (KEP-1287).

use std::collections::BTreeMap;
use std::fmt;

use afloat_words::quantity::{self, Quantity};
use serde_json::{Map, Value, json};

use crate::pod::change::Obstacle;
use crate::pod::object::Pod;
use crate::pod::resources::{PLACES, text};
use crate::pod::wire::containers_of;

/// What changes between the `resources` of a container in two templates; None if nothing does.
///
/// # Errors
/// The first difference that cannot be made on a live pod of any version: amounts that go, and anything but cpu and memory.
pub(crate) fn difference(old: Option<&Value>, new: Option<&Value>, path: &str) -> Result<Option<Value>, Obstacle> {
    let plain = |side: Option<&Value>, name: &str| -> Map<String, Value> {
        side.and_then(|side| side.get(name))
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default()
    };
    let part = |side: Option<&Value>, name: &str| {
        let mut amounts = plain(side, name);
        if name == "requests" {
            // A limit without a request is its own request: so it stands in the pod.
            for (name, limit) in plain(side, "limits") {
                amounts.entry(name).or_insert(limit);
            }
        }
        amounts
    };
    let rest = |side: Option<&Value>| -> Map<String, Value> {
        let mut rest = side.and_then(Value::as_object).cloned().unwrap_or_default();
        rest.retain(|key, _| key != "limits" && key != "requests");
        rest
    };
    if rest(old) != rest(new) {
        return Err(Obstacle(format!("{path}.resources")));
    }
    let mut change = json!({});
    for kind in ["limits", "requests"] {
        let (before, after) = (part(old, kind), part(new, kind));
        for name in before
            .keys()
            .chain(after.keys().filter(|name| !before.contains_key(*name)))
        {
            let place = format!("{path}.resources.{kind}.{name}");
            match (before.get(name), after.get(name)) {
                (Some(a), Some(b)) if quantity::same(&text(a), &text(b)) => {}
                (_, Some(b)) if name == "cpu" || name == "memory" => change[kind][name] = json!(text(b)),
                (Some(_), None) => return Err(Obstacle(format!("{place} (removed)"))),
                _ => return Err(Obstacle(place)),
            }
        }
    }
    Ok(change
        .as_object()
        .is_some_and(|change| !change.is_empty())
        .then_some(change))
}

/// Whether the memory limit of a container is lower in the second of two templates, and no restart is asked for.
pub(crate) fn lowers_memory(before: &Map<String, Value>, after: &Map<String, Value>) -> bool {
    let limit = |container: &Map<String, Value>| {
        let limits = container.get("resources")?.get("limits")?;
        Quantity::of_json(limits.get("memory")?).ok()
    };
    let policies = after.get("resizePolicy").and_then(Value::as_array);
    let mut policies = policies.into_iter().flatten();
    let restarts =
        policies.any(|policy| policy["resourceName"] == "memory" && policy["restartPolicy"] == "RestartContainer");
    !restarts && matches!((limit(before), limit(after)), (Some(a), Some(b)) if b.nano() < a.nano())
}

/// The same of the pod's own container and the amounts that it is to have.
pub(crate) fn shrinks(pod: &Pod, container: &str, amounts: &Value) -> bool {
    let Some(container) = pod.container(container) else {
        return false;
    };
    let present = container
        .resources
        .get("limits", "memory")
        .and_then(|text| text.parse::<Quantity>().ok());
    let wanted = amounts
        .pointer("/limits/memory")
        .and_then(|limit| Quantity::of_json(limit).ok());
    !container.restart_to_resize.iter().any(|resource| resource == "memory")
        && matches!((present, wanted), (Some(a), Some(b)) if b.nano() < a.nano())
}

/// Containers whose amounts in the pod's spec are not those of the template, with the template's. `later` are left out.
pub(crate) fn missing(pod: &Pod, template: &Value, later: &BTreeMap<String, Value>) -> BTreeMap<String, Value> {
    let wanted = |container: &Value| {
        let name = container.get("name")?.as_str()?;
        let resources = container.get("resources")?;
        let present = &pod.container(name)?.resources;
        let mut amounts = json!({});
        for (kind, resource) in PLACES {
            let limit = || resources.get("limits").filter(|_| kind == "requests")?.get(resource);
            let stated = resources
                .get(kind)
                .and_then(|amounts| amounts.get(resource))
                .or_else(limit);
            if let Some(value) = stated {
                amounts[kind][resource] = json!(text(value));
            }
        }
        (!later.contains_key(name) && !present.has(&amounts)).then(|| (name.to_owned(), amounts))
    };
    containers_of(template).filter_map(wanted).collect()
}

/// Quality-of-service classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QosClass {
    BestEffort,
    Burstable,
    Guaranteed,
}

impl fmt::Display for QosClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BestEffort => "BestEffort",
            Self::Burstable => "Burstable",
            Self::Guaranteed => "Guaranteed",
        })
    }
}

/// The quality-of-service class of a pod of this template
/// (<https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/>).
pub(crate) fn qos_class(template: &Value) -> QosClass {
    let spec = template.get("spec");
    let lists = ["containers", "initContainers"].map(|list| spec?.get(list)?.as_array());
    let amount = |container: &Value, kind: &str, name: &str| {
        let value = container.pointer(&format!("/resources/{kind}/{name}")).map(text)?;
        (!quantity::same(&value, "0")).then_some(value)
    };
    let (mut any, mut guaranteed) = (false, true);
    for container in lists.into_iter().flatten().flatten() {
        for name in ["cpu", "memory"] {
            let limit = amount(container, "limits", name);
            // A limit without a request is its own request.
            let request = amount(container, "requests", name).or_else(|| limit.clone());
            any |= limit.is_some() || request.is_some();
            guaranteed &= matches!((&limit, &request), (Some(a), Some(b)) if quantity::same(a, b));
        }
    }
    match (any, guaranteed) {
        (false, _) => QosClass::BestEffort,
        (true, true) => QosClass::Guaranteed,
        (true, false) => QosClass::Burstable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_change_and_nothing_else_does() {
        let before = json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}});
        let change = |after: Value| difference(Some(&before), Some(&after), "c").map_err(|obstacle| obstacle.0);
        assert_eq!(
            change(json!({"limits": {"cpu": 1, "memory": "1024Mi"}, "requests": {"cpu": 0.5}})),
            Ok(None)
        );
        assert_eq!(
            change(json!({"limits": {"cpu": 2, "memory": "1Gi"}, "requests": {"cpu": "500m"}})),
            Ok(Some(json!({"limits": {"cpu": "2"}})))
        );
        assert_eq!(
            difference(
                Some(&json!({"limits": {"cpu": "1"}})),
                Some(&json!({"limits": {"cpu": "2"}})),
                "c"
            )
            .unwrap(),
            Some(json!({"limits": {"cpu": "2"}, "requests": {"cpu": "2"}})),
            "the pod has the limit as its request"
        );
        assert_eq!(
            change(json!({"limits": {"cpu": "1"}, "requests": {"cpu": "500m"}})),
            Err("c.resources.limits.memory (removed)".to_owned())
        );
        assert_eq!(
            change(json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m", "memory": "1Gi"}})),
            Ok(None),
            "its limit was its request"
        );
        assert_eq!(
            change(json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m", "memory": "512Mi"}})),
            Ok(Some(json!({"requests": {"memory": "512Mi"}})))
        );
        let bare = json!({"requests": {"cpu": "500m"}});
        assert_eq!(
            difference(
                Some(&bare),
                Some(&json!({"requests": {"cpu": "500m"}, "limits": {"memory": "1Gi"}})),
                "c"
            )
            .unwrap(),
            Some(json!({"limits": {"memory": "1Gi"}, "requests": {"memory": "1Gi"}})),
            "an amount may come"
        );
        assert_eq!(
            difference(None, Some(&json!({"claims": []})), "c").unwrap_err().0,
            "c.resources"
        );
        let gpu = |n: &str| json!({"limits": {"example.com/gpu": n}});
        assert_eq!(
            difference(Some(&gpu("1")), Some(&gpu("2")), "c").unwrap_err().0,
            "c.resources.limits.example.com/gpu"
        );
    }

    #[test]
    fn classes() {
        let class = |resources: Value| qos_class(&json!({"spec": {"containers": [{"resources": resources}]}}));
        assert_eq!(class(json!({})), QosClass::BestEffort);
        assert_eq!(
            class(json!({"limits": {"cpu": "1", "memory": "1Gi"}})),
            QosClass::Guaranteed
        );
        assert_eq!(
            class(json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "0.5"}})),
            QosClass::Burstable
        );
        assert_eq!(class(json!({"requests": {"cpu": "1"}})), QosClass::Burstable);
    }
}
