//! What the scheduler knows of the cluster: nodes, and what the pods on them take.

use std::collections::HashMap;

use crate::objects::requests::{milli, whole};
use crate::objects::{Node, Pod, Requests};

use super::node::{NodeState, Share};
use super::volumes::Storage;

struct Placed {
    node: usize,
    share: Share,
    /// Decided by us, not yet seen in the cache.
    assumed: bool,
}

/// Nodes and the pods on them, by uid.
#[derive(Default)]
pub(super) struct Cluster {
    pub(super) nodes: Vec<NodeState>,
    by_name: HashMap<String, usize>,
    placed: HashMap<String, Placed>,
    /// What pods with claims are placed by.
    pub(super) storage: Storage,
}

impl Cluster {
    fn slot(&mut self, name: &str) -> usize {
        if let Some(at) = self.by_name.get(name) {
            return *at;
        }
        let at = self.nodes.len();
        self.nodes.push(NodeState {
            name: name.to_owned(),
            ..NodeState::default()
        });
        self.by_name.insert(name.to_owned(), at);
        at
    }

    /// Takes a node as it is now; none: it is gone (its pods keep counting until they are gone, too).
    pub(super) fn set_node(&mut self, name: &str, node: Option<&Node>) {
        let at = self.slot(name);
        let state = &mut self.nodes[at];
        let Some(node) = node else {
            state.known = false;
            return;
        };
        state.known = node.metadata.deletion_timestamp.is_none();
        state.labels = node.metadata.labels.clone().unwrap_or_default();
        state
            .labels
            .entry("metadata.name".to_owned())
            .or_insert_with(|| name.to_owned());
        state.taints.clone_from(&node.spec.taints);
        state.unschedulable = node.spec.unschedulable;
        let resources = if node.status.allocatable.is_empty() {
            &node.status.capacity
        } else {
            &node.status.allocatable
        };
        state.allocatable = Requests::default();
        state.most_pods = 110;
        for (name, text) in resources {
            match name.as_str() {
                "cpu" => state.allocatable.cpu = milli(text),
                "memory" => state.allocatable.memory = whole(text),
                "pods" => state.most_pods = whole(text),
                _ => {
                    state.allocatable.other.insert(name.clone(), milli(text));
                }
            }
        }
    }

    /// Takes a pod as it is now: bound, finished or not there (none). True if that gave room back.
    pub(super) fn set_pod(&mut self, uid: &str, pod: Option<&Pod>) -> bool {
        let bound = pod
            .filter(|pod| !pod.is_finished())
            .and_then(|pod| pod.node().map(|node| (node, pod)));
        match bound {
            Some((node, pod)) => {
                let at = self.slot(node);
                let share = Share::of(pod);
                if let Some(before) = self.placed.get_mut(uid)
                    && before.node == at
                    && before.share.requests == share.requests
                {
                    before.assumed = false;
                    return false;
                }
                let freed = self.forget(uid);
                self.add(uid, at, share, false);
                freed
            }
            // Not bound in the cache yet, but decided: still counts.
            None if pod.is_some_and(|pod| !pod.is_finished())
                && self.placed.get(uid).is_some_and(|placed| placed.assumed) =>
            {
                false
            }
            None => self.forget(uid),
        }
    }

    fn add(&mut self, uid: &str, node: usize, share: Share, assumed: bool) {
        self.nodes[node].change(&share, 1);
        self.placed.insert(uid.to_owned(), Placed { node, share, assumed });
    }

    /// Counts a pod as placed before the API server knows.
    pub(super) fn assume(&mut self, uid: &str, node: usize, share: Share) {
        self.forget(uid);
        self.add(uid, node, share, true);
    }

    /// Takes an assumption back; a pod seen as bound stays.
    pub(super) fn retract(&mut self, uid: &str) {
        if self.placed.get(uid).is_some_and(|placed| placed.assumed) {
            self.forget(uid);
        }
    }

    fn forget(&mut self, uid: &str) -> bool {
        let Some(placed) = self.placed.remove(uid) else {
            return false;
        };
        self.nodes[placed.node].change(&placed.share, -1);
        true
    }

    /// Whether the pod is placed or about to be.
    pub(super) fn has(&self, uid: &str) -> bool {
        self.placed.contains_key(uid)
    }
}
