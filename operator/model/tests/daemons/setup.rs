//! A world before anything has happened in it, what a state of it is, and what the planner is told of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use afloat_api::{DaemonSet, names};
use k8s_openapi::api::apps::v1::ControllerRevision;
use serde_json::{Value, json};

use afloat_rollout::go::bytes;
use afloat_rollout::pod::images::{Known, Nodes};
use afloat_rollout::workload::kind::Workload as _;
use afloat_rollout::workload::revision::{data, hash, object};

/// Most nodes.
pub(super) const NODES: usize = 4;
/// Most pods at a time.
pub(super) const SLOTS: usize = 9;
/// Revisions that may be wanted.
pub(super) const REVISIONS: u8 = 2;

/// What the user wants, and who may disturb.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) name: &'static str,
    pub(super) nodes: usize,
    pub(super) in_place: bool,
    pub(super) max_unavailable: usize,
    pub(super) max_surge: usize,
    pub(super) partition: usize,
    /// A preDelete hook holds each pod.
    pub(super) hooks: bool,
    /// Pods fail, and containers crash.
    pub(super) failures: bool,
    /// Pods are deleted by others.
    pub(super) deletions: bool,
    /// Pods are asked to go.
    pub(super) specified: bool,
    /// Nodes are tainted, leave and come back.
    pub(super) moving_nodes: bool,
    /// Pods that may be seen late at a time.
    pub(super) lag: usize,
    /// How often the user, or a node, changes.
    pub(super) edits: u8,
    /// Room for pods, those on their way out included: what does not fit is refused.
    pub(super) slots: usize,
}

impl Setup {
    pub(super) fn calm(name: &'static str, nodes: usize) -> Self {
        Self {
            name,
            nodes,
            in_place: false,
            max_unavailable: 1,
            max_surge: 0,
            partition: 0,
            hooks: false,
            failures: false,
            deletions: false,
            specified: false,
            moving_nodes: false,
            lag: 0,
            edits: 2,
            slots: nodes + 2,
        }
    }

    /// The DaemonSet at a revision.
    pub(super) fn set(&self, target: u8) -> DaemonSet {
        let rolling = json!({
            "rollingUpdateType": if self.in_place { "InPlaceIfPossible" } else { "Standard" },
            "maxUnavailable": self.max_unavailable, "maxSurge": self.max_surge, "partition": self.partition,
        });
        let mut labels = json!({"app": "log"});
        let mut spec = json!({
            "selector": {"matchLabels": {"app": "log"}},
            "template": {"spec": {"containers": [{"name": "app", "image": image(target)}]}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling},
        });
        if self.hooks {
            labels["hold"] = json!("true");
            spec["lifecycle"] = json!({"preDelete": {"labelsHandler": {"hold": "true"}}});
        }
        spec["template"]["metadata"] = json!({"labels": labels});
        let metadata = json!({"name": "log", "namespace": "n", "uid": "set", "resourceVersion": "1", "generation": 1});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
    }

    /// The hash of a revision.
    pub(super) fn hash(&self, revision: u8) -> String {
        hash(&bytes(&data(&self.set(revision).spec.template)), 0)
    }

    /// All revisions, the wanted one the newest.
    pub(super) fn revisions(&self, target: u8) -> Vec<Arc<ControllerRevision>> {
        let of = |revision: u8| {
            let set = self.set(revision);
            let number = if revision == target { 9 } else { i64::from(revision) + 1 };
            let mut value = object(set.owner(), &self.hash(revision), number);
            value["metadata"]["uid"] = json!(format!("r{revision}"));
            Arc::new(serde_json::from_value(value).unwrap())
        };
        (0..REVISIONS).map(of).collect()
    }

    /// The nodes that are there.
    pub(super) fn seen_nodes(&self, nodes: &[Ground; NODES]) -> Nodes {
        let there = (0..self.nodes).filter(|place| nodes[*place] != Ground::Gone);
        let known = |place: usize| {
            let name = node_name(place);
            let taints: Value = match nodes[place] {
                Ground::Good | Ground::Gone => json!([]),
                Ground::NoSchedule => json!([{"key": "x", "effect": "NoSchedule"}]),
                Ground::NoExecute => json!([{"key": "x", "effect": "NoExecute"}]),
            };
            let node = serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"taints": taints}})).unwrap();
            (
                name,
                Known {
                    node: Arc::new(node),
                    report: None,
                },
            )
        };
        there.map(known).collect::<BTreeMap<_, _>>()
    }

    /// Whether pods are held by a hook when they are made.
    pub(super) fn label(&self) -> Option<&'static str> {
        self.hooks.then_some("hold")
    }
}

pub(super) fn node_name(place: usize) -> String {
    format!("n{place}")
}

pub(super) fn image(revision: u8) -> String {
    format!("app:{revision}")
}

/// What becomes of pods on a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Ground {
    #[default]
    Good,
    /// Who is there stays, nobody comes.
    NoSchedule,
    /// Nobody stays.
    NoExecute,
    /// There is no such node.
    Gone,
}

/// A place for a pod; its objects are numbers of [`super::object::Objects`], 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Slot {
    pub(super) node: u8,
    /// Who came first on its node.
    pub(super) born: u8,
    pub(super) object: u16,
    /// As the controller sees it.
    pub(super) seen: u16,
}

/// A state of the whole world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct State {
    pub(super) slots: [Slot; SLOTS],
    pub(super) nodes: [Ground; NODES],
    pub(super) nodes_seen: [Ground; NODES],
    /// The wanted revision; the controller sees it at once.
    pub(super) target: u8,
    pub(super) edits: u8,
}

impl State {
    pub(super) fn new(edits: u8) -> Self {
        Self {
            slots: [Slot::default(); SLOTS],
            nodes: [Ground::Good; NODES],
            nodes_seen: [Ground::Good; NODES],
            target: 0,
            edits,
        }
    }

    /// Of a node's pods only who came first matters.
    pub(super) fn canonical(mut self) -> Self {
        for slot in &mut self.slots {
            if slot.object == 0 && slot.seen == 0 {
                *slot = Slot::default();
            }
        }
        self.slots.sort_unstable();
        for node in 0..u8::try_from(NODES).unwrap_or(0) {
            let here = self
                .slots
                .iter_mut()
                .filter(|slot| slot.object | slot.seen != 0 && slot.node == node);
            for (rank, slot) in here.enumerate() {
                slot.born = u8::try_from(rank).unwrap_or(u8::MAX);
            }
        }
        self
    }

    pub(super) fn up_to_date(mut self) -> Self {
        for slot in &mut self.slots {
            slot.seen = slot.object;
        }
        self.nodes_seen = self.nodes;
        self.canonical()
    }

    pub(super) fn pods(&self) -> impl Iterator<Item = usize> + use<> {
        let slots = self.slots;
        (0..SLOTS).filter(move |place| slots[*place].object != 0)
    }

    pub(super) fn lagging(&self) -> usize {
        self.slots.iter().filter(|slot| slot.seen != slot.object).count()
    }
}

/// The label that names a pod's revision.
pub(super) const REVISION: &str = names::REVISION;
