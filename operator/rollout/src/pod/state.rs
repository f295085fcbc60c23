//! The in-place protocol on a pod, as patches: out of service, changed, back in service. Three writes per pod.
//!
//! OpenKruise needs a fourth for its quiet period: it writes the new revision label and an annotation with everything to
//! do later, and the images when the period is over. Here the start of the period stands in the condition itself: the
//! write that makes `InPlaceUpdateReady` False says in its message for which revision and since when, so that the
//! images, labels and our record of what ran before go into one later write. A quiet period counts only if the message
//! names the very revision that is about to be written; a condition that is False for another reason starts it anew
//! (kruise #2276). A pod that OpenKruise left in its own quiet period is continued from its annotation.

use std::collections::BTreeMap;

use afloat_api::{ContainerOrigin, InPlaceUpdateState, LastContainerStatus, names, origins, write_origins};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::action::{Action, At, Why};
use crate::pod::batch::{Batch, Next};
use crate::pod::complete::incomplete;
use crate::pod::images::Nodes;
use crate::pod::inplace::Change;
use crate::pod::lifecycle::pod_ready;
use crate::pod::object::Pod;
use crate::workload::revision::short;

/// Since when a pod is out of service, and for which revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drain {
    /// Name of the revision.
    pub revision: String,
    /// Start of the quiet period, with fractions of a second (the condition's own time has none).
    pub since: Timestamp,
    /// For a drain that is observed, the version of the pod in which it was last Ready, 0 if it was not when this began:
    /// what proxies have applied of older EndpointSlices is from before. None: the drain is timed.
    pub ready_at: Option<u64>,
}

/// Stands for a revision where a pod is out of service for its deletion.
pub const DELETION: &str = "deletion";

const PREFIX: &str = "updating to ";
const SINCE: &str = ", out of service since ";
const READY_AT: &str = ", last Ready in version ";

impl Drain {
    /// Reads it from the pod's condition; None if the pod is in service or was taken out of it by another writer.
    pub fn of(pod: &Pod) -> Option<Self> {
        let condition = pod
            .condition(names::INPLACE_READY)
            .filter(|condition| condition.status == "False")?;
        let (revision, since) = condition.message.as_deref()?.strip_prefix(PREFIX)?.split_once(SINCE)?;
        let (since, ready_at) = match since.split_once(READY_AT) {
            Some((since, version)) => (since, version.parse().ok()),
            None => (since, None),
        };
        Some(Self {
            revision: revision.to_owned(),
            since: since.parse().ok()?,
            ready_at,
        })
    }

    /// The version in which the pod is Ready, or was before a drain that goes on.
    fn last_ready(pod: &Pod) -> u64 {
        let earlier = || Self::of(pod)?.ready_at;
        if pod.condition("Ready").is_some_and(|ready| ready.status == "True") {
            pod.metadata.resource_version.parse().unwrap_or(0)
        } else {
            earlier().unwrap_or(0)
        }
    }

    fn message(&self) -> String {
        let ready_at = self.ready_at.map(|version| format!("{READY_AT}{version}"));
        format!(
            "{PREFIX}{}{SINCE}{}{}",
            self.revision,
            self.since,
            ready_at.unwrap_or_default()
        )
    }
}

/// RFC 3339 in whole seconds, UTC, as Kubernetes writes times.
pub fn rfc3339(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

pub(crate) fn preconditions(at: &At) -> Map<String, Value> {
    let mut meta = Map::new();
    meta.insert("uid".into(), json!(at.uid));
    meta.insert("resourceVersion".into(), json!(at.resource_version));
    meta
}

/// First write: out of service. `observed`: until the nodes' proxies have let go, not for a time.
pub fn leave_service(pod: &Pod, revision: &str, observed: bool, now: Timestamp) -> Action {
    let drain = Drain {
        revision: revision.to_owned(),
        since: now,
        ready_at: observed.then(|| Drain::last_ready(pod)),
    };
    let message = drain.message();
    let mut conditions = vec![json!({
        "type": names::INPLACE_READY, "status": "False", "reason": names::START_INPLACE_UPDATE, "message": message,
        "lastTransitionTime": rfc3339(now),
    })];
    conditions.extend(not_ready(pod, names::INPLACE_READY, now));
    status_patch(pod, conditions, Why::Drain)
}

/// Third write: back in service. `Ready` is left to the node's agent.
pub fn return_to_service(pod: &Pod, now: Timestamp) -> Action {
    status_patch(pod, vec![open_gate(pod, now)], Why::Return)
}

/// The gates as they have to be, in one write: [`names::INPLACE_READY`] True if `in_place`, [`names::KRUISE_POD_READY`]
/// held by just these keys of ours. None: they are.
pub fn serve(pod: &Pod, in_place: bool, keys: &[&str], now: Timestamp) -> Option<Action> {
    let mut conditions = Vec::new();
    if in_place {
        conditions.push(open_gate(pod, now));
    }
    let why = if in_place || keys.is_empty() {
        Why::Return
    } else {
        Why::Lifecycle
    };
    if let Some(condition) = pod_ready(pod, keys, now) {
        if condition["status"] == "False" {
            conditions.extend(not_ready(pod, names::KRUISE_POD_READY, now));
        }
        conditions.push(condition);
    }
    (!conditions.is_empty()).then(|| status_patch(pod, conditions, why))
}

fn open_gate(pod: &Pod, now: Timestamp) -> Value {
    let mut condition = json!({"type": names::INPLACE_READY, "status": "True", "lastTransitionTime": rfc3339(now)});
    if let Some(present) = pod.condition(names::INPLACE_READY) {
        if present.reason.is_some() {
            condition["reason"] = Value::Null;
        }
        if present.message.is_some() {
            condition["message"] = Value::Null;
        }
    }
    condition
}

/// The node's agent would turn Ready False anyway; writing it here takes the pod out of its Services at once.
fn not_ready(pod: &Pod, gate: &str, now: Timestamp) -> Option<Value> {
    let ready = pod.condition("Ready").is_some_and(|ready| ready.status == "True");
    ready.then(|| {
        json!({
            "type": "Ready", "status": "False", "reason": names::READINESS_GATES_NOT_READY,
            "message": format!("the readiness gate {gate:?} is False"),
            "lastTransitionTime": rfc3339(now),
        })
    })
}

fn status_patch(pod: &Pod, conditions: Vec<Value>, why: Why) -> Action {
    let at = pod.at();
    let patch = json!({"metadata": preconditions(&at), "status": {"conditions": conditions}});
    Action::PatchPodStatus { at, patch, why }
}

/// Second write: images, labels, annotations and the record of what ran before, all at once. `updating` also moves the
/// pod's life to that state, for hooks to see.
pub fn change(pod: &Pod, batch: &Batch, revision: &str, updating: bool, nodes: &Nodes, now: Timestamp) -> Action {
    let at = pod.at();
    let change = &batch.now;
    let mut labels: BTreeMap<&str, Option<&str>> = change
        .labels
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_deref()))
        .collect();
    labels.insert(names::REVISION, Some(revision));
    labels.insert(names::POD_TEMPLATE_HASH, Some(short(revision)));
    if updating {
        labels.insert(names::LIFECYCLE_STATE, Some(names::STATE_UPDATING));
    }

    let (last, origins) = records(pod, change, nodes, now);
    let state = InPlaceUpdateState {
        last_container_statuses: Some(last),
        ..record(pod, batch, revision, now)
    };
    let mut annotations: BTreeMap<&str, Option<String>> = change
        .annotations
        .iter()
        .map(|(key, value)| (key.as_str(), value.clone()))
        .collect();
    annotations.insert(
        names::INPLACE_STATE,
        Some(serde_json::to_string(&state).unwrap_or_default()),
    );
    if updating {
        annotations.insert(names::LIFECYCLE_TIMESTAMP, Some(rfc3339(now)));
    }
    annotations.insert(names::INPLACE_FROM, Some(write_origins(&origins)));
    for stale in [
        names::INPLACE_STATE_LEGACY,
        names::INPLACE_GRACE,
        names::INPLACE_GRACE_LEGACY,
    ] {
        if pod.annotations.contains_key(stale) {
            annotations.insert(stale, None);
        }
    }

    let mut metadata = preconditions(&at);
    metadata.insert("labels".into(), json!(labels));
    metadata.insert("annotations".into(), json!(annotations));
    let mut patch = json!({"metadata": metadata});
    if !change.images.is_empty() {
        let containers: Vec<_> = change
            .images
            .iter()
            .map(|(name, image)| json!({"name": name, "image": image}))
            .collect();
        patch["spec"] = json!({"containers": containers});
    }
    Action::PatchPod {
        at,
        patch,
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
    batches.push(json!({"timestamp": rfc3339(now), "containers": batch.now.containers()}));
    let Next {
        images,
        metadata,
        resources,
        check,
    } = batch.next.clone();
    InPlaceUpdateState {
        revision: revision.to_owned(),
        update_timestamp: start.unwrap_or_else(|| rfc3339(now)),
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

/// New cpu and memory through the `resize` subresource: `{"name": …, "resources": …}` per container.
pub fn resize(pod: &Pod, containers: &[Value]) -> Action {
    let at = pod.at();
    let patch = json!({"metadata": preconditions(&at), "spec": {"containers": containers}});
    Action::ResizePod { at, patch }
}

/// Writes annotations that nothing restarts for.
pub(crate) fn annotate(pod: &Pod, annotations: &[(&str, &str)]) -> Action {
    let at = pod.at();
    let mut metadata = preconditions(&at);
    let annotations: BTreeMap<_, _> = annotations.iter().copied().collect();
    metadata.insert("annotations".into(), json!(annotations));
    Action::PatchPod {
        at,
        patch: json!({"metadata": metadata}),
        why: Why::Launch,
    }
}

/// OpenKruise's quiet period for a revision that the pod no longer has: only the annotation goes.
pub fn drop_grace(pod: &Pod) -> Action {
    let at = pod.at();
    let mut metadata = preconditions(&at);
    let present = |key: &&str| pod.annotations.contains_key(key);
    let gone: Map<String, Value> = [names::INPLACE_GRACE, names::INPLACE_GRACE_LEGACY]
        .iter()
        .filter(|key| present(key))
        .map(|key| ((*key).to_owned(), Value::Null))
        .collect();
    metadata.insert("annotations".into(), Value::Object(gone));
    Action::PatchPod {
        at,
        patch: json!({"metadata": metadata}),
        why: Why::Update,
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
        last.insert(
            name.clone(),
            LastContainerStatus {
                image_id: status.map(|s| s.image_id.to_string()).unwrap_or_default(),
            },
        );
        from.insert(
            name.clone(),
            ContainerOrigin {
                container_id: status.and_then(|s| s.container_id.clone()).unwrap_or_default(),
                ran: status.map(|s| s.image.to_string()).unwrap_or_default(),
                images,
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
                "conditions": [{"type": "Ready", "status": "True"}],
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
    fn the_message_carries_the_drain() {
        let now: Timestamp = "2026-01-01T00:00:00.25Z".parse().unwrap();
        let Action::PatchPodStatus { patch, .. } = leave_service(&pod(), "web-new", true, now) else {
            panic!()
        };
        assert_eq!(patch["metadata"], json!({"uid": "u", "resourceVersion": "7"}));
        assert_eq!(patch["status"]["conditions"][1]["type"], "Ready");
        let mut drained = pod();
        drained.status.conditions = serde_json::from_value(patch["status"]["conditions"].clone()).unwrap();
        assert_eq!(
            Drain::of(&drained),
            Some(Drain {
                revision: "web-new".into(),
                since: now,
                ready_at: Some(7),
            })
        );
        let Action::PatchPodStatus { patch, .. } = return_to_service(&drained, now) else {
            panic!()
        };
        assert_eq!(
            patch["status"]["conditions"][0],
            json!({"type": "InPlaceUpdateReady", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z",
                "reason": null, "message": null})
        );
    }

    #[test]
    fn a_foreign_false_is_no_drain() {
        let mut pod = pod();
        pod.status.conditions = serde_json::from_value(json!([
            {"type": names::INPLACE_READY, "status": "False", "reason": names::START_INPLACE_UPDATE}
        ]))
        .unwrap();
        assert_eq!(Drain::of(&pod), None);
    }

    #[test]
    fn everything_goes_in_one_write() {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let wanted = Change {
            images: [("app".into(), "app:2".into())].into(),
            ..Change::default()
        };
        let Action::PatchPod { patch, .. } = change(&pod(), &whole(wanted), "web-new", false, &Nodes::new(), now)
        else {
            panic!()
        };
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
        let Action::PatchPod { patch, .. } = change(&pod, &whole(both), "web-b", false, &Nodes::new(), now) else {
            panic!()
        };
        for (key, value) in patch["metadata"]["annotations"].as_object().unwrap() {
            pod.annotations.set(key, value.as_str());
        }
        pod.spec.containers[0].image = "app:2".into();
        pod.spec.containers[1].image = "log:2".into();
        let one = Change {
            images: [("app".into(), "app:3".into())].into(),
            ..Change::default()
        };
        let (last, from) = records(&pod, &one, &Nodes::new(), now);
        assert_eq!(last.keys().collect::<Vec<_>>(), ["app", "log"]);
        assert_eq!(from["app"].images, ["app:1", "app:2"]);
    }
}
