//! Pod objects, each different one kept once, as the API server has them but for what tells equal pods apart (names,
//! uids, versions) or makes every moment a new one (times).

use std::collections::HashMap;
use std::sync::Arc;

use afloat_api::names;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::node::{DOOMED, SEEN};
use super::setup::{HOOK_DELETE, HOOK_UPDATE, Setup};
use super::state::NONE;
use crate::merge::merge;
use crate::world::object::condition;
use afloat_rollout::pod::object::{Pod, Sight};

/// Now, over a quiet period ago, and so long ago that nothing waits any longer.
pub(super) const TIMES: [&str; 3] = ["2026-01-01T00:00:08Z", "2026-01-01T00:00:04Z", "2026-01-01T00:00:00Z"];

pub(super) fn now() -> Timestamp {
    TIMES[0].parse().unwrap()
}

/// What the checks ask about an object.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) active: bool,
    pub(super) terminating: bool,
    pub(super) available: bool,
    /// Revision of the label.
    pub(super) revision: u8,
    pub(super) images: Vec<String>,
    pub(super) gated: bool,
    /// Status of the condition InPlaceUpdateReady; empty if there is none.
    pub(super) gate: String,
    pub(super) hooked: [bool; 2],
    pub(super) state: String,
}

/// All objects met so far; number 0 is none.
pub(super) struct Objects {
    ids: HashMap<String, u16>,
    texts: Vec<String>,
    values: Vec<Value>,
    facts: Vec<Facts>,
    rendered: HashMap<(u16, usize), Arc<Pod>>,
    older: HashMap<u16, u16>,
}

impl Objects {
    pub(super) fn new(setup: &Setup) -> Self {
        let mut objects = Self {
            ids: HashMap::new(),
            texts: Vec::new(),
            values: Vec::new(),
            facts: Vec::new(),
            rendered: HashMap::new(),
            older: HashMap::new(),
        };
        objects.keep(json!(null), setup);
        objects
    }

    pub(super) fn value(&self, id: u16) -> &Value {
        &self.values[usize::from(id)]
    }

    pub(super) fn facts(&self, id: u16) -> &Facts {
        &self.facts[usize::from(id)]
    }

    /// The number of an object.
    pub(super) fn keep(&mut self, mut value: Value, setup: &Setup) -> u16 {
        canonical(&mut value, setup);
        let text = value.to_string();
        self.keep_text(text, setup)
    }

    fn keep_text(&mut self, text: String, setup: &Setup) -> u16 {
        if let Some(id) = self.ids.get(&text) {
            return *id;
        }
        let id = u16::try_from(self.texts.len()).expect("fewer objects");
        let value: Value = serde_json::from_str(&text).unwrap();
        self.facts.push(facts(&value, setup));
        self.values.push(value);
        self.ids.insert(text.clone(), id);
        self.texts.push(text);
        id
    }

    /// The object as the planner gets it, from the place that it has.
    pub(super) fn render(&mut self, id: u16, place: usize) -> Arc<Pod> {
        let value = &self.values[usize::from(id)];
        let render = || {
            let mut pod: Pod = serde_json::from_value(value.clone()).unwrap();
            for (index, status) in pod.status.container_statuses.iter_mut().enumerate() {
                let since = value["status"]["containerStatuses"][index][SEEN].as_str();
                let since = since.map(|since| since.parse().unwrap());
                status.seen = since.map(|since| Sight { since, replaced: true });
            }
            pod.metadata.name = format!("web-{place}").as_str().into();
            pod.metadata.uid = format!("uid-{place}").as_str().into();
            pod.metadata.resource_version = version(id, place).as_str().into();
            Arc::new(pod)
        };
        self.rendered.entry((id, place)).or_insert_with(render).clone()
    }

    /// The object after a write of the controller.
    pub(super) fn patched(&mut self, id: u16, patch: &Value, setup: &Setup) -> u16 {
        let before = &self.values[usize::from(id)];
        let mut value = before.clone();
        let mut patch = patch.clone();
        if let Some(metadata) = patch["metadata"].as_object_mut() {
            metadata.remove("uid");
            metadata.remove("resourceVersion");
        }
        merge(&mut value, &patch);
        if value["spec"] != before["spec"] && !value["status"]["observedGeneration"].is_null() {
            value["status"]["observedGeneration"] = json!(1);
        }
        self.keep(value, setup)
    }

    /// The object when some time has passed.
    pub(super) fn older(&mut self, id: u16, setup: &Setup) -> u16 {
        if let Some(older) = self.older.get(&id) {
            return *older;
        }
        let text = &self.texts[usize::from(id)];
        let text = if setup.settles() {
            text.replace(TIMES[1], TIMES[2]).replace(TIMES[0], TIMES[1])
        } else {
            text.replace(TIMES[0], TIMES[2])
        };
        let older = self.keep_text(text, setup);
        self.older.insert(id, older);
        older
    }
}

impl Objects {
    /// An object in short.
    pub(super) fn describe(&self, id: u16) -> String {
        if id == 0 {
            return "none".into();
        }
        let (value, facts) = (self.value(id), self.facts(id));
        let statuses = value["status"]["containerStatuses"].as_array();
        let runs = |status: &Value| {
            format!(
                "{} of {} as {}{}",
                status["image"].as_str().unwrap_or_default(),
                status["imageID"].as_str().unwrap_or_default(),
                status["containerID"].as_str().unwrap_or_default(),
                if status["ready"] == true { "" } else { " not ready" },
            )
        };
        format!(
            "#{id} {}{} rev {} images {:?} gate {} {} Ready {} state {}\n      status {:?} generation {}\n      {} {}",
            if facts.terminating { "terminating " } else { "" },
            if facts.available { "available" } else { "not available" },
            facts.revision,
            facts.images,
            facts.gate,
            condition(value, names::INPLACE_READY)["message"],
            condition(value, "Ready")["status"],
            facts.state,
            statuses.into_iter().flatten().map(runs).collect::<Vec<_>>(),
            value["status"]["observedGeneration"],
            value["metadata"]["annotations"][names::INPLACE_FROM],
            value["metadata"]["annotations"][names::INPLACE_STATE],
        )
    }
}

/// What the API server would call this version.
pub(super) fn version(id: u16, place: usize) -> String {
    (1000 * usize::from(id) + place).to_string()
}

fn facts(value: &Value, setup: &Setup) -> Facts {
    let pod: Pod = serde_json::from_value(value.clone()).unwrap_or_default();
    let there = !value.is_null();
    let label = |key: &str| value["metadata"]["labels"][key].as_str().unwrap_or_default();
    Facts {
        active: there && pod.active(),
        terminating: pod.metadata.terminating,
        available: there && pod.available(SignedDuration::ZERO, now()) && !doomed(&pod),
        revision: if there {
            setup.revision(label(names::REVISION))
        } else {
            NONE
        },
        images: pod
            .spec
            .containers
            .iter()
            .map(|container| container.image.to_string())
            .collect(),
        gated: pod.has_gate(names::INPLACE_READY),
        gate: condition(value, names::INPLACE_READY)["status"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
        hooked: [HOOK_UPDATE, HOOK_DELETE].map(|key| label(key) == "on"),
        state: label(names::LIFECYCLE_STATE).to_owned(),
    }
}

/// Whatever is said of it at times, it never serves.
fn doomed(pod: &Pod) -> bool {
    pod.spec.containers.iter().any(|container| container.image == DOOMED)
}

/// Takes out what decides nothing.
fn canonical(value: &mut Value, setup: &Setup) {
    if value.is_null() {
        return;
    }
    let metadata = value["metadata"].as_object_mut().unwrap();
    for key in ["name", "uid", "resourceVersion", "creationTimestamp"] {
        metadata.remove(key);
    }
    if let Some(labels) = metadata["labels"].as_object_mut() {
        labels.remove(names::INSTANCE_ID);
    }
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.remove(names::LIFECYCLE_TIMESTAMP);
        if let Some(from) = annotations.get_mut(names::INPLACE_FROM) {
            *from = json!(sorted_images(from.as_str().unwrap()));
        }
    }
    for condition in value["status"]["conditions"].as_array_mut().into_iter().flatten() {
        // Where readiness has to hold, it matters since when it is there.
        let kubelets = condition["type"] == "ContainersReady" || condition["type"] == "Ready";
        if !(kubelets && setup.post_start) {
            condition.as_object_mut().unwrap().remove("lastTransitionTime");
        }
    }
    if let Some(conditions) = value["status"]["conditions"].as_array_mut() {
        conditions.sort_by_key(|condition| condition["type"].as_str().map(str::to_owned));
    }
    if setup.settles() {
        return;
    }
    let drain = value["status"]["conditions"]
        .as_array()
        .and_then(|all| all.iter().position(|c| c["type"] == names::INPLACE_READY));
    let message = drain
        .filter(|_| setup.grace)
        .map(|at| value["status"]["conditions"][at]["message"].take());
    let text = value
        .to_string()
        .replace(TIMES[0], TIMES[2])
        .replace(TIMES[1], TIMES[2]);
    *value = serde_json::from_str(&text).unwrap();
    if let (Some(at), Some(message)) = (drain, message)
        && !message.is_null()
    {
        value["status"]["conditions"][at]["message"] = message;
    }
    // What was taken out above leaves a null behind.
    for condition in value["status"]["conditions"].as_array_mut().into_iter().flatten() {
        condition.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    }
}

/// Of the images that a container is to shed, only which they are matters.
fn sorted_images(text: &str) -> String {
    let mut from: Value = serde_json::from_str(text).unwrap();
    for origin in from.as_object_mut().unwrap().values_mut() {
        let images = origin["images"].as_array_mut().unwrap();
        images.sort_by_key(|image| image.as_str().map(str::to_owned));
        images.dedup();
    }
    from.to_string()
}
