//! Pod objects, each different one kept once, without what tells equal pods apart; beside what the API server has stands the image that
//! the container really runs, where no planner looks.

use std::collections::HashMap;
use std::sync::Arc;

use afloat_api::names;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::setup::{REVISION, REVISIONS, Setup, Slot, node_name};
use crate::merge::merge;
use crate::world::object::condition;
use afloat_rollout::pod::object::Pod;

pub(super) const LONG_AGO: &str = "2026-01-01T00:00:00Z";

pub(super) fn now() -> Timestamp {
    "2026-01-01T01:00:00Z".parse().unwrap()
}

/// What the container runs.
const RUNS: &str = "runs";

/// What the checks ask about an object.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    pub(super) active: bool,
    pub(super) terminating: bool,
    pub(super) failed: bool,
    pub(super) available: bool,
    /// Its container runs what its spec says, or has never run.
    pub(super) true_to_spec: bool,
    pub(super) revision: u8,
    pub(super) bound: bool,
    pub(super) gate_closed: bool,
    pub(super) prepared: bool,
    pub(super) hooked: bool,
    pub(super) specified: bool,
}

/// All objects met so far; number 0 is none.
pub(super) struct Objects {
    hashes: Vec<String>,
    ids: HashMap<String, u16>,
    values: Vec<Value>,
    facts: Vec<Facts>,
    rendered: HashMap<(u16, usize, u8, u8), Arc<Pod>>,
}

impl Objects {
    pub(super) fn new(setup: &Setup) -> Self {
        Self {
            hashes: (0..REVISIONS).map(|revision| setup.hash(revision)).collect(),
            ids: [("null".to_owned(), 0)].into(),
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

    pub(super) fn keep(&mut self, mut value: Value) -> u16 {
        canonical(&mut value);
        let text = value.to_string();
        if let Some(id) = self.ids.get(&text) {
            return *id;
        }
        let id = u16::try_from(self.values.len()).expect("fewer objects");
        self.facts.push(self.look(&value));
        self.values.push(value);
        self.ids.insert(text, id);
        id
    }

    /// The object after a write.
    pub(super) fn patched(&mut self, id: u16, patch: &Value) -> u16 {
        let mut value = self.value(id).clone();
        merge(&mut value, patch);
        self.keep(value)
    }

    /// The object as the planner gets it.
    pub(super) fn render(&mut self, id: u16, slot: Slot, place: usize) -> Arc<Pod> {
        let value = &self.values[usize::from(id)];
        let render = || {
            let mut value = value.clone();
            let name = format!("log-{place}");
            value["metadata"]["name"] = json!(name);
            value["metadata"]["uid"] = json!(format!("uid-{place}"));
            value["metadata"]["resourceVersion"] = json!(version(id, place));
            value["metadata"]["creationTimestamp"] = json!(format!("2025-12-01T00:00:0{}Z", slot.born));
            let node = node_name(usize::from(slot.node));
            afloat_words::daemon::pin(&mut value["spec"], &node);
            if value["spec"]["nodeName"].is_string() {
                value["spec"]["nodeName"] = json!(node);
            }
            Arc::new(serde_json::from_value(value).unwrap())
        };
        self.rendered
            .entry((id, place, slot.node, slot.born))
            .or_insert_with(render)
            .clone()
    }

    fn look(&self, value: &Value) -> Facts {
        let pod: Pod = serde_json::from_value(value.clone()).unwrap_or_default();
        let there = !value.is_null();
        let label = |key: &str| pod.labels.get(key).unwrap_or_default().to_owned();
        let revision = self.hashes.iter().position(|hash| *hash == label(REVISION));
        Facts {
            active: there && pod.active(),
            terminating: pod.metadata.terminating,
            failed: pod.status.phase == "Failed",
            available: there && pod.available(SignedDuration::ZERO, now()),
            true_to_spec: value[RUNS].is_null() || value[RUNS] == value["spec"]["containers"][0]["image"],
            revision: revision.map_or(u8::MAX, |found| u8::try_from(found).unwrap()),
            bound: value["spec"]["nodeName"].is_string(),
            gate_closed: condition(value, names::INPLACE_READY)["status"] == "False",
            prepared: label(names::LIFECYCLE_STATE) == names::STATE_PREPARING_DELETE,
            hooked: label("hold") == "true",
            specified: pod.labels.contains_key(names::SPECIFIED_DELETE),
        }
    }

    /// All that a node can do for a pod that is not on its way out.
    pub(super) fn run(&mut self, id: u16) -> u16 {
        let mut value = self.value(id).clone();
        if !value["spec"]["nodeName"].is_string() {
            value["spec"]["nodeName"] = json!("a node");
        }
        let wanted = value["spec"]["containers"][0]["image"].clone();
        value[RUNS] = wanted.clone();
        let gates = value["spec"]["readinessGates"].as_array().cloned().unwrap_or_default();
        let open = gates
            .iter()
            .all(|gate| condition(&value, gate["conditionType"].as_str().unwrap())["status"] == "True");
        merge(
            &mut value,
            &json!({"status": {
                "phase": "Running", "observedGeneration": 1,
                "conditions": [{"type": "Ready", "status": if open { "True" } else { "False" }}],
            }}),
        );
        value["status"]["containerStatuses"] = json!([{
            "name": "app", "image": wanted, "imageID": format!("sha256:{}", wanted.as_str().unwrap()), "containerID": "c1",
            "ready": true, "state": {"running": {"startedAt": LONG_AGO}},
        }]);
        self.keep(value)
    }

    /// The container ends, or the whole pod.
    pub(super) fn spoil(&mut self, id: u16, fails: bool) -> u16 {
        let mut value = self.value(id).clone();
        if fails {
            value["status"]["phase"] = json!("Failed");
        }
        merge(
            &mut value,
            &json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}}),
        );
        if let Some(status) = value["status"]["containerStatuses"].get_mut(0) {
            status["ready"] = json!(false);
        }
        self.keep(value)
    }

    /// It is on its way out.
    pub(super) fn terminate(&mut self, id: u16) -> u16 {
        self.patched(id, &json!({"metadata": {"deletionTimestamp": LONG_AGO}}))
    }

    pub(super) fn describe(&self, slot: Slot) -> String {
        let facts = self.facts(slot.object);
        let late = if slot.seen == slot.object { "" } else { ", seen late" };
        format!("n{} (came {}): {facts:?}{late}", slot.node, slot.born)
    }
}

/// What the API server would call this version.
pub(super) fn version(id: u16, place: usize) -> String {
    (1000 * usize::from(id) + place).to_string()
}

/// Takes out what decides nothing, and what a slot says.
fn canonical(value: &mut Value) {
    if value.is_null() {
        return;
    }
    let metadata = value["metadata"].as_object_mut().unwrap();
    for key in ["name", "uid", "resourceVersion", "creationTimestamp", "generateName"] {
        metadata.remove(key);
    }
    let spec = value["spec"].as_object_mut().unwrap();
    spec.remove("affinity");
    spec.remove("tolerations");
    if spec.get("nodeName").is_some_and(Value::is_string) {
        spec.insert("nodeName".into(), json!("a node"));
    }
    if let Some(annotations) = value["metadata"].get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.remove(names::LIFECYCLE_TIMESTAMP);
        // Where a container has been by itself is walked in `model`.
        annotations.remove(names::INPLACE_FROM);
    }
    for condition in value["status"]["conditions"].as_array_mut().into_iter().flatten() {
        condition.as_object_mut().unwrap().remove("lastTransitionTime");
    }
    if let Some(conditions) = value["status"]["conditions"].as_array_mut() {
        conditions.sort_by_key(|condition| condition["type"].as_str().map(str::to_owned));
    }
}
