//! The node's side of a pod: it sees the spec late, restarts what changed, reports late.

use std::collections::BTreeMap;
use std::sync::Arc;

use afloat_api::names;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{World, object};
use crate::merge::merge;
use afloat_rollout::pod::images::{Known, Nodes};

/// What a node knows and runs of one pod.
#[derive(Default)]
pub(crate) struct Node {
    /// The pod as the node saw it last.
    seen: Option<Value>,
    pub(crate) running: BTreeMap<String, Container>,
}

pub(crate) struct Container {
    pub(crate) image: String,
    starts: u32,
    ready: bool,
    since: Timestamp,
}

/// "app:2" and "app:3" are one image; "app:bad" cannot be had.
fn digest(image: &str) -> &str {
    if image == "app:3" { "app:2" } else { image }
}

impl World {
    /// What the nodes list: that "app:2" and "app:3" are one image.
    pub(crate) fn node_images(&self) -> Nodes {
        let node = json!({"metadata": {"name": "node"}, "status": {"images": [
            {"names": ["app@sha256:app:2", "app:2", "app:3"]}, {"names": ["app@sha256:app:1", "app:1"]}]}});
        let node = Arc::new(serde_json::from_value(node).unwrap());
        [("node".to_owned(), Known { node, report: None })].into()
    }

    /// Time passes. A node stops a container that runs the wanted image under another name within the time that it is watched
    /// for: the planner relies on it, as nothing tells such a container from the wanted one.
    pub(crate) fn tick(&mut self, time: SignedDuration) {
        for pod in self.pods.values() {
            let Some(node) = self.nodes.get_mut(pod["metadata"]["uid"].as_str().unwrap()) else {
                continue;
            };
            let containers = pod["spec"]["containers"].as_array().unwrap();
            let mistaken = containers.iter().any(|container| {
                let (name, image) = (&container["name"], container["image"].as_str().unwrap());
                let running = node.running.get(name.as_str().unwrap());
                running.is_some_and(|running| running.image != image && digest(&running.image) == digest(image))
            });
            if mistaken {
                node.seen = Some(pod.clone());
                node.act(self.now);
            }
        }
        self.now += time;
    }

    /// One step of one pod's node. What it does is drawn, unless `eager`: then it does everything.
    pub(crate) fn node_step(&mut self, name: &str, eager: bool) {
        let pod = self.pods[name].clone();
        let uid = pod["metadata"]["uid"].as_str().unwrap().to_owned();
        if !pod["metadata"]["deletionTimestamp"].is_null() {
            self.pods.remove(name);
            self.nodes.remove(&uid);
            self.collect_claims();
            self.record();
            return;
        }
        if pod["spec"]["nodeName"].is_null() {
            let claim = &pod["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"];
            let alive = |name| {
                self.claims
                    .get(name)
                    .is_some_and(|claim: &Value| claim["metadata"]["deletionTimestamp"].is_null())
            };
            if claim.as_str().is_some_and(|name| !alive(name)) {
                return;
            }
            self.write_pod(name, &json!({"spec": {"nodeName": "node"}}));
            if !eager {
                return;
            }
        }
        if eager || self.dice.roll(3) == 0 {
            self.hook_step(name);
        }
        let step = self.dice.roll(4);
        let crash = self.faults && !eager && self.dice.roll(8) == 0;
        let (now, old_names) = (self.now, self.old_names);
        let node = self.nodes.entry(uid.clone()).or_default();
        if eager || step == 0 {
            node.seen = Some(self.pods[name].clone());
        }
        if eager || step == 1 {
            node.act(now);
        }
        if eager || step == 2 {
            node.running.values_mut().for_each(|container| container.ready = true);
        }
        if crash {
            node.crash(now);
        }
        if (eager || step == 3)
            && let Some(status) = node.status(&uid, old_names)
        {
            self.write_pod(name, &json!({"status": status}));
        }
    }

    /// What the user's controller does with its labels.
    fn hook_step(&mut self, name: &str) {
        let labels = match self.pods[name]["metadata"]["labels"][names::LIFECYCLE_STATE].as_str() {
            Some("PreparingNormal") => json!({"hook/normal": "on", "hook/update": "on", "hook/delete": "on"}),
            Some("PreparingUpdate") => json!({"hook/update": null}),
            Some("Updated") => json!({"hook/update": "on"}),
            Some("PreparingDelete") => json!({"hook/delete": null}),
            _ => return,
        };
        if self.set["spec"]["lifecycle"].is_object() {
            self.write_pod(name, &json!({"metadata": {"labels": labels}}));
        }
    }

    fn write_pod(&mut self, name: &str, patch: &Value) {
        let mut pod = self.pods[name].clone();
        merge(&mut pod, patch);
        if pod != self.pods[name] {
            self.version += 1;
            pod["metadata"]["resourceVersion"] = json!(self.version.to_string());
            self.pods.insert(name.to_owned(), pod);
            self.record();
        }
    }
}

impl Node {
    /// Starts what does not run, restarts what runs from another image than the node has seen.
    fn act(&mut self, now: Timestamp) {
        let Some(seen) = &self.seen else { return };
        for container in seen["spec"]["containers"].as_array().unwrap() {
            let (name, image) = (
                container["name"].as_str().unwrap(),
                container["image"].as_str().unwrap(),
            );
            let starts = match self.running.get(name) {
                Some(running) if running.image == image => continue,
                Some(running) => running.starts + 1,
                None => 0,
            };
            if image == "app:bad" {
                if let Some(running) = self.running.get_mut(name) {
                    running.ready = false;
                }
                continue;
            }
            self.running.insert(
                name.to_owned(),
                Container {
                    image: image.to_owned(),
                    starts,
                    ready: false,
                    since: now,
                },
            );
        }
    }

    /// A container ends and is started again, from what the node has seen.
    fn crash(&mut self, now: Timestamp) {
        for container in self.running.values_mut() {
            container.starts += 1;
            container.since = now;
            container.ready = false;
        }
        self.act(now);
    }

    /// As reported: by what the node saw last, gates included, so that it may be late in both directions.
    fn status(&self, uid: &str, old_names: bool) -> Option<Value> {
        let seen = self.seen.as_ref()?;
        let specs = seen["spec"]["containers"].as_array().unwrap();
        let statuses: Vec<_> = specs
            .iter()
            .filter_map(|container| {
                let name = container["name"].as_str().unwrap();
                let running = self.running.get(name)?;
                let reported = if old_names {
                    digest(&running.image)
                } else {
                    &running.image
                };
                Some(json!({
                    "name": name, "image": reported, "imageID": format!("sha256:{}", digest(&running.image)),
                    "containerID": format!("{uid}/{name}/{}", running.starts), "restartCount": running.starts,
                    "ready": running.ready, "state": {"running": {"startedAt": running.since}},
                }))
            })
            .collect();
        let all = statuses.len() == specs.len() && self.running.values().all(|container| container.ready);
        let gates = seen["spec"]["readinessGates"].as_array().cloned().unwrap_or_default();
        let open = gates
            .iter()
            .all(|gate| object::condition(seen, gate["conditionType"].as_str().unwrap())["status"] == "True");
        let word = if all && open { "True" } else { "False" };
        Some(json!({
            "phase": "Running",
            "observedGeneration": seen["metadata"]["generation"],
            "containerStatuses": statuses,
            "conditions": [{"type": "Ready", "status": word}],
        }))
    }
}
