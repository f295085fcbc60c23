//! Which containers of a pod change now, and which wait for a later batch (spec/kruise-behaviour.md §10): containers of a
//! higher launch priority first, and the next ones once those are Ready. What waits stands in the pod's own annotation,
//! as in OpenKruise, so that either can go on.

use std::collections::{BTreeMap, BTreeSet};

use afloat_api::{InPlaceUpdateState, PreCheck, RefMetadata, names};
use serde_json::Value;

use crate::pod::change::{Change, Keys};
use crate::pod::object::Pod;
use crate::pod::restart::respell;
use crate::pod::wire::containers_of;

/// One write's share of a change.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// What is changed now.
    pub now: Change,
    /// What waits, in the annotation's own form.
    pub next: Next,
}

/// What waits for later batches.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Next {
    /// Images by container.
    pub images: BTreeMap<String, String>,
    /// Labels and annotations by the container that takes environment from them.
    pub metadata: BTreeMap<String, RefMetadata>,
    /// Resources by container.
    pub resources: BTreeMap<String, Value>,
    /// Containers that must be Ready before.
    pub check: Option<PreCheck>,
}

/// Takes the first batch out of a change.
pub fn first(pod: &Pod, change: &Change) -> Batch {
    let all = change.containers();
    let priority = |name: &str| pod.container(name).and_then(|container| container.environment.priority);
    let highest = all.iter().filter_map(|name| priority(name)).max();
    let mut chosen: BTreeSet<&String> = all
        .iter()
        .copied()
        .filter(|name| priority(name).is_none_or(|own| Some(own) == highest))
        .collect();
    // A label that two containers read changes for both at once.
    let none = Keys::default();
    let keys = |name: &String| change.environment.get(name).unwrap_or(&none);
    while let Some(more) = all
        .iter()
        .find(|name| !chosen.contains(*name) && chosen.iter().any(|other| keys(other).share(keys(name))))
    {
        chosen.insert(more);
    }
    if chosen.len() == all.len() {
        return Batch {
            now: change.clone(),
            next: Next::default(),
        };
    }
    let mut batch = Batch {
        now: change.clone(),
        next: Next::default(),
    };
    for name in all.iter().filter(|name| !chosen.contains(*name)) {
        if let Some(image) = batch.now.images.remove(*name) {
            batch.next.images.insert((*name).clone(), image);
        }
        if let Some(amounts) = batch.now.resources.remove(*name) {
            batch.next.resources.insert((*name).clone(), amounts);
        }
        if let Some(keys) = batch.now.environment.remove(*name) {
            let mut later = RefMetadata::default();
            let take = |keys: BTreeSet<String>, from: &BTreeMap<String, Option<String>>| {
                let entry = |key: String| Some((key.clone(), from.get(&key)?.clone().unwrap_or_default()));
                keys.into_iter().filter_map(entry).collect()
            };
            later.labels = take(keys.labels, &change.labels);
            later.annotations = take(keys.annotations, &change.annotations);
            batch.now.labels.retain(|key, _| !later.labels.contains_key(key));
            batch
                .now
                .annotations
                .retain(|key, _| !later.annotations.contains_key(key));
            batch.next.metadata.insert((*name).clone(), later);
        }
    }
    // OpenKruise would wait for a sidecar for ever, as it looks for it among the application's containers.
    let known = chosen.into_iter().filter(|name| !change.sidecars.contains(*name));
    batch.next.check = Some(PreCheck {
        containers_required_ready: known.cloned().collect(),
    });
    batch
}

/// What the annotation says still waits, as a change.
pub fn waiting(state: &InPlaceUpdateState) -> Change {
    // Sidecars never wait: they have no priority, and go with the first batch.
    let mut change = Change {
        images: state.next_container_images.clone(),
        resources: state.next_container_resources.clone(),
        ..Change::default()
    };
    add_metadata(&mut change, &state.next_container_ref_metadata);
    change
}

/// Adds labels and annotations that containers take environment from.
pub fn add_metadata(change: &mut Change, by_container: &BTreeMap<String, RefMetadata>) {
    for (container, metadata) in by_container {
        let some = |map: &BTreeMap<String, String>| map.clone().into_iter().map(|(key, value)| (key, Some(value)));
        change.labels.extend(some(&metadata.labels));
        change.annotations.extend(some(&metadata.annotations));
        let keys = change.environment.entry(container.clone()).or_default();
        keys.labels.extend(metadata.labels.keys().cloned());
        keys.annotations.extend(metadata.annotations.keys().cloned());
    }
}

/// Gives each container that has to restart for its environment alone another text of its image.
///
/// # Errors
/// A container whose image can be written in one way only.
pub fn with_restarts(pod: &Pod, mut change: Change, template: &Value) -> Result<Change, String> {
    let containers = change
        .environment
        .keys()
        .filter(|name| !change.images.contains_key(*name));
    for name in containers.cloned().collect::<Vec<_>>() {
        let image = respell(pod, &name, image_of(template, &name)).ok_or_else(|| {
            format!(
                "container {name} is to restart for metadata that changes, and its image {:?} can be written in one \
                 way only, so nothing makes the node restart it",
                pod.container(&name).map_or("", |container| container.image.as_str())
            )
        })?;
        change.images.insert(name, image);
    }
    Ok(change)
}

/// A container's image in a template.
pub fn image_of<'a>(template: &'a Value, container: &str) -> Option<&'a str> {
    let mut all = containers_of(template);
    let found = all.find(|c| c.get("name").and_then(Value::as_str) == Some(container))?;
    found.get("image")?.as_str()
}

/// Containers of the change that restart: those with another image, and those whose resize policy says so.
pub fn restarting<'a>(pod: &Pod, change: &'a Change) -> BTreeSet<&'a String> {
    let by_resize = change.resources.iter().filter(|(name, amounts)| {
        let resources = pod.container(name).map(|container| &*container.restart_to_resize);
        resources.into_iter().flatten().any(|resource| {
            let of = |kind| amounts.get(kind).and_then(|all: &Value| all.get(resource.as_str()));
            of("limits").or_else(|| of("requests")).is_some()
        })
    });
    change.images.keys().chain(by_resize.map(|(name, _)| name)).collect()
}

/// Whether the template says of a container that it serves no traffic, so that no drain is needed for it (kruise #1808).
pub fn serves_no_traffic(template: &Value, container: &str) -> bool {
    let annotations = template.pointer("/metadata/annotations");
    let key = format!("{}{container}", names::DRAIN_PREFIX);
    annotations
        .and_then(|annotations| annotations.get(key))
        .is_some_and(|value| value == names::DRAIN_SKIP)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod() -> Pod {
        let container = |name: &str, priority: i32| {
            json!({"name": name, "image": format!("{name}:1"), "env": [{"name": names::LAUNCH_BARRIER,
                "valueFrom": {"configMapKeyRef": {"name": "b", "key": format!("p_{priority}")}}}]})
        };
        serde_json::from_value(json!({"spec": {"containers": [
            container("db", 2), container("app", 1), container("web", 1), {"name": "log", "image": "log:1"}]}}))
        .unwrap()
    }

    fn images(names: &[&str]) -> Change {
        Change {
            images: names
                .iter()
                .map(|name| ((*name).to_owned(), format!("{name}:2")))
                .collect(),
            ..Change::default()
        }
    }

    #[test]
    fn a_sidecar_goes_first_and_is_not_in_openkruises_record() {
        let mut pod = pod();
        let mesh = json!({"name": "mesh", "image": "mesh:1", "restartPolicy": "Always"});
        std::sync::Arc::make_mut(&mut pod.spec.containers).push(serde_json::from_value(mesh).unwrap());
        let change = Change {
            sidecars: ["mesh".to_owned()].into(),
            ..images(&["db", "app", "mesh"])
        };
        let batch = first(&pod, &change);
        assert_eq!(now(&batch), ["db", "mesh"]);
        assert_eq!(batch.next.images.keys().collect::<Vec<_>>(), ["app"]);
        assert_eq!(batch.next.check.unwrap().containers_required_ready, ["db"]);
    }

    fn now(batch: &Batch) -> Vec<&String> {
        batch.now.containers().into_iter().collect()
    }

    #[test]
    fn the_highest_and_those_without_priority_go_first() {
        let batch = first(&pod(), &images(&["db", "app", "log"]));
        assert_eq!(now(&batch), ["db", "log"]);
        assert_eq!(batch.next.images, [("app".to_owned(), "app:2".to_owned())].into());
        assert_eq!(batch.next.check.unwrap().containers_required_ready, ["db", "log"]);
        let one = first(&pod(), &images(&["app", "web"]));
        assert_eq!((now(&one).len(), one.next), (2, Next::default()));
    }

    #[test]
    fn containers_that_read_one_label_change_together() {
        let keys = |key: &str| Keys {
            labels: [key.to_owned()].into(),
            ..Keys::default()
        };
        let change = Change {
            labels: [
                ("v".to_owned(), Some("2".to_owned())),
                ("w".to_owned(), Some("3".to_owned())),
            ]
            .into(),
            environment: [
                ("db".to_owned(), keys("v")),
                ("app".to_owned(), keys("v")),
                ("web".to_owned(), keys("w")),
            ]
            .into(),
            ..Change::default()
        };
        let batch = first(&pod(), &change);
        assert_eq!(now(&batch), ["app", "db"]);
        assert_eq!(batch.now.labels.keys().collect::<Vec<_>>(), ["v"]);
        let later = serde_json::to_value(&batch.next.metadata).unwrap();
        assert_eq!(later, json!({"web": {"creationTimestamp": null, "labels": {"w": "3"}}}));
        let state = InPlaceUpdateState {
            next_container_ref_metadata: batch.next.metadata,
            ..InPlaceUpdateState::default()
        };
        let rest = waiting(&state);
        assert_eq!(rest.environment.keys().collect::<Vec<_>>(), ["web"]);
        let rest = with_restarts(&pod(), rest, &json!({})).unwrap();
        assert_eq!(rest.images["web"], "docker.io/library/web:1");
    }
}
