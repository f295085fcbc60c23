//! Classes that pods name: PriorityClass and RuntimeClass.

use serde_json::{Map, Value, json};

use crate::FieldError;
use crate::field::{forbidden, invalid, not_supported};
use crate::json::{set, text};
use crate::metadata::validate_labels;
use crate::names;

/// Highest value of a class that is not the system's.
const HIGHEST: i64 = 1_000_000_000;
/// Classes whose names begin so are the system's.
const SYSTEM: &str = "system-";
const POLICIES: &[&str] = &["Never", "PreemptLowerPriority"];

/// The system's classes: name, value, what they are for. Source: Kubernetes' `SystemPriorityClasses`.
const SYSTEM_CLASSES: &[(&str, i64, &str)] = &[
    (
        "system-node-critical",
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
    (
        "system-cluster-critical",
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
];

/// Their names, for the row: they may not be deleted.
pub(crate) const SYSTEM_NAMES: &[&str] = &[SYSTEM_CLASSES[0].0, SYSTEM_CLASSES[1].0];

/// The PriorityClasses that every cluster has.
pub fn system_priority_classes() -> impl Iterator<Item = Value> {
    SYSTEM_CLASSES.iter().map(|(name, value, description)| {
        json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name},
            "value": value, "description": description, "preemptionPolicy": "PreemptLowerPriority"})
    })
}

/// Sets the defaults of a PriorityClass.
pub(crate) fn default_priority_class(class: &mut Value) {
    set(class.as_object_mut(), "preemptionPolicy", || {
        json!("PreemptLowerPriority")
    });
}

fn value_of(class: &Value) -> i64 {
    class.get("value").and_then(Value::as_i64).unwrap_or(0)
}

fn is_default(class: &Value) -> bool {
    class.get("globalDefault") == Some(&json!(true))
}

/// Checks a PriorityClass.
pub(crate) fn priority_class(class: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (name, value) = (text(crate::get(class, &["metadata", "name"])), value_of(class));
    if name.starts_with(SYSTEM) {
        if let Some(why) = not_the_systems(name, value, is_default(class)) {
            let detail =
                format!("priority class names with '{SYSTEM}' prefix are reserved for system use only. error: {why}");
            errors.push(forbidden("metadata.name", &detail));
        }
    } else if value > HIGHEST {
        let detail = format!("maximum allowed value of a user defined priority is {HIGHEST}");
        errors.push(forbidden("value", &detail));
    }
    let policy = text(class.get("preemptionPolicy"));
    if !POLICIES.contains(&policy) {
        errors.push(not_supported("preemptionPolicy", policy, POLICIES));
    }
    errors
}

fn not_the_systems(name: &str, value: i64, default: bool) -> Option<String> {
    match SYSTEM_CLASSES.iter().find(|(known, ..)| *known == name) {
        None => Some(format!("{name} is not a known system priority class")),
        Some((_, right, _)) if *right != value => Some(format!("value of {name} PriorityClass must be {right}")),
        Some(_) if default => Some(format!("globalDefault of {name} PriorityClass must be false")),
        Some(_) => None,
    }
}

/// Checks a changed PriorityClass: pods have its value already.
pub(crate) fn priority_class_update(old: &Value, new: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if value_of(old) != value_of(new) {
        errors.push(forbidden("value", "may not be changed in an update."));
    }
    errors.extend(unchanged(old, new, "preemptionPolicy"));
    errors
}

fn unchanged(old: &Value, new: &Value, field: &str) -> Option<FieldError> {
    let value = |object: &Value| object.get(field).cloned().unwrap_or(Value::Null);
    (value(old) != value(new)).then(|| invalid(field, value(new), "field is immutable"))
}

/// Checks a RuntimeClass.
pub(crate) fn runtime_class(class: &Value) -> Vec<FieldError> {
    let handler = text(class.get("handler"));
    let problems = names::dns_label(handler);
    let mut errors: Vec<FieldError> = problems.iter().map(|why| invalid("handler", handler, why)).collect();
    let selector = crate::get(class, &["scheduling", "nodeSelector"]);
    validate_labels("scheduling.nodeSelector", selector, &mut errors);
    errors
}

/// Checks a changed RuntimeClass.
pub(crate) fn runtime_class_update(old: &Value, new: &Value) -> Vec<FieldError> {
    unchanged(old, new, "handler").into_iter().collect()
}

/// Gives a new pod the priority of its class, or of the default one. `classes`: all PriorityClasses that there are. Source: admission
/// plugin Priority.
///
/// # Errors
/// Why the pod is refused.
pub fn give_priority(pod: &mut Value, classes: &[Value]) -> Result<(), String> {
    let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) else {
        return Ok(());
    };
    let named = text(spec.get("priorityClassName")).to_owned();
    let class = if named.is_empty() {
        // Of several the lowest, as where two were written at the same time.
        classes
            .iter()
            .filter(|class| is_default(class))
            .min_by_key(|class| value_of(class))
    } else {
        let found = classes
            .iter()
            .find(|class| text(crate::get(class, &["metadata", "name"])) == named);
        Some(found.ok_or_else(|| format!("no PriorityClass with name {named} was found"))?)
    };
    let value = class.map_or(0, value_of);
    let policy = class.map_or("PreemptLowerPriority", |class| text(class.get("preemptionPolicy")));
    let why = "must not be provided in pod spec; priority admission controller computed";
    match spec.get("priority").and_then(Value::as_i64) {
        Some(given) if given != value => {
            return Err(format!(
                "the integer value of priority ({given}) {why} {value} from the given PriorityClass name"
            ));
        }
        _ => {}
    }
    let given = text(spec.get("preemptionPolicy"));
    if !given.is_empty() && !policy.is_empty() && given != policy {
        return Err(format!(
            "the string value of PreemptionPolicy ({given}) {why} {policy} from the given PriorityClass name"
        ));
    }
    let name = class.map_or("", |class| text(crate::get(class, &["metadata", "name"])));
    if !name.is_empty() {
        spec.insert("priorityClassName".into(), json!(name));
    }
    spec.insert("priority".into(), json!(value));
    if !policy.is_empty() {
        spec.insert("preemptionPolicy".into(), json!(policy));
    }
    Ok(())
}

/// Whether a PriorityClass may be written beside the others: only one can be the default.
///
/// # Errors
/// Why it is refused.
pub fn one_default(class: &Value, all: &[Value]) -> Result<(), String> {
    let name = |class: &Value| text(crate::get(class, &["metadata", "name"])).to_owned();
    let other = all.iter().find(|other| is_default(other) && name(other) != name(class));
    match other.filter(|_| is_default(class)) {
        Some(other) => Err(format!(
            "PriorityClass {} is already marked as default. Only one default can exist",
            name(other)
        )),
        None => Ok(()),
    }
}

/// Gives a new pod what its RuntimeClass says of overhead and nodes. `class`: the one that it names, if there is such a one. Source:
/// admission plugin RuntimeClass.
///
/// # Errors
/// Why the pod is refused.
pub fn give_runtime(pod: &mut Value, class: Option<&Value>) -> Result<(), String> {
    let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) else {
        return Ok(());
    };
    let name = text(spec.get("runtimeClassName")).to_owned();
    if !name.is_empty() && class.is_none() {
        return Err(format!("pod rejected: RuntimeClass {name:?} not found"));
    }
    let set_in_pod = spec.get("overhead").filter(|overhead| !overhead.is_null()).cloned();
    let overhead = class
        .and_then(|class| class.get("overhead"))
        .filter(|overhead| !overhead.is_null());
    match (overhead, set_in_pod) {
        (None, Some(_)) => {
            return Err("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead".into());
        }
        (Some(overhead), given) => {
            let fixed = overhead.get("podFixed").cloned().unwrap_or_else(|| json!({}));
            let given = given.filter(|given| given.as_object().is_some_and(|map| !map.is_empty()));
            if given.is_some_and(|given| given != fixed) {
                return Err("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead".into());
            }
            spec.insert("overhead".into(), fixed);
        }
        (None, None) => {}
    }
    match class.and_then(|class| class.get("scheduling")) {
        Some(scheduling) => restrict(spec, scheduling),
        None => Ok(()),
    }
}

/// The pod's own node selector and tolerations, and those of its class.
fn restrict(spec: &mut Map<String, Value>, scheduling: &Value) -> Result<(), String> {
    let wanted = scheduling.get("nodeSelector").and_then(Value::as_object);
    for (key, value) in wanted.into_iter().flatten() {
        let Some(own) = spec.entry("nodeSelector").or_insert_with(|| json!({})).as_object_mut() else {
            break;
        };
        match own.get(key).filter(|own| *own != value) {
            Some(own) => {
                let (value, own) = (text(Some(value)), text(Some(own)));
                return Err(format!(
                    "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; pod.spec.nodeSelector[{key}] = {own}"
                ));
            }
            None => own.insert(key.clone(), value.clone()),
        };
    }
    let more = crate::json::list(Some(scheduling), "tolerations").to_vec();
    if let Some(tolerations) = spec.entry("tolerations").or_insert_with(|| json!([])).as_array_mut() {
        let new: Vec<Value> = more.into_iter().filter(|one| !tolerations.contains(one)).collect();
        tolerations.extend(new);
    }
    Ok(())
}

/// A client that replaces a pod without its priority means to keep it.
pub(crate) fn keep_priority(old: &Value, new: &mut Value) {
    for field in ["priority", "preemptionPolicy"] {
        let before = crate::get(old, &["spec", field]).cloned();
        if let Some(before) = before {
            set(new.get_mut("spec").and_then(Value::as_object_mut), field, || before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(spec: Value) -> Value {
        json!({"metadata": {"name": "p"}, "spec": spec})
    }

    #[test]
    fn a_pod_gets_the_priority_of_its_class() {
        let class = |name: &str, value: i64, more: Value| {
            let mut class =
                json!({"metadata": {"name": name}, "value": value, "preemptionPolicy": "PreemptLowerPriority"});
            class.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            class
        };
        let high = class("high", 1000, json!({"preemptionPolicy": "Never"}));
        let standard = class("standard", 5, json!({"globalDefault": true}));
        let without = [high.clone()];
        let with = [high, standard];
        let given = |spec: Value, classes: &[Value]| {
            let mut pod = pod(spec);
            give_priority(&mut pod, classes).map(|()| pod["spec"].clone())
        };
        let lower = "PreemptLowerPriority";
        assert_eq!(
            given(json!({}), &without),
            Ok(json!({"priority": 0, "preemptionPolicy": lower}))
        );
        let by_default = json!({"priorityClassName": "standard", "priority": 5, "preemptionPolicy": lower});
        assert_eq!(given(json!({}), &with), Ok(by_default));
        let named = json!({"priorityClassName": "high", "priority": 1000, "preemptionPolicy": "Never"});
        assert_eq!(given(json!({"priorityClassName": "high"}), &with), Ok(named.clone()));
        assert_eq!(given(named.clone(), &with), Ok(named));
        for (spec, why) in [
            (
                json!({"priorityClassName": "none"}),
                "no PriorityClass with name none was found",
            ),
            (
                json!({"priority": 7}),
                "the integer value of priority (7) must not be provided in pod spec; priority admission controller computed 5 from the given PriorityClass name",
            ),
            (
                json!({"priorityClassName": "high", "preemptionPolicy": lower}),
                "the string value of PreemptionPolicy (PreemptLowerPriority) must not be provided in pod spec; priority admission controller computed Never from the given PriorityClass name",
            ),
        ] {
            assert_eq!(given(spec, &with), Err(why.to_owned()));
        }
    }

    #[test]
    fn the_systems_classes_are_as_they_are() {
        for class in system_priority_classes() {
            assert_eq!(priority_class(&class), []);
        }
        let wrong = |class: Value| {
            let mut class = class;
            default_priority_class(&mut class);
            let errors = priority_class(&class);
            errors
                .iter()
                .map(|error| error.message.clone())
                .collect::<Vec<_>>()
                .join("; ")
        };
        let named = |name: &str, value: i64| json!({"metadata": {"name": name}, "value": value});
        let reserved = "Forbidden: priority class names with 'system-' prefix are reserved for system use only. error:";
        assert_eq!(
            wrong(named("system-mine", 1)),
            format!("{reserved} system-mine is not a known system priority class")
        );
        assert_eq!(
            wrong(named("system-node-critical", 1)),
            format!("{reserved} value of system-node-critical PriorityClass must be 2000001000")
        );
        assert_eq!(
            wrong(named("mine", 1_000_000_001)),
            "Forbidden: maximum allowed value of a user defined priority is 1000000000"
        );
        assert_eq!(wrong(named("mine", 1_000_000_000)), "");
    }

    #[test]
    fn a_pod_gets_what_its_runtime_class_says() {
        let class = json!({"metadata": {"name": "vm"}, "handler": "vm", "overhead": {"podFixed": {"cpu": "250m"}},
            "scheduling": {"nodeSelector": {"vm": "yes"}, "tolerations": [{"key": "vm", "operator": "Exists"}]}});
        let given = |spec: Value, class: Option<&Value>| {
            let mut pod = pod(spec);
            give_runtime(&mut pod, class).map(|()| pod["spec"].clone())
        };
        assert_eq!(given(json!({}), None), Ok(json!({})));
        assert_eq!(
            given(
                json!({"runtimeClassName": "vm", "nodeSelector": {"a": "b"}}),
                Some(&class)
            ),
            Ok(
                json!({"runtimeClassName": "vm", "nodeSelector": {"a": "b", "vm": "yes"},
                "overhead": {"cpu": "250m"}, "tolerations": [{"key": "vm", "operator": "Exists"}]})
            )
        );
        for (spec, class, why) in [
            (
                json!({"runtimeClassName": "none"}),
                None,
                "pod rejected: RuntimeClass \"none\" not found",
            ),
            (
                json!({"overhead": {"cpu": "1"}}),
                None,
                "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
            ),
            (
                json!({"runtimeClassName": "vm", "overhead": {"cpu": "1"}}),
                Some(&class),
                "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead",
            ),
            (
                json!({"runtimeClassName": "vm", "nodeSelector": {"vm": "no"}}),
                Some(&class),
                "conflict: runtimeClass.scheduling.nodeSelector[vm] = yes; pod.spec.nodeSelector[vm] = no",
            ),
        ] {
            assert_eq!(given(spec, class), Err(why.to_owned()));
        }
    }
}
