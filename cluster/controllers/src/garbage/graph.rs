//! Who owns whom, and what follows from it.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{ObjectMeta, PropagationPolicy};

use crate::loops::discovery::Discovered;
use crate::objects::Key;

/// Deletes the owner only after its blocking dependents.
const FOREGROUND: &str = "foregroundDeletion";
/// Lets the dependents live on without their owner.
const ORPHAN: &str = "orphan";
/// Uids of deleted objects that are remembered; they never come back.
const REMEMBERED: usize = 20_000;

/// An object, as far as ownership goes.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) kind: Arc<Discovered>,
    pub(super) key: Key,
    pub(super) owners: Vec<OwnerReference>,
    pub(super) finalizers: Vec<String>,
    pub(super) deleting: bool,
    pub(super) revision: Option<String>,
}

impl Node {
    pub(super) fn of(kind: &Arc<Discovered>, meta: &ObjectMeta) -> Self {
        Self {
            kind: kind.clone(),
            key: Key::of(meta),
            owners: meta.owner_references.clone().unwrap_or_default(),
            finalizers: meta.finalizers.clone().unwrap_or_default(),
            deleting: meta.deletion_timestamp.is_some(),
            revision: meta.resource_version.clone(),
        }
    }

    fn waits_for_dependents(&self) -> bool {
        self.deleting && self.has(FOREGROUND)
    }

    fn has(&self, finalizer: &str) -> bool {
        self.finalizers.iter().any(|one| one == finalizer)
    }

    /// Its finalizers without one.
    fn without(&self, finalizer: &str) -> Vec<String> {
        self.finalizers
            .iter()
            .filter(|one| *one != finalizer)
            .cloned()
            .collect()
    }
}

/// What to do about one object.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    Nothing,
    /// Ask the API server whether these owners exist: the graph does not know them.
    Verify(Vec<OwnerReference>),
    Delete(PropagationPolicy),
    /// Leave only these owners.
    KeepOwners(Vec<OwnerReference>),
    /// Leave only these finalizers.
    KeepFinalizers(Vec<String>),
    /// Take this owner away from these dependents first, then leave only these finalizers.
    Release {
        dependents: Vec<String>,
        finalizers: Vec<String>,
    },
}

/// All objects that can own or be owned, by uid.
#[derive(Default)]
pub(super) struct Graph {
    nodes: HashMap<String, Node>,
    dependents: HashMap<String, BTreeSet<String>>,
    gone: HashSet<String>,
    gone_order: VecDeque<String>,
}

impl Graph {
    pub(super) fn get(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid)
    }

    /// Uids of the objects of one kind.
    pub(super) fn of_kind(&self, kind: &Discovered) -> Vec<String> {
        self.nodes
            .iter()
            .filter(|(_, node)| *node.kind == *kind)
            .map(|(uid, _)| uid.clone())
            .collect()
    }

    /// Takes an object as it is now. Returns whom to look at because of it.
    pub(super) fn put(&mut self, uid: &str, node: Node) -> Vec<String> {
        let mut concerned = Vec::new();
        let before = self.nodes.get(uid);
        let owners_before: Vec<String> = before
            .map(|node| node.owners.iter().map(|owner| owner.uid.clone()).collect())
            .unwrap_or_default();
        let waited_before = before.is_some_and(Node::waits_for_dependents);
        for owner in &owners_before {
            if !node.owners.iter().any(|kept| kept.uid == *owner) {
                self.unlink(owner, uid);
                concerned.push(owner.clone());
            }
        }
        for owner in &node.owners {
            self.dependents
                .entry(owner.uid.clone())
                .or_default()
                .insert(uid.to_owned());
            // No longer blocking, perhaps.
            if self.nodes.get(&owner.uid).is_some_and(Node::waits_for_dependents) {
                concerned.push(owner.uid.clone());
            }
        }
        if !node.owners.is_empty() || (node.deleting && (node.has(FOREGROUND) || node.has(ORPHAN))) {
            concerned.push(uid.to_owned());
        }
        if node.waits_for_dependents() && !waited_before {
            concerned.extend(self.dependents_of(uid));
        }
        self.nodes.insert(uid.to_owned(), node);
        concerned
    }

    /// An object is gone for good. Returns whom to look at because of it.
    pub(super) fn remove(&mut self, uid: &str) -> Vec<String> {
        let mut concerned = self.forget(uid);
        if self.gone.insert(uid.to_owned()) {
            self.gone_order.push_back(uid.to_owned());
        }
        if self.gone_order.len() > REMEMBERED
            && let Some(oldest) = self.gone_order.pop_front()
        {
            self.gone.remove(&oldest);
        }
        concerned.extend(self.dependents_of(uid));
        concerned
    }

    /// An object can no longer be seen, which says nothing about whether it exists.
    pub(super) fn forget(&mut self, uid: &str) -> Vec<String> {
        let Some(node) = self.nodes.remove(uid) else {
            return Vec::new();
        };
        let owners: Vec<String> = node.owners.into_iter().map(|owner| owner.uid).collect();
        for owner in &owners {
            self.unlink(owner, uid);
        }
        owners
    }

    fn unlink(&mut self, owner: &str, dependent: &str) {
        if let Some(dependents) = self.dependents.get_mut(owner) {
            dependents.remove(dependent);
            if dependents.is_empty() {
                self.dependents.remove(owner);
            }
        }
    }

    fn dependents_of(&self, uid: &str) -> Vec<String> {
        self.dependents.get(uid).into_iter().flatten().cloned().collect()
    }

    /// Decides about one object; `answers` tells which unknown owners exist (from an earlier [`Step::Verify`]).
    pub(super) fn plan(&self, uid: &str, answers: &HashMap<String, bool>) -> Step {
        let Some(node) = self.nodes.get(uid) else {
            return Step::Nothing;
        };
        if node.deleting {
            return self.plan_deleting(uid, node);
        }
        if node.owners.is_empty() {
            return Step::Nothing;
        }
        let (mut solid, mut waiting, mut dangling, mut unknown) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for owner in &node.owners {
            match (self.nodes.get(&owner.uid), answers.get(&owner.uid)) {
                (Some(found), _) if self.misplaced(node, found) => dangling.push(owner),
                (Some(found), _) if found.waits_for_dependents() && owner.block_owner_deletion == Some(true) => {
                    waiting.push(owner);
                }
                (Some(_), _) => solid.push(owner),
                (None, _) if self.gone.contains(&owner.uid) => dangling.push(owner),
                (None, Some(true)) => solid.push(owner),
                (None, Some(false)) => dangling.push(owner),
                (None, None) => unknown.push(owner.clone()),
            }
        }
        if !unknown.is_empty() {
            return Step::Verify(unknown);
        }
        if !solid.is_empty() {
            return if dangling.is_empty() && waiting.is_empty() {
                Step::Nothing
            } else {
                Step::KeepOwners(solid.into_iter().cloned().collect())
            };
        }
        if node.has(ORPHAN) {
            Step::Delete(PropagationPolicy::Orphan)
        } else if node.has(FOREGROUND) || (!waiting.is_empty() && self.dependents.contains_key(uid)) {
            Step::Delete(PropagationPolicy::Foreground)
        } else {
            Step::Delete(PropagationPolicy::Background)
        }
    }

    /// A namespaced owner in another namespace owns nothing.
    fn misplaced(&self, node: &Node, owner: &Node) -> bool {
        !owner.key.namespace.is_empty() && owner.key.namespace != node.key.namespace
    }

    fn plan_deleting(&self, uid: &str, node: &Node) -> Step {
        if node.has(ORPHAN) {
            return Step::Release {
                dependents: self.dependents_of(uid),
                finalizers: node.without(ORPHAN),
            };
        }
        if !node.has(FOREGROUND) {
            return Step::Nothing;
        }
        if self.blocking(uid).next().is_none() {
            return Step::KeepFinalizers(node.without(FOREGROUND));
        }
        if !self.waits_for_itself(uid) {
            return Step::Nothing;
        }
        let unblocked = node.owners.iter().cloned().map(|owner| OwnerReference {
            block_owner_deletion: owner.block_owner_deletion.map(|_| false),
            ..owner
        });
        Step::KeepOwners(unblocked.collect())
    }

    /// Uids of the dependents without whose end this owner does not end.
    fn blocking<'g>(&'g self, uid: &'g str) -> impl Iterator<Item = &'g str> {
        let blocks = move |dependent: &&String| {
            let owners = self.nodes.get(*dependent).map(|node| node.owners.as_slice());
            let mut owners = owners.into_iter().flatten();
            owners.any(|owner| owner.uid == uid && owner.block_owner_deletion == Some(true))
        };
        let dependents = self.dependents.get(uid).into_iter().flatten();
        dependents.filter(blocks).map(String::as_str)
    }

    /// Whether it waits for dependents that wait for theirs, and in the end for itself: a circle, which nobody would ever leave.
    fn waits_for_itself(&self, uid: &str) -> bool {
        let (mut seen, mut open) = (HashSet::new(), vec![uid]);
        while let Some(next) = open.pop() {
            for dependent in self.blocking(next) {
                if dependent == uid {
                    return true;
                }
                let waits = self.nodes.get(dependent).is_some_and(Node::waits_for_dependents);
                if waits && seen.insert(dependent) {
                    open.push(dependent);
                }
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::api::ApiResource;

    fn kind() -> Arc<Discovered> {
        let resource = ApiResource::erase::<k8s_openapi::api::core::v1::ConfigMap>(&());
        Arc::new(Discovered {
            resource,
            namespaced: true,
            watchable: true,
        })
    }

    fn node(owners: &[(&str, bool)], finalizers: &[&str], deleting: bool) -> Node {
        let owner = |(uid, block): &(&str, bool)| OwnerReference {
            uid: (*uid).to_owned(),
            block_owner_deletion: Some(*block),
            ..OwnerReference::default()
        };
        Node {
            kind: kind(),
            key: Key::new("n", "x"),
            owners: owners.iter().map(owner).collect(),
            finalizers: finalizers.iter().map(|one| (*one).to_owned()).collect(),
            deleting,
            revision: None,
        }
    }

    #[test]
    fn background_deletion_follows_the_owner() {
        let mut graph = Graph::default();
        let none = HashMap::new();
        graph.put("set", node(&[], &[], false));
        assert_eq!(graph.put("pod", node(&[("set", true)], &[], false)), ["pod"]);
        assert_eq!(graph.plan("pod", &none), Step::Nothing);
        assert_eq!(graph.remove("set"), ["pod"]);
        assert_eq!(graph.plan("pod", &none), Step::Delete(PropagationPolicy::Background));
    }

    #[test]
    fn an_owner_not_seen_is_asked_for_before_anything_is_deleted() {
        let mut graph = Graph::default();
        graph.put("pod", node(&[("set", true)], &[], false));
        assert!(matches!(graph.plan("pod", &HashMap::new()), Step::Verify(_)));
        assert_eq!(
            graph.plan("pod", &HashMap::from([("set".to_owned(), true)])),
            Step::Nothing
        );
        let absent = HashMap::from([("set".to_owned(), false)]);
        assert_eq!(graph.plan("pod", &absent), Step::Delete(PropagationPolicy::Background));
    }

    #[test]
    fn foreground_deletion_waits_for_blocking_dependents() {
        let mut graph = Graph::default();
        let none = HashMap::new();
        graph.put("deployment", node(&[], &[], false));
        graph.put("set", node(&[("deployment", true)], &[], false));
        graph.put("pod", node(&[("set", true)], &[], false));
        let concerned = graph.put("deployment", node(&[], &[FOREGROUND, "x"], true));
        assert_eq!(concerned, ["deployment", "set"]);
        assert_eq!(graph.plan("deployment", &none), Step::Nothing);
        assert_eq!(graph.plan("set", &none), Step::Delete(PropagationPolicy::Foreground));
        graph.put("set", node(&[("deployment", true)], &[FOREGROUND], true));
        assert_eq!(graph.plan("pod", &none), Step::Delete(PropagationPolicy::Background));
        assert_eq!(graph.remove("pod"), ["set"]);
        assert_eq!(graph.plan("set", &none), Step::KeepFinalizers(vec![]));
        assert_eq!(graph.remove("set"), ["deployment"]);
        assert_eq!(graph.plan("deployment", &none), Step::KeepFinalizers(vec!["x".into()]));
    }

    #[test]
    fn a_circle_of_owners_that_wait_for_each_other_is_opened() {
        let mut graph = Graph::default();
        let none = HashMap::new();
        // Each is owned by the one before, the first by the last.
        for (uid, owner) in [("a", "c"), ("b", "a"), ("c", "b")] {
            graph.put(uid, node(&[(owner, true)], &[], false));
        }
        graph.put("a", node(&[("c", true)], &[FOREGROUND], true));
        assert_eq!(graph.plan("b", &none), Step::Delete(PropagationPolicy::Foreground));
        graph.put("b", node(&[("a", true)], &[FOREGROUND], true));
        assert_eq!(graph.plan("b", &none), Step::Nothing, "the last is not deleted yet");
        assert!(
            graph
                .put("c", node(&[("b", true)], &[FOREGROUND], true))
                .contains(&"c".to_owned())
        );
        let Step::KeepOwners(owners) = graph.plan("c", &none) else {
            panic!("it no longer blocks its owner")
        };
        assert_eq!(owners[0].block_owner_deletion, Some(false));
        graph.put("c", node(&[("b", false)], &[FOREGROUND], true));
        assert_eq!(graph.plan("b", &none), Step::KeepFinalizers(vec![]));
        assert_eq!(graph.remove("b"), ["a", "c"]);
        assert_eq!(graph.plan("a", &none), Step::KeepFinalizers(vec![]));
        assert_eq!(graph.remove("a"), ["c"]);
        assert_eq!(graph.plan("c", &none), Step::KeepFinalizers(vec![]));
    }

    #[test]
    fn orphaned_dependents_are_released_first() {
        let mut graph = Graph::default();
        graph.put("set", node(&[], &[ORPHAN], true));
        graph.put("pod", node(&[("set", true)], &[], false));
        let step = graph.plan("set", &HashMap::new());
        assert_eq!(
            step,
            Step::Release {
                dependents: vec!["pod".into()],
                finalizers: vec![]
            }
        );
    }

    #[test]
    fn one_live_owner_is_enough() {
        let mut graph = Graph::default();
        graph.put("a", node(&[], &[], false));
        graph.put("pod", node(&[("a", true), ("b", true)], &[], false));
        graph.remove("b");
        let Step::KeepOwners(kept) = graph.plan("pod", &HashMap::new()) else {
            panic!("keeps one")
        };
        assert_eq!(kept.len(), 1);
        assert_eq!(kept[0].uid, "a");
    }
}
