//! Pod objects, each different one kept once, without what tells equal pods apart (names, uids, versions, times), and what nodes do to them.

use std::collections::HashMap;
use std::sync::Arc;

use afloat_api::names;
use afloat_rollout::pod::object::Pod;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::setup::{BAD, Setup};
use crate::merge::merge;
use crate::model::node::replaced;
use crate::world::object::condition;

pub(super) const NOW: &str = "2026-01-01T00:10:00Z";

pub(super) fn now() -> Timestamp {
    NOW.parse().unwrap()
}

/// What the checks ask about an object.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    pub(super) there: bool,
    pub(super) available: bool,
    /// Taken out of service, and for which revision it is meant.
    pub(super) drained: bool,
    pub(super) revision: Option<u8>,
    pub(super) image: String,
}

/// All objects met so far; number 0 is none.
pub(super) struct Objects {
    ids: HashMap<String, u16>,
    values: Vec<Value>,
    facts: Vec<Facts>,
    rendered: HashMap<(u16, usize), Arc<Pod>>,
}

/// One step of what happens at a pod's node, or to the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Step {
    /// The node does all that it can do for the pod, and says so.
    Work,
    /// A container is not ready any more.
    Break,
    /// The node is not heard of any more.
    Lose,
    /// It is back.
    Return,
    /// Somebody deletes the pod.
    Delete,
    /// It ends.
    Fail,
}

impl Objects {
    pub(super) fn new() -> Self {
        Self {
            ids: HashMap::new(),
            values: vec![Value::Null],
            facts: vec![Facts::default()],
            rendered: HashMap::new(),
        }
    }

    pub(super) fn value(&self, id: u16) -> &Value {
        &self.values[usize::from(id)]
    }

    pub(super) fn facts(&self, id: u16) -> &Facts {
        &self.facts[usize::from(id)]
    }

    /// The number of an object.
    pub(super) fn keep(&mut self, mut value: Value, setup: &Setup) -> u16 {
        if value.is_null() {
            return 0;
        }
        canonical(&mut value);
        let text = value.to_string();
        if let Some(id) = self.ids.get(&text) {
            return *id;
        }
        let id = u16::try_from(self.values.len()).expect("fewer objects");
        self.facts.push(facts(&value, setup));
        self.values.push(value);
        self.ids.insert(text, id);
        id
    }

    /// The object as the planner gets it.
    pub(super) fn render(&mut self, id: u16, ordinal: usize) -> Arc<Pod> {
        let value = &self.values[usize::from(id)];
        let render = || {
            let mut pod: Pod = serde_json::from_value(named(value, id, ordinal)).unwrap();
            pod.metadata.resource_version = version(id, ordinal).as_str().into();
            Arc::new(pod)
        };
        self.rendered.entry((id, ordinal)).or_insert_with(render).clone()
    }

    /// The object after a write of the controller.
    pub(super) fn patched(&mut self, id: u16, patch: &Value, setup: &Setup) -> u16 {
        let before = self.value(id);
        let mut value = before.clone();
        let mut patch = patch.clone();
        if let Some(metadata) = patch["metadata"].as_object_mut() {
            metadata.remove("uid");
            metadata.remove("resourceVersion");
        }
        merge(&mut value, &patch);
        // A generation is the one before the present, or the present.
        if value["spec"] != before["spec"] && !value["status"]["observedGeneration"].is_null() {
            value["status"]["observedGeneration"] = json!(1);
        }
        self.keep(value, setup)
    }

    /// The object after a deletion: gone at once where no node has to say so.
    pub(super) fn deleted(&mut self, id: u16, setup: &Setup) -> u16 {
        let mut value = self.value(id).clone();
        let over = matches!(value["status"]["phase"].as_str(), Some("Failed" | "Succeeded"));
        if over || value["spec"]["nodeName"].is_null() {
            return 0;
        }
        value["metadata"]["deletionTimestamp"] = json!(NOW);
        self.keep(value, setup)
    }

    /// What a step makes of an object; the same number where it makes nothing.
    pub(super) fn step(&mut self, id: u16, step: Step, setup: &Setup) -> u16 {
        let before = self.value(id);
        if before.is_null() {
            return id;
        }
        let mut value = before.clone();
        let lost = value["status"]["lost"] == true;
        let running = value["status"]["phase"] == "Running";
        match step {
            Step::Work if lost => return id,
            Step::Work if !value["metadata"]["deletionTimestamp"].is_null() => return 0,
            Step::Work if value["status"]["phase"] == "Failed" => return id,
            Step::Work => work(&mut value),
            Step::Break if running => ready(&mut value, false),
            Step::Lose if running && !lost => {
                value["status"]["lost"] = json!(true);
                ready(&mut value, false);
            }
            Step::Return if lost => drop(value["status"].as_object_mut().unwrap().remove("lost")),
            Step::Delete => return self.deleted(id, setup),
            Step::Fail if running && !lost => value["status"]["phase"] = json!("Failed"),
            _ => return id,
        }
        self.keep(value, setup)
    }
}

/// The kubelet: containers run what the spec says, if they can, and the pod is Ready if they and the gates are.
fn work(pod: &mut Value) {
    pod["spec"]["nodeName"] = json!("node");
    let image = pod["spec"]["containers"][0]["image"].as_str().unwrap().to_owned();
    let has = pod["status"]["containerStatuses"][0]["image"].clone();
    let phase = if image == BAD && has.is_null() {
        "Pending"
    } else {
        "Running"
    };
    let (container, reason) = match image.as_str() {
        BAD => ("", json!({"waiting": {"reason": "ImagePullBackOff"}})),
        _ => ("c1", json!({"running": {}})),
    };
    if has.is_string() && has != image.as_str() {
        replaced(pod, "app");
    }
    pod["status"]["phase"] = json!(phase);
    pod["status"]["observedGeneration"] = json!(2);
    pod["status"]["containerStatuses"] = json!([{"name": "app", "image": image, "imageID": format!("sha256:{image}"),
        "containerID": container, "ready": image != BAD, "state": reason}]);
    ready(pod, image != BAD);
}

fn ready(pod: &mut Value, containers: bool) {
    pod["status"]["containerStatuses"][0]["ready"] = json!(containers);
    let gates = pod["spec"]["readinessGates"].as_array().into_iter().flatten();
    let closed = |gate: &Value| condition(pod, gate["conditionType"].as_str().unwrap())["status"] != "True";
    let open = !gates.into_iter().any(closed);
    let word = if containers && open { "True" } else { "False" };
    merge(
        pod,
        &json!({"status": {"conditions": [{"type": "Ready", "status": word}]}}),
    );
}

/// With its name and, for what it reads as a whole, its version.
fn named(value: &Value, id: u16, ordinal: usize) -> Value {
    let mut pod = value.clone();
    let name = format!("web-{ordinal}");
    pod["metadata"]["name"] = json!(name);
    pod["metadata"]["namespace"] = json!("n");
    pod["metadata"]["uid"] = json!(format!("uid-{ordinal}"));
    pod["metadata"]["resourceVersion"] = json!(version(id, ordinal));
    pod["metadata"]["labels"][names::POD_NAME] = json!(name);
    pod["metadata"]["labels"][names::POD_INDEX] = json!(ordinal.to_string());
    pod
}

/// What the API server would call this version.
pub(super) fn version(id: u16, ordinal: usize) -> String {
    (1000 * usize::from(id) + ordinal).to_string()
}

fn facts(value: &Value, setup: &Setup) -> Facts {
    let pod: Pod = serde_json::from_value(value.clone()).unwrap_or_default();
    let label = value["metadata"]["labels"][names::REVISION].as_str();
    Facts {
        there: true,
        available: pod.available(SignedDuration::ZERO, now()),
        drained: condition(value, names::INPLACE_READY)["status"] == "False",
        revision: label.map(|label| setup.revision(label)),
        image: value["spec"]["containers"][0]["image"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
    }
}

/// Takes out what decides nothing.
fn canonical(value: &mut Value) {
    let metadata = value["metadata"].as_object_mut().unwrap();
    for key in ["name", "namespace", "uid", "resourceVersion", "generateName"] {
        metadata.remove(key);
    }
    for (map, key) in [
        ("labels", names::POD_NAME),
        ("labels", names::POD_INDEX),
        ("annotations", names::LIFECYCLE_TIMESTAMP),
    ] {
        if let Some(map) = metadata.get_mut(map).and_then(Value::as_object_mut) {
            map.remove(key);
        }
    }
    if let Some(spec) = value["spec"].as_object_mut() {
        spec.remove("hostname");
    }
    for condition in value["status"]["conditions"].as_array_mut().into_iter().flatten() {
        condition.as_object_mut().unwrap().remove("lastTransitionTime");
    }
    if let Some(list) = value["status"]["conditions"].as_array_mut() {
        list.sort_by_key(|condition| condition["type"].to_string());
    }
}
