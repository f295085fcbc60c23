//! What is remembered of nodes: their signs of life, and since when they have their taints.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::objects::{Node, Taint};

/// The last sign of life of a node, by our own clock: clocks of nodes are not compared with ours.
struct Sign {
    lease: Option<String>,
    heartbeat: Option<Timestamp>,
    at: Instant,
}

/// Of all nodes, by name.
#[derive(Default)]
pub(super) struct Memory {
    signs: HashMap<String, Sign>,
    taints: HashMap<(String, String, String), Timestamp>,
}

impl Memory {
    /// Time since the node's Lease or status last changed.
    pub(super) fn silence(&mut self, node: &str, lease: Option<String>, heartbeat: Option<Timestamp>) -> Duration {
        let now = Instant::now();
        let sign = self.signs.entry(node.to_owned()).or_insert_with(|| Sign {
            lease: None,
            heartbeat: None,
            at: now,
        });
        if sign.lease != lease || sign.heartbeat != heartbeat {
            *sign = Sign {
                lease,
                heartbeat,
                at: now,
            };
        }
        now.duration_since(sign.at)
    }

    /// Remembers when the node's taints were first seen, and forgets those that it has no more.
    pub(super) fn see_taints(&mut self, name: &str, node: &Node, now: Timestamp) {
        let taints = &node.spec.taints;
        for taint in taints {
            self.taints.entry(entry(name, taint)).or_insert(now);
        }
        self.taints.retain(|(of, key, effect), _| {
            of != name || taints.iter().any(|one| one.key == *key && one.effect == *effect)
        });
    }

    /// When the taint was first seen, if it was.
    pub(super) fn tainted_since(&self, node: &str, taint: &Taint) -> Option<Timestamp> {
        self.taints.get(&entry(node, taint)).copied()
    }

    /// The node is gone.
    pub(super) fn forget(&mut self, node: &str) {
        self.signs.remove(node);
        self.taints.retain(|(name, _, _), _| name != node);
    }
}

fn entry(node: &str, taint: &Taint) -> (String, String, String) {
    (node.to_owned(), taint.key.clone(), taint.effect.clone())
}
