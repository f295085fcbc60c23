//! What is filled in changes nothing, and nothing else is taken for it.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::pod::inplace::compare;
use crate::pod::meaning::{canonical, equivalent};

impl Default {
    fn value(self) -> Value {
        match self {
            Self::Text(text) => json!(text),
            Self::Number(number) => json!(number),
            Self::Flag(flag) => json!(flag),
        }
    }
}

/// Templates with all sorts of fields: as somebody writes them, and as OpenKruise's webhook stores them, but for the pull
/// policies, which are Kubernetes' there.
fn goldens() -> Vec<(Value, Value)> {
    let all: Vec<Value> = serde_json::from_str(include_str!("../../workload/revision/golden.json")).unwrap();
    let stored = |raw: &Value| -> Value {
        let data: Value = serde_json::from_str(raw.as_str().unwrap()).unwrap();
        let mut template = data["spec"]["template"].clone();
        template.as_object_mut().unwrap().remove("$patch");
        template
    };
    all.iter()
        .map(|golden| (golden["template"].clone(), stored(&golden["defaulted"]["raw"])))
        .collect()
}

/// One that has what the others lack: every kind of default has a place to be filled into.
fn full() -> Value {
    json!({"metadata": {"labels": {"app": "x"}}, "spec": {
        "initContainers": [{"name": "i", "image": "i:latest", "resources": {"limits": {"cpu": "1"}}}],
        "volumes": [{"name": "none"}, {"name": "path", "hostPath": {"path": "/"}}, {"name": "image", "image": {"reference": "a"}}],
        "containers": [
            {"name": "c", "image": "c:1@sha256:0", "securityContext": {"privileged": false}, "ports": [{"containerPort": 1}],
                "resources": {"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "1"}},
                "readinessProbe": {"grpc": {"port": 1}}, "livenessProbe": {"httpGet": {"port": 1}}},
            {"name": "d", "image": "d:1", "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]}]}})
}

/// Fills defaults in where nothing is said and `yes` agrees, as the API server and the webhook do.
fn fill(owner: &str, value: &mut Value, yes: &mut impl FnMut() -> bool) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| fill(owner, item, yes)),
        Value::Object(map) if !crate::pod::wire::is_data(owner) => {
            for (owners, field, default) in DEFAULTS {
                if owners.contains(&owner) && !map.contains_key(*field) && yes() {
                    map.insert((*field).into(), default.value());
                }
            }
            if let Some((image, policy)) = pull_fields(owner)
                && !map.contains_key(policy)
                && yes()
            {
                let name = ImageName::of(map.get(image).and_then(Value::as_str).unwrap_or_default());
                let latest = name.tag() == Some("latest");
                let always = latest || owner == "containers" && yes();
                map.insert(policy.into(), json!(if always { "Always" } else { "IfNotPresent" }));
            }
            fill_empty(owner, map, yes);
            if matches!(owner, "containers" | "initContainers") {
                fill_derived(map, yes);
            }
            for (key, value) in map.iter_mut() {
                fill(key, value, yes);
            }
        }
        _ => {}
    }
}

fn fill_empty(owner: &str, map: &mut Map<String, Value>, yes: &mut impl FnMut() -> bool) {
    let empties = [
        ("spec", "securityContext", json!({})),
        ("hostPath", "type", json!("")),
        ("grpc", "service", json!("")),
        ("containers", "resources", json!({})),
        ("metadata", "creationTimestamp", Value::Null),
    ];
    for (place, field, empty) in empties {
        if place == owner && !map.contains_key(field) && yes() {
            map.insert(field.into(), empty);
        }
    }
    if owner == "volumes" && map.len() == 1 && yes() {
        map.insert("emptyDir".into(), json!({}));
    }
}

fn fill_derived(container: &mut Map<String, Value>, yes: &mut impl FnMut() -> bool) {
    let Some(limits) = container
        .get("resources")
        .and_then(|resources| resources.get("limits"))
        .cloned()
    else {
        return;
    };
    let limits = limits.as_object().unwrap();
    let requests = &mut container["resources"]["requests"];
    for (name, limit) in limits {
        if requests.get(name).is_none() && yes() {
            requests[name] = limit.clone();
        }
    }
    if requests.is_null() {
        container["resources"].as_object_mut().unwrap().remove("requests");
    }
    if yes() {
        let policies = container.entry("resizePolicy").or_insert_with(|| json!([]));
        let policy = json!({"resourceName": "memory", "restartPolicy": "NotRequired"});
        policies.as_array_mut().unwrap().push(policy);
    }
}

/// All values that are neither objects nor lists.
fn leaves(value: &Value) -> Vec<String> {
    let below = |key: String, value: &Value| -> Vec<String> {
        let key = key.replace('~', "~0").replace('/', "~1");
        leaves(value).into_iter().map(|rest| format!("/{key}{rest}")).collect()
    };
    match value {
        Value::Object(map) => map.iter().flat_map(|(key, value)| below(key.clone(), value)).collect(),
        Value::Array(items) => {
            let items = items.iter().enumerate();
            items.flat_map(|(at, value)| below(at.to_string(), value)).collect()
        }
        _ => vec![String::new()],
    }
}

/// A value that is nobody's default.
fn other(value: &Value) -> Value {
    match value {
        Value::Bool(flag) => json!(!*flag),
        Value::Number(number) => json!(number.as_f64().unwrap_or_default() * 2.0 + 7.0),
        _ => json!("another"),
    }
}

fn bases() -> Vec<Value> {
    let goldens = goldens().into_iter().flat_map(|(template, stored)| [template, stored]);
    goldens.chain([full()]).collect()
}

#[test]
fn every_default_has_a_place_in_the_tests() {
    let bases = bases();
    for (owners, field, default) in DEFAULTS {
        for owner in *owners {
            let filled = bases.iter().any(|base| {
                let mut filled = base.clone();
                fill("template", &mut filled, &mut || true);
                holds("template", &filled, owner, field, &default.value())
            });
            // A probe of a container that is made later, and volumes' defaults that one golden states otherwise, count as well.
            assert!(filled, "{owner}.{field}");
        }
    }
}

fn holds(at: &str, value: &Value, owner: &str, field: &str, wanted: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(|item| holds(at, item, owner, field, wanted)),
        Value::Object(map) => {
            at == owner && map.get(field) == Some(wanted)
                || map.iter().any(|(key, value)| holds(key, value, owner, field, wanted))
        }
        _ => false,
    }
}

proptest! {
    /// Any subset of what may be filled in, on one side or on both.
    #[test]
    fn filling_in_changes_nothing(base in prop::sample::select(bases()), choices in prop::collection::vec(any::<bool>(), 400)) {
        let mut choices = choices.into_iter().cycle();
        let mut some = base.clone();
        fill("template", &mut some, &mut || choices.next().unwrap());
        prop_assert!(equivalent(&base, &some), "{some:#}");
        prop_assert!(equivalent(&some, &base));
        let once = canonical(&some);
        prop_assert_eq!(canonical(&once), once);
        let change = compare(&base, &some);
        prop_assert_eq!(change, Ok(crate::pod::change::Change::default()));
    }

    /// Whatever else is filled in beside it.
    #[test]
    fn a_real_difference_is_seen(
        base in prop::sample::select(bases()),
        choices in prop::collection::vec(any::<bool>(), 400),
        place in any::<prop::sample::Index>(),
    ) {
        let mut choices = choices.into_iter().cycle();
        let mut some = base.clone();
        fill("template", &mut some, &mut || choices.next().unwrap());
        let leaves = leaves(&some);
        let pointer = place.get(&leaves);
        let value = some.pointer_mut(pointer).unwrap();
        *value = other(value);
        // That a resize restarts nothing holds of every resource.
        let idle = pointer.contains("/resizePolicy/") && pointer.ends_with("/resourceName");
        prop_assert!(idle || !equivalent(&base, &some), "{pointer} does not count");
        prop_assert!(idle || !equivalent(&some, &base), "{pointer} does not count");
    }
}

#[test]
fn a_policy_that_is_said_is_meant() {
    let template = |image: &str, policy: Option<&str>| {
        let mut template = json!({"spec": {"containers": [{"name": "c", "image": image}]}});
        if let Some(policy) = policy {
            template["spec"]["containers"][0]["imagePullPolicy"] = json!(policy);
        }
        template
    };
    for (image, a, b, same) in [
        ("c:1", None, Some("Always"), true),
        ("c:1", None, Some("IfNotPresent"), true),
        ("c:1", None, Some("Never"), false),
        ("c:1", Some("IfNotPresent"), Some("Always"), false),
        ("c:latest", None, Some("IfNotPresent"), false),
        ("c", None, Some("Always"), true),
        ("c:latest@sha256:0", None, Some("Always"), true),
    ] {
        let (a, b) = (template(image, a), template(image, b));
        assert_eq!(equivalent(&a, &b), same, "{a} {b}");
        assert_eq!(equivalent(&b, &a), same, "{b} {a}");
        assert_eq!(compare(&a, &b).is_ok(), same, "{a} {b}");
    }
    // Of init containers OpenKruise has Kubernetes' default.
    let init =
        |policy: Value| json!({"spec": {"initContainers": [{"name": "i", "image": "i:1", "imagePullPolicy": policy}]}});
    assert!(!equivalent(&init(json!("Always")), &init(Value::Null)));
    assert!(equivalent(&init(json!("IfNotPresent")), &init(Value::Null)));
}

/// The revision of OpenKruise has its defaults, the manifest has none.
#[test]
fn the_first_new_image_after_a_takeover_changes_in_place() {
    for (template, mut stored) in goldens() {
        for container in stored["spec"]["containers"].as_array_mut().unwrap() {
            container["imagePullPolicy"] = json!("Always");
        }
        let mut new = template.clone();
        let stated = |container: &Value| container.get("imagePullPolicy").is_some();
        if new["spec"]["containers"].as_array().unwrap().iter().any(stated) {
            continue;
        }
        assert!(equivalent(&stored, &new), "{stored:#}");
        new["spec"]["containers"][0]["image"] = json!("new:2");
        let name = new["spec"]["containers"][0]["name"].as_str().unwrap().to_owned();
        let change = compare(&stored, &new).unwrap();
        assert_eq!(change.images, [(name, "new:2".to_owned())].into());
        assert!(change.labels.is_empty() && change.annotations.is_empty() && change.resources.is_empty());
    }
}
