//! Can a pod change from one template to another in place? Images of containers, labels and annotations can; anything
//! else on a live pod cannot, and the answer names the field that forces the pod to be recreated.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::revision::canonical;

/// What an in-place update has to change.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Change {
    /// New image by container.
    pub images: BTreeMap<String, String>,
    /// New value by label; None removes it.
    pub labels: BTreeMap<String, Option<String>>,
    /// New value by annotation; None removes it.
    pub annotations: BTreeMap<String, Option<String>>,
}

/// The field of the template that cannot change on a live pod, as a path below `spec.template`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle(pub String);

/// Compares two templates.
///
/// # Errors
/// The first field that differs and cannot change on a live pod.
pub fn compare(old: &Value, new: &Value) -> Result<Change, Obstacle> {
    let (old, new) = (canonical(old), canonical(new));
    let empty = Map::new();
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
    without(
        &old_meta,
        &["labels", "annotations"],
        &without_map(&new_meta, &["labels", "annotations"]),
        "metadata",
    )?;

    let (old_spec, new_spec) = (part(&old, "spec"), part(&new, "spec"));
    without(
        &old_spec,
        &["containers"],
        &without_map(&new_spec, &["containers"]),
        "spec",
    )?;
    let list = |spec: &Map<String, Value>| {
        spec.get("containers")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    };
    let (old_list, new_list) = (list(&old_spec), list(&new_spec));
    if old_list.len() != new_list.len() {
        return Err(Obstacle("spec.containers (their number changed)".into()));
    }
    for (index, (before, after)) in old_list.iter().zip(&new_list).enumerate() {
        let (before, after) = (
            before.as_object().unwrap_or(&empty),
            after.as_object().unwrap_or(&empty),
        );
        let path = format!("spec.containers[{index}]");
        without(before, &["image"], &without_map(after, &["image"]), &path)?;
        let text = |map: &Map<String, Value>, key: &str| map.get(key).and_then(Value::as_str).map(str::to_owned);
        match (text(before, "image"), text(after, "image")) {
            (old, new) if old == new => {}
            (Some(_), Some(image)) => {
                change.images.insert(text(after, "name").unwrap_or_default(), image);
            }
            _ => return Err(Obstacle(format!("{path}.image (added or removed)"))),
        }
    }
    Ok(change)
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
        .filter(|key| old.get(*key) != new.get(*key))
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
            "spec.initContainers"
        );
        assert_eq!(obstacle(|t| t["spec"]["hostNetwork"] = json!(true)), "spec.hostNetwork");
        assert_eq!(
            obstacle(|t| t["metadata"]["finalizers"] = json!(["a/b"])),
            "metadata.finalizers"
        );
    }
}
