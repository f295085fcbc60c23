//! The node's side of a pod: what it has seen, what runs there, and each step that it may take.

use std::collections::HashMap;

use afloat_api::names;
use serde_json::{Value, json};

use super::object::{Objects, TIMES};
use super::setup::Setup;
use crate::merge::merge;
use crate::world::object::condition;

/// An image that cannot be had.
pub(super) const BAD: &str = "app:bad";
/// An image whose postStart hook fails, after any time. As with a real kubelet, the container may be reported running and ready
/// for a moment before that: it asks its runtime now and then, and the runtime knows no hooks.
pub(super) const DOOMED: &str = "app:doomed";

/// Since when the controller has seen a container ready, kept beside what it sees.
pub(super) const SEEN: &str = "seen";

/// What a node knows and runs of one pod; and, for the checks, what was done to the pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Node {
    pub(super) seen: Option<Seen>,
    pub(super) running: [Option<Running>; 2],
    /// For which revision the pod was last taken out of service, and how long ago (0 to 2); None once it is back.
    pub(super) drained: Option<(u8, u8)>,
}

/// The spec as the node saw it last.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Seen {
    images: Vec<String>,
    gates_open: bool,
    /// It is the present spec.
    current: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Running {
    pub(super) image: String,
    /// The status speaks of this very container.
    reported: bool,
    ready: bool,
    /// How long ago it was started, 0 to 2.
    age: u8,
    /// It was stopped, and its successor cannot be had.
    pub(super) stopped: bool,
}

impl Running {
    /// Its hook has not failed yet.
    pub(super) fn doomed(&self) -> bool {
        !self.stopped && self.image == DOOMED
    }
}

/// All that nodes may have in mind; number 0 is nothing.
pub(super) struct Nodes {
    ids: HashMap<Node, u16>,
    all: Vec<Node>,
}

impl Nodes {
    pub(super) fn new() -> Self {
        let mut nodes = Self {
            ids: HashMap::new(),
            all: Vec::new(),
        };
        nodes.keep(Node::default());
        nodes
    }

    pub(super) fn get(&self, id: u16) -> &Node {
        &self.all[usize::from(id)]
    }

    pub(super) fn keep(&mut self, node: Node) -> u16 {
        if let Some(id) = self.ids.get(&node) {
            return *id;
        }
        let id = u16::try_from(self.all.len()).expect("fewer nodes");
        self.all.push(node.clone());
        self.ids.insert(node, id);
        id
    }
}

impl std::fmt::Display for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "node: seen {:?}, drained {:?}", self.seen, self.drained)?;
        for running in self.running.iter().flatten() {
            write!(f, ", runs {running:?}")?;
        }
        Ok(())
    }
}

/// One step of what happens at a pod's node, or to its containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Step {
    /// The pod is given to a node.
    Bind,
    /// The node sees the present object.
    See,
    /// It starts or restarts a container that does not run what it has seen.
    Act(usize),
    /// All containers become ready.
    Ready,
    /// It writes the status.
    Report,
    /// A container ends by itself and is started anew, from what the node has seen.
    Crash(usize),
    /// The postStart hook of a container fails, and the container is no more.
    Fail,
    /// A terminating pod is gone.
    Gone,
}

impl Node {
    /// Does a step; false if it changes nothing here, nor the object.
    pub(super) fn step(&mut self, step: Step, object: &mut Value, setup: &Setup) -> bool {
        let terminating = !object["metadata"]["deletionTimestamp"].is_null();
        let bound = !object["spec"]["nodeName"].is_null();
        match step {
            Step::Gone if terminating => {
                *self = Self::default();
                *object = Value::Null;
                true
            }
            Step::Gone => false,
            _ if terminating => false,
            Step::Bind if !bound => {
                object["spec"]["nodeName"] = json!("node");
                true
            }
            Step::Bind => false,
            Step::See => bound && self.see(object),
            Step::Act(container) => self.act(container, setup),
            Step::Ready => self.become_ready(),
            Step::Report => self.report(object, setup),
            Step::Fail => self.fail(),
            Step::Crash(container) => setup.crashes && self.crash(container, setup),
        }
    }

    fn see(&mut self, object: &Value) -> bool {
        let lists = ["containers", "initContainers"].map(|list| object["spec"][list].as_array());
        let images = lists.into_iter().flatten().flatten();
        let gates = object["spec"]["readinessGates"].as_array();
        let open = |gate: &Value| condition(object, gate["conditionType"].as_str().unwrap())["status"] == "True";
        let seen = Some(Seen {
            images: images
                .map(|container| container["image"].as_str().unwrap().to_owned())
                .collect(),
            gates_open: gates.into_iter().flatten().all(open),
            current: true,
        });
        let news = self.seen != seen;
        self.seen = seen;
        news
    }

    fn act(&mut self, container: usize, setup: &Setup) -> bool {
        let Some(seen) = &self.seen else { return false };
        let image = &seen.images[container];
        let running = &mut self.running[container];
        match running {
            Some(running) if running.stopped && image == BAD => return false,
            // It is waited for with longer and longer pauses.
            Some(running) if running.stopped && image == DOOMED && &running.image == image => return false,
            Some(running) if !running.stopped && &running.image == image => return false,
            Some(running) if image == BAD => {
                running.stopped = true;
                running.reported = false;
                running.ready = false;
                return true;
            }
            None if image == BAD => return false,
            _ => {}
        }
        *running = Some(Running {
            image: image.clone(),
            reported: false,
            ready: false,
            age: if setup.settles() { 0 } else { 2 },
            stopped: false,
        });
        true
    }

    fn become_ready(&mut self) -> bool {
        let mut news = false;
        for running in self.running.iter_mut().flatten().filter(|running| !running.stopped) {
            news |= !running.ready;
            running.ready = true;
        }
        news
    }

    fn fail(&mut self) -> bool {
        let mut doomed = self.running.iter_mut().flatten().filter(|running| running.doomed());
        let Some(running) = doomed.next() else { return false };
        running.stopped = true;
        running.reported = false;
        running.ready = false;
        true
    }

    fn crash(&mut self, container: usize, setup: &Setup) -> bool {
        let Some(seen) = &self.seen else { return false };
        // One that runs another image than the node has seen is about to be restarted anyway.
        let Some(running) = self.running[container]
            .as_mut()
            .filter(|running| !running.stopped && running.image == seen.images[container])
        else {
            return false;
        };
        let before = running.clone();
        running.reported = false;
        running.ready = false;
        if setup.settles() {
            running.age = 0;
        }
        before != *running
    }

    /// Writes the status by what the node saw last, gates included, so that it may be late in both directions.
    fn report(&mut self, object: &mut Value, setup: &Setup) -> bool {
        let Some(seen) = self.seen.clone() else { return false };
        let before = (self.clone(), object.clone());
        let mut statuses = Vec::new();
        for (index, running) in self.running.iter_mut().enumerate() {
            let Some(running) = running else { continue };
            let name = ["app", "log"][index];
            let first = Some(&of_container(object, name)[SEEN])
                .filter(|seen| running.reported && seen.is_string())
                .cloned();
            if !running.reported {
                let known = !of_container(object, name)["containerID"].is_null();
                if known {
                    replaced(object, name);
                }
                running.reported = true;
            }
            let digest = setup.digest(&running.image);
            let mut status = json!({
                "name": name, "image": if setup.one_image { digest } else { &running.image },
                "imageID": format!("sha256:{digest}"), "containerID": "c1", "ready": running.ready,
                "started": !running.stopped, "state": {"running": {"startedAt": TIMES[usize::from(running.age)]}},
            });
            if running.stopped && running.image == DOOMED {
                status["state"] = json!({"waiting": {"reason": "PostStartHookError"}});
            } else if running.stopped {
                status["image"] = json!(seen.images[index]);
                status["containerID"] = json!("");
                status["state"] = json!({"waiting": {"reason": "ImagePullBackOff"}});
            }
            if setup.post_start && running.ready && !running.stopped {
                status[SEEN] = first.unwrap_or_else(|| json!(TIMES[0]));
            }
            statuses.push(status);
        }
        let all = statuses.iter().filter(|status| status["ready"] == true).count() == seen.images.len();
        let word = if all && seen.gates_open { "True" } else { "False" };
        let mut status = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": word}]});
        if setup.post_start {
            let containers = if all { "True" } else { "False" };
            status["conditions"] = json!([
                since(object, "Ready", word),
                since(object, "ContainersReady", containers)
            ]);
        }
        if setup.tells_generation {
            status["observedGeneration"] = json!(if seen.current { 2 } else { 1 });
        }
        merge(object, &json!({"status": status}));
        let sidecar = |status: &Value| setup.sidecar && status["name"] == "log";
        let (sidecars, containers): (Vec<_>, Vec<_>) = statuses.into_iter().partition(sidecar);
        object["status"]["containerStatuses"] = json!(containers);
        if setup.sidecar {
            object["status"]["initContainerStatuses"] = json!(sidecars);
        }
        before != (self.clone(), object.clone())
    }

    /// The controller wrote another spec.
    pub(super) fn outdate(&mut self) {
        if let Some(seen) = &mut self.seen {
            seen.current = false;
        }
    }

    pub(super) fn in_step(&self) -> bool {
        let Some(seen) = &self.seen else { return true };
        let runs = |(running, image): (&Option<Running>, &String)| {
            running.as_ref().is_some_and(|running| match running.image.as_str() {
                // Its hook goes on, or has failed; that it seems ready is a moment.
                DOOMED if image == DOOMED => running.stopped && running.reported || !running.stopped && !running.ready,
                _ => running.stopped || &running.image == image,
            })
        };
        seen.current && self.running.iter().zip(&seen.images).all(runs)
    }

    /// Some time passes.
    pub(super) fn older(mut self, setup: &Setup) -> Self {
        let step = if setup.settles() { 1 } else { 2 };
        for running in self.running.iter_mut().flatten() {
            running.age = 2.min(running.age + step);
        }
        if let Some((_, age)) = &mut self.drained {
            *age = 2.min(*age + step);
        }
        self
    }
}

/// A condition, with the time since when it says so.
fn since(object: &Value, kind: &str, word: &str) -> Value {
    let old = condition(object, kind);
    let same = Some(&old["lastTransitionTime"]).filter(|_| old["status"] == word);
    let since = same.filter(|time| time.is_string()).cloned();
    json!({"type": kind, "status": word, "lastTransitionTime": since.unwrap_or_else(|| json!(TIMES[0]))})
}

fn of_container(object: &Value, name: &str) -> Value {
    let lists = ["containerStatuses", "initContainerStatuses"].map(|list| object["status"][list].as_array());
    let mut statuses = lists.into_iter().flatten().flatten();
    let found = statuses.find(|status| status["name"] == name);
    found.cloned().unwrap_or(Value::Null)
}

/// The status is about to speak of another container than before: where the record means the one before, it now means a
/// past one.
pub(crate) fn replaced(object: &mut Value, name: &str) {
    let Some(text) = object["metadata"]["annotations"][names::INPLACE_FROM].as_str() else {
        return;
    };
    let mut from: Value = serde_json::from_str(text).unwrap();
    if from[name]["containerID"] == "c1" {
        from[name]["containerID"] = json!("c0");
        object["metadata"]["annotations"][names::INPLACE_FROM] = json!(from.to_string());
    }
}

impl Objects {
    /// What a step makes of a pod and its node.
    pub(super) fn node_step(&mut self, nodes: &mut Nodes, pod: (u16, u16), step: Step, setup: &Setup) -> (u16, u16) {
        let mut node = nodes.get(pod.1).clone();
        let mut object = self.value(pod.0).clone();
        if !node.step(step, &mut object, setup) {
            return pod;
        }
        let id = if &object == self.value(pod.0) {
            pod.0
        } else {
            self.keep(object, setup)
        };
        (id, nodes.keep(node))
    }
}
