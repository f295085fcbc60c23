//! Can a pod change from one template to another in place? Images, cpu and memory of containers and sidecars, labels and
//! annotations can, and with them the environment that containers take from labels and annotations; anything else on a
//! live pod cannot, and the answer names the field that forces the pod to be recreated. A container whose ConfigMaps or Secrets hold
//! something else ([`crate::config`]) restarts.
//!
//! A sidecar is an init container with `restartPolicy: Always`: a kubelet restarts it, and it alone, when its image changes
//! (since 1.32, `kuberuntime_container.go#computeInitContainerActions`; its hash is of name and image, as for the others). OpenKruise
//! recreates the pod (kruise #2362, #1671). Any other init container has done its work: another image of it would never run.

use std::collections::BTreeMap;

use afloat_api::names;
use serde_json::{Map, Value};

use crate::config::stamp::{changes, key};
use crate::pod::change::{Change, Keys, Obstacle};
use crate::pod::defaults::same_pull_policy;
use crate::pod::environment::Source;
use crate::pod::meaning::{canonical, same};
use crate::pod::resize;
use crate::pod::wire::LISTS;

const PULL_POLICY: &str = "imagePullPolicy";

/// Compares two templates.
///
/// # Errors
/// The first field that differs and cannot change on a live pod.
pub fn compare(old: &Value, new: &Value) -> Result<Change, Obstacle> {
    let (old, new) = (canonical(old), canonical(new));
    let part = |template: &Value, name: &str| {
        template
            .get(name)
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default()
    };
    let mut change = Change::default();

    let (old_meta, new_meta) = (part(&old, "metadata"), part(&new, "metadata"));
    let map =
        |meta: &Map<String, Value>, name: &str| meta.get(name).and_then(Value::as_object).cloned().unwrap_or_default();
    change.labels = entries(&map(&old_meta, "labels"), &map(&new_meta, "labels"));
    change.annotations = entries(&map(&old_meta, "annotations"), &map(&new_meta, "annotations"));
    change.configs = changes(&old, &new);
    without(
        &old_meta,
        &["labels", "annotations"],
        &without_map(&new_meta, &["labels", "annotations"]),
        "metadata",
    )?;

    let (old_spec, new_spec) = (part(&old, "spec"), part(&new, "spec"));
    without(&old_spec, &LISTS, &without_map(&new_spec, &LISTS), "spec")?;
    for list in LISTS {
        add_containers(&mut change, list, &old_spec, &new_spec)?;
    }
    if !change.resources.is_empty() {
        let (before, after) = (resize::qos_class(&old), resize::qos_class(&new));
        if before != after {
            return Err(Obstacle(format!(
                "spec.containers[*].resources (the QoS class {before} would be {after})"
            )));
        }
    }
    Ok(change)
}

/// Adds what changes of one of the two lists.
fn add_containers(
    change: &mut Change,
    list: &str,
    old: &Map<String, Value>,
    new: &Map<String, Value>,
) -> Result<(), Obstacle> {
    let all = |spec: &Map<String, Value>| spec.get(list).and_then(Value::as_array).cloned().unwrap_or_default();
    let (old, new) = (all(old), all(new));
    if old.len() != new.len() {
        return Err(Obstacle(format!("spec.{list} (their number changed)")));
    }
    let empty = Map::new();
    for (index, (before, after)) in old.iter().zip(&new).enumerate() {
        let (before, after) = (
            before.as_object().unwrap_or(&empty),
            after.as_object().unwrap_or(&empty),
        );
        let path = format!("spec.{list}[{index}]");
        let special: &[&str] = match list {
            "initContainers" if !is_sidecar(before) || !is_sidecar(after) => &[PULL_POLICY],
            _ => &["image", "resources", PULL_POLICY],
        };
        without(before, special, &without_map(after, special), &path)?;
        if !same_pull_policy(list, before, after) {
            return Err(Obstacle(format!("{path}.{PULL_POLICY}")));
        }
        let name = text(after, "name").unwrap_or_default();
        if special.len() == 1 && change.configs.contains_key(&name) {
            // It has done its work with what it has read.
            return Err(Obstacle(format!("metadata.annotations[{}]", key(&name))));
        }
        if special.len() > 1 && add_container(change, before, after, &path)? && list == "initContainers" {
            change.sidecars.insert(name);
        }
    }
    Ok(())
}

/// Whether an init container runs as long as its pod does.
fn is_sidecar(container: &Map<String, Value>) -> bool {
    container.get("restartPolicy").is_some_and(|policy| policy == "Always")
}

fn text(map: &Map<String, Value>, key: &str) -> Option<String> {
    map.get(key).and_then(Value::as_str).map(str::to_owned)
}

/// Adds what changes of one container; gives whether anything does. Labels and annotations are known by then.
fn add_container(
    change: &mut Change,
    before: &Map<String, Value>,
    after: &Map<String, Value>,
    path: &str,
) -> Result<bool, Obstacle> {
    let name = text(after, "name").unwrap_or_default();
    match (text(before, "image"), text(after, "image")) {
        (old, new) if old == new => {}
        (Some(_), Some(image)) => {
            change.images.insert(name.clone(), image);
        }
        _ => return Err(Obstacle(format!("{path}.image (added or removed)"))),
    }
    if let Some(amounts) = resize::difference(before.get("resources"), after.get("resources"), path)? {
        if resize::lowers_memory(before, after) {
            change.shrinking.insert(name.clone());
        }
        change.resources.insert(name.clone(), amounts);
    }
    let keys = environment(&name, after, change);
    if keys != Keys::default() {
        change.environment.insert(name.clone(), keys);
    }
    Ok(change.containers().contains(&name))
}

/// The changing labels and annotations that the container takes environment from; and the annotations that ask for its restart, if
/// they say something new.
fn environment(name: &str, container: &Map<String, Value>, change: &Change) -> Keys {
    let mut keys = Keys::default();
    let restart = format!("{}{name}", names::RESTART_PREFIX);
    if change
        .annotations
        .get(&restart)
        .is_some_and(|value| value.as_deref().is_some_and(|value| !value.is_empty()))
    {
        keys.annotations.insert(restart);
    }
    if change.configs.contains_key(name) {
        keys.annotations.insert(key(name));
    }
    let variables = container.get("env").and_then(Value::as_array);
    for variable in variables.into_iter().flatten() {
        let path = variable
            .pointer("/valueFrom/fieldRef/fieldPath")
            .and_then(Value::as_str);
        match path.and_then(Source::read) {
            Some(Source::Label(key)) if change.labels.contains_key(&*key) => keys.labels.insert(key.into()),
            Some(Source::Annotation(key)) if change.annotations.contains_key(&*key) => {
                keys.annotations.insert(key.into())
            }
            _ => false,
        };
    }
    keys
}

fn without_map(map: &Map<String, Value>, skip: &[&str]) -> Map<String, Value> {
    map.iter()
        .filter(|(key, _)| !skip.contains(&key.as_str()))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect()
}

/// Both maps must agree apart from the skipped keys.
fn without(old: &Map<String, Value>, skip: &[&str], new: &Map<String, Value>, path: &str) -> Result<(), Obstacle> {
    let old = without_map(old, skip);
    let differing = old
        .keys()
        .chain(new.keys())
        .filter(|key| match (old.get(*key), new.get(*key)) {
            (Some(old), Some(new)) => !same(key, old, new),
            _ => true,
        })
        .min();
    match differing {
        Some(key) => Err(Obstacle(format!("{path}.{key}"))),
        None => Ok(()),
    }
}

fn entries(old: &Map<String, Value>, new: &Map<String, Value>) -> BTreeMap<String, Option<String>> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let changed = new.iter().filter(|(key, value)| old.get(*key) != Some(value));
    let removed = old.keys().filter(|key| !new.contains_key(*key));
    changed
        .map(|(key, value)| (key.clone(), Some(text(value))))
        .chain(removed.map(|key| (key.clone(), None)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use afloat_api::Gates;
    use serde_json::json;

    fn template() -> Value {
        json!({"metadata": {"labels": {"app": "x", "old": "1"}}, "spec": {
            "containers": [{"name": "app", "image": "app:1"}, {"name": "log", "image": "log:1"}],
            "initContainers": [{"name": "init", "image": "init:1"}]}})
    }

    fn changed(edit: impl FnOnce(&mut Value)) -> Result<Change, Obstacle> {
        let mut new = template();
        edit(&mut new);
        compare(&template(), &new)
    }

    #[test]
    fn images_and_metadata_change_in_place() {
        let change = changed(|t| {
            t["spec"]["containers"][0]["image"] = json!("app:2");
            t["metadata"] = json!({"labels": {"app": "x"}, "annotations": {"a": "b"}});
        })
        .unwrap();
        assert_eq!(change.images, [("app".to_owned(), "app:2".to_owned())].into());
        assert_eq!(change.labels, [("old".to_owned(), None)].into());
        assert_eq!(change.annotations, [("a".to_owned(), Some("b".to_owned()))].into());
        assert_eq!(changed(|_| ()).unwrap(), Change::default());
    }

    #[test]
    fn sidecars_change_in_place() {
        let mut old = template();
        old["metadata"]["annotations"] = json!({"version": "1"});
        old["spec"]["initContainers"] = json!([
            {"name": "init", "image": "init:1"},
            {"name": "mesh", "image": "mesh:1", "restartPolicy": "Always", "resources": {"limits": {"cpu": "1"}}},
        ]);
        let changed = |edit: fn(&mut Value)| {
            let mut new = old.clone();
            edit(&mut new);
            compare(&old, &new).map_err(|obstacle| obstacle.0)
        };
        let mesh = [String::from("mesh")];
        let change = changed(|t| t["spec"]["initContainers"][1]["image"] = json!("mesh:2")).unwrap();
        assert_eq!(change.images, [(mesh[0].clone(), "mesh:2".to_owned())].into());
        assert_eq!(change.sidecars, mesh.clone().into());
        let change = changed(|t| t["spec"]["initContainers"][1]["resources"]["limits"]["cpu"] = json!("2")).unwrap();
        assert_eq!((change.resources.len(), change.sidecars), (1, mesh.into()));
        let change = changed(|t| t["spec"]["containers"][0]["image"] = json!("app:2")).unwrap();
        assert!(change.sidecars.is_empty());
        type Edit = fn(&mut Value);
        let fixed: [(Edit, &str); 3] = [
            (
                |t| t["spec"]["initContainers"][0]["image"] = json!("init:2"),
                "spec.initContainers[0].image",
            ),
            (
                |t| t["spec"]["initContainers"][1]["restartPolicy"] = Value::Null,
                "spec.initContainers[1].restartPolicy",
            ),
            (
                |t| t["spec"]["initContainers"][1]["env"] = json!([{"name": "A", "value": "b"}]),
                "spec.initContainers[1].env",
            ),
        ];
        for (edit, obstacle) in fixed {
            assert_eq!(changed(edit).unwrap_err(), obstacle);
        }
    }

    #[test]
    fn environment_from_metadata_is_found() {
        let mut old = template();
        old["spec"]["containers"][1]["env"] = json!([
            {"name": "VERSION", "valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['version']"}}},
            {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
        ]);
        let mut new = old.clone();
        new["metadata"]["annotations"] = json!({"version": "2"});
        let change = compare(&old, &new).unwrap();
        let keys = Keys {
            annotations: ["version".to_owned()].into(),
            ..Keys::default()
        };
        assert_eq!(change.environment, [("log".to_owned(), keys)].into());
    }

    #[test]
    fn a_restart_is_asked_for_by_a_new_value() {
        let at = |value: Value| {
            let mut asked = template();
            asked["metadata"]["annotations"] = json!({"restart.afloat.dev/log": value});
            asked
        };
        let (never, first, second) = (template(), at(json!("1")), at(json!("2")));
        for (old, new, restarts) in [
            (&never, &first, true),
            (&first, &second, true),
            (&second, &never, false),
        ] {
            let change = compare(old, new).unwrap();
            assert_eq!(change.environment.contains_key("log"), restarts);
            assert!(!change.environment.contains_key("app") && change.images.is_empty());
        }
        assert_eq!(compare(&first, &first).unwrap(), Change::default());
        let off = Gates {
            environment_in_place: false,
            ..Gates::default()
        };
        let change = compare(&never, &first).unwrap().under(off).unwrap();
        assert!(
            change.environment.contains_key("log"),
            "that gate is about something else"
        );
    }

    #[test]
    fn amounts_change_in_place_within_their_class() {
        let mut old = template();
        old["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "2"}, "requests": {"cpu": "1"}});
        let changed = |edit: &dyn Fn(&mut Value)| {
            let mut new = old.clone();
            edit(&mut new["spec"]["containers"][0]);
            compare(&old, &new).map_err(|obstacle| obstacle.0)
        };
        let change = changed(&|c| c["resources"]["requests"]["cpu"] = json!("500m")).unwrap();
        assert_eq!(
            change.resources,
            [("app".to_owned(), json!({"requests": {"cpu": "500m"}}))].into()
        );
        let mut two = template();
        two["spec"]["initContainers"] = json!([]);
        for container in two["spec"]["containers"].as_array_mut().unwrap() {
            container["resources"] =
                json!({"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}});
        }
        let mut guaranteed = two.clone();
        for container in guaranteed["spec"]["containers"].as_array_mut().unwrap() {
            container["resources"]["requests"]["cpu"] = json!("2");
        }
        let why = compare(&two, &guaranteed).unwrap_err().0;
        assert!(why.contains("QoS class Burstable would be Guaranteed"), "{why}");
        old["spec"]["containers"][0]["resizePolicy"] =
            json!([{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]);
        let mut both = old.clone();
        both["spec"]["containers"][0]["image"] = json!("app:2");
        both["spec"]["containers"][0]["resources"]["requests"]["cpu"] = json!("500m");
        let change = compare(&old, &both).unwrap();
        assert_eq!(change.images, [("app".to_owned(), "app:2".to_owned())].into());
        assert_eq!(
            change.resources,
            [("app".to_owned(), json!({"requests": {"cpu": "500m"}}))].into()
        );
    }

    #[test]
    fn obstacles_are_named() {
        let obstacle = |edit: fn(&mut Value)| changed(edit).unwrap_err().0;
        assert_eq!(
            obstacle(|t| t["spec"]["containers"][0]["env"] = json!([{"name": "A"}])),
            "spec.containers[0].env"
        );
        assert_eq!(
            obstacle(|t| t["spec"]["containers"][1]["name"] = json!("other")),
            "spec.containers[1].name"
        );
        assert_eq!(
            obstacle(|t| t["spec"]["initContainers"][0]["image"] = json!("init:2")),
            "spec.initContainers[0].image"
        );
        assert_eq!(
            obstacle(|t| t["spec"]["initContainers"][0]["restartPolicy"] = json!("Always")),
            "spec.initContainers[0].restartPolicy"
        );
        assert_eq!(
            obstacle(|t| t["spec"]["initContainers"] = json!([])),
            "spec.initContainers (their number changed)"
        );
        assert_eq!(obstacle(|t| t["spec"]["hostNetwork"] = json!(true)), "spec.hostNetwork");
        assert_eq!(
            obstacle(|t| t["metadata"]["finalizers"] = json!(["a/b"])),
            "metadata.finalizers"
        );
    }
}
