//! The in-place protocol on a pod: out of service, changed, back in service. Three writes per pod; this is the second one, and
//! what belongs to it.
//!
//! OpenKruise needs a fourth for its quiet period: it writes the new revision label and an annotation with everything to
//! do later, and the images when the period is over. Here the start of the period stands in the condition itself: the
//! write that makes `InPlaceUpdateReady` False says in its message for which revision and since when, so that the
//! images, labels and our record of what ran before go into one later write. A quiet period counts only if the message
//! names the very revision that is about to be written; a condition that is False for another reason starts it anew
//! (kruise #2276). A pod that OpenKruise left in its own quiet period is continued from its annotation.

pub mod ground;

use std::collections::{BTreeMap, BTreeSet};

use afloat_api::{ContainerOrigin, Gates, InPlaceUpdateState, LastContainerStatus, names, origins, write_origins};
use afloat_words::time::whole_seconds;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::action::patch::PodPatch;
use crate::action::{Action, Why};
use crate::pod::batch::{Batch, Next};
use crate::pod::change::Change;
use crate::pod::complete::incomplete;
use crate::pod::images::Nodes;
use crate::pod::label::Naming;
use crate::pod::object::Pod;

/// How a pod that is changed names its new revision.
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    /// In the record of the update.
    pub recorded: &'a str,
    /// In its label.
    pub label: &'a str,
    /// In the label `pod-template-hash`, where its kind has one.
    pub hash: Option<&'a str>,
}

impl<'a> Named<'a> {
    /// As the kind names a revision of that name.
    pub fn by(naming: Naming, revision: &'a str, gates: Gates) -> Self {
        Self {
            recorded: naming.recorded(revision),
            label: naming.label(revision, gates),
            hash: naming.hash_beside(revision),
        }
    }
}

/// Images, labels, annotations and the record of what ran before, all at once. `updating` also moves the pod's life to that
/// state, for hooks to see.
pub fn change(pod: &Pod, batch: &Batch, named: Named<'_>, updating: bool, nodes: &Nodes, now: Timestamp) -> Action {
    let change = &batch.now;
    let mut labels = change.labels.clone();
    labels.insert(names::REVISION.into(), Some(named.label.to_owned()));
    if let Some(hash) = named.hash {
        labels.insert(names::POD_TEMPLATE_HASH.into(), Some(hash.to_owned()));
    }

    let (last, origins) = records(pod, change, nodes, now);
    let state = InPlaceUpdateState {
        last_container_statuses: Some(last),
        ..record(pod, batch, named.recorded, now)
    };
    let mut annotations = change.annotations.clone();
    annotations.insert(
        names::INPLACE_STATE.into(),
        Some(serde_json::to_string(&state).unwrap_or_default()),
    );
    if updating {
        labels.insert(names::LIFECYCLE_STATE.into(), Some(names::STATE_UPDATING.to_owned()));
        annotations.insert(names::LIFECYCLE_TIMESTAMP.into(), Some(whole_seconds(now)));
    }
    annotations.insert(names::INPLACE_FROM.into(), Some(write_origins(&origins)));
    let stale = [
        names::INPLACE_STATE_LEGACY,
        names::INPLACE_GRACE,
        names::INPLACE_GRACE_LEGACY,
    ];
    for key in stale.into_iter().filter(|key| pod.annotations.contains_key(key)) {
        annotations.insert(key.into(), None);
    }
    Action::PatchPod {
        at: pod.at(),
        patch: PodPatch {
            labels,
            annotations,
            images: change.images.clone(),
            sidecars: sidecars(pod),
            ..PodPatch::default()
        },
        why: Why::Update,
    }
}

fn sidecars(pod: &Pod) -> BTreeSet<String> {
    let all = pod.spec.containers.iter().filter(|container| container.sidecar);
    all.map(|container| container.name.to_string()).collect()
}

/// New cpu and memory by container, through the `resize` subresource.
pub fn resize(pod: &Pod, resources: BTreeMap<String, Value>) -> Action {
    Action::ResizePod {
        at: pod.at(),
        patch: PodPatch {
            resources,
            sidecars: sidecars(pod),
            ..PodPatch::default()
        },
    }
}

/// OpenKruise's quiet period for a revision that the pod no longer has: only the annotation goes.
pub fn drop_grace(pod: &Pod) -> Action {
    let present = |key: &&str| pod.annotations.contains_key(key);
    let keys = [names::INPLACE_GRACE, names::INPLACE_GRACE_LEGACY];
    Action::PatchPod {
        at: pod.at(),
        patch: PodPatch {
            annotations: keys
                .iter()
                .filter(|key| present(key))
                .map(|key| ((*key).to_owned(), None))
                .collect(),
            ..PodPatch::default()
        },
        why: Why::Update,
    }
}

/// The state annotation for this batch; what earlier batches of the same update noted stays.
fn record(pod: &Pod, batch: &Batch, revision: &str, now: Timestamp) -> InPlaceUpdateState {
    let earlier = InPlaceUpdateState::read(&pod.annotations)
        .filter(|state| state.waits() && state.revision == revision)
        .unwrap_or_default();
    let start = Some(earlier.update_timestamp).filter(|text| !text.is_empty());
    let mut batches = earlier.container_batches_record;
    batches.push(json!({"timestamp": whole_seconds(now), "containers": batch.now.containers()}));
    let Next {
        images,
        metadata,
        resources,
        check,
    } = batch.next.clone();
    InPlaceUpdateState {
        revision: revision.to_owned(),
        update_timestamp: start.unwrap_or_else(|| whole_seconds(now)),
        update_env_from_metadata: earlier.update_env_from_metadata
            || !(batch.now.environment.is_empty() && metadata.is_empty()),
        update_resources: earlier.update_resources || !(batch.now.resources.is_empty() && resources.is_empty()),
        update_images: earlier.update_images || !(batch.now.images.is_empty() && images.is_empty()),
        next_container_images: images,
        next_container_ref_metadata: metadata,
        next_container_resources: resources,
        pre_check_before_next: check,
        container_batches_record: batches,
        last_container_statuses: None,
    }
}

/// What ran in each changed container before. Containers of an earlier update that is not complete keep their place:
/// what they still have to shed is not forgotten by a second update on top.
fn records(
    pod: &Pod,
    change: &Change,
    nodes: &Nodes,
    now: Timestamp,
) -> (BTreeMap<String, LastContainerStatus>, BTreeMap<String, ContainerOrigin>) {
    let open = incomplete(pod, nodes, now);
    let earlier = InPlaceUpdateState::read(&pod.annotations).and_then(|state| state.last_container_statuses);
    let mut last: BTreeMap<_, _> = earlier
        .unwrap_or_default()
        .into_iter()
        .filter(|(name, _)| open.contains(name))
        .collect();
    let mut from: BTreeMap<_, _> = origins(&pod.annotations)
        .into_iter()
        .filter(|(name, _)| open.contains(name))
        .collect();
    for name in change.images.keys() {
        let status = pod.container_status(name);
        let mut images = from.remove(name).map(|origin| origin.images).unwrap_or_default();
        let present = pod.spec.containers.iter().find(|container| &container.name == name);
        images.extend(present.map(|container| container.image.to_string()));
        // A user who keeps changing their mind must not grow the annotation without end.
        let surplus = images.len().saturating_sub(8);
        images.drain(..surplus);
        let image_id = status.map(|s| s.image_id.to_string()).unwrap_or_default();
        let sidecar = present.is_some_and(|container| container.sidecar);
        if !sidecar {
            let image_id = image_id.clone();
            last.insert(name.clone(), LastContainerStatus { image_id });
        }
        from.insert(
            name.clone(),
            ContainerOrigin {
                container_id: status.and_then(|s| s.container_id.clone()).unwrap_or_default(),
                ran: status.map(|s| s.image.to_string()).unwrap_or_default(),
                images,
                image_id: sidecar.then_some(image_id),
            },
        );
    }
    (last, from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "web-1", "uid": "u", "resourceVersion": "7", "labels": {names::REVISION: "web-old"}},
            "spec": {"containers": [{"name": "app", "image": "app:1"}, {"name": "log", "image": "log:1"}]},
            "status": {
                "containerStatuses": [{"name": "app", "image": "app:1", "imageID": "I1", "containerID": "c1"}],
            }
        }))
        .unwrap()
    }

    fn whole(now: Change) -> Batch {
        Batch {
            now,
            next: Next::default(),
        }
    }

    #[test]
    fn everything_goes_in_one_write() {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let wanted = Change {
            images: [("app".into(), "app:2".into())].into(),
            ..Change::default()
        };
        let Action::PatchPod { at, patch, .. } = change(
            &pod(),
            &whole(wanted),
            Named::by(Naming::Both, "web-new", Gates::default()),
            false,
            &Nodes::new(),
            now,
        ) else {
            panic!()
        };
        let patch = patch.json(&at);
        assert_eq!(
            patch["spec"],
            json!({"containers": [{"name": "app", "image": "app:2"}]})
        );
        assert_eq!(
            patch["metadata"]["labels"],
            json!({names::REVISION: "web-new", names::POD_TEMPLATE_HASH: "new"})
        );
        let text = patch["metadata"]["annotations"][names::INPLACE_STATE].as_str().unwrap();
        let state: InPlaceUpdateState = serde_json::from_str(text).unwrap();
        assert_eq!(state.last_container_statuses.unwrap()["app"].image_id, "I1");
    }

    #[test]
    fn a_second_update_remembers_what_the_first_left_open() {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut pod = pod();
        let both = Change {
            images: [("app".into(), "app:2".into()), ("log".into(), "log:2".into())].into(),
            ..Change::default()
        };
        let named = Named::by(Naming::Both, "web-b", Gates::default());
        let Action::PatchPod { patch, .. } = change(&pod, &whole(both), named, false, &Nodes::new(), now) else {
            panic!()
        };
        for (key, value) in &patch.annotations {
            pod.annotations.set(key, value.as_deref());
        }
        std::sync::Arc::make_mut(&mut pod.spec.containers)[0].image = "app:2".into();
        std::sync::Arc::make_mut(&mut pod.spec.containers)[1].image = "log:2".into();
        let one = Change {
            images: [("app".into(), "app:3".into())].into(),
            ..Change::default()
        };
        let (last, from) = records(&pod, &one, &Nodes::new(), now);
        assert_eq!(last.keys().collect::<Vec<_>>(), ["app", "log"]);
        assert_eq!(from["app"].images, ["app:1", "app:2"]);
    }
}
