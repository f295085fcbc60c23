//! Where a pod may go for its volumes' sake, and what has to be done for them before it goes there. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::NodeSelector;
use kube::api::ObjectMeta;
use serde_json::{Value, json};

use crate::objects::storage::SELECTED_NODE;
use crate::objects::{Claim, Key, Pod, StorageClass, Volume};
use crate::volume::claim::reference;
use crate::volume::matching::candidates;

use super::affinity::term_matches;
use super::node::NodeState;
use super::refusal::{ClaimRefusal, Misfit};

/// Claims, volumes and classes as they are now.
#[derive(Default)]
pub(super) struct Storage {
    claims: BTreeMap<Key, Arc<Claim>>,
    volumes: Vec<Arc<Volume>>,
    classes: Vec<Arc<StorageClass>>,
}

/// A write that has to be done before the pod is bound.
#[derive(Clone, Debug)]
pub(crate) enum VolumeStep {
    /// A new volume for the claim shall be made on this node.
    SelectNode {
        claim: Key,
        patch: Value,
        meta: Box<ObjectMeta>,
    },
    /// The volume is for this claim.
    Reserve {
        volume: String,
        patch: Value,
        meta: Box<ObjectMeta>,
    },
}

/// What a pod's volumes ask of its node.
#[derive(Default)]
pub(super) struct Needs {
    affinities: Vec<NodeSelector>,
    unbound: Vec<Unbound>,
}

/// A claim that is bound when its first pod is placed.
struct Unbound {
    claim: Arc<Claim>,
    /// Volumes that would do, the best first.
    volumes: Vec<Arc<Volume>>,
    /// A new one can be made.
    provisions: bool,
}

impl Storage {
    pub(super) fn new(claims: &[Arc<Claim>], volumes: Vec<Arc<Volume>>, classes: Vec<Arc<StorageClass>>) -> Self {
        Self {
            claims: claims
                .iter()
                .map(|claim| (Key::of(&claim.metadata), claim.clone()))
                .collect(),
            volumes,
            classes,
        }
    }

    /// What the pod's claims ask of its node.
    ///
    /// # Errors
    /// Why no node will do.
    pub(super) fn needs(&self, pod: &Pod) -> Result<Needs, ClaimRefusal> {
        let mut needs = Needs::default();
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        for wanted in &pod.spec.claims {
            let name = wanted.name.clone();
            let Some(claim) = self.claims.get(&Key::new(namespace, name.as_str())) else {
                return Err(if wanted.ephemeral {
                    ClaimRefusal::NotMade(name)
                } else {
                    ClaimRefusal::NotFound(name)
                });
            };
            if claim.is_leaving() {
                return Err(ClaimRefusal::IsLeaving(name));
            }
            if claim.is_bound() {
                let volume = self.volume_of(claim).ok_or_else(|| ClaimRefusal::VolumeNotFound {
                    claim: name,
                    volume: claim.spec.volume_name.clone(),
                })?;
                needs.affinities.extend(volume.spec.node_affinity.required.clone());
                continue;
            }
            let class = self
                .classes
                .iter()
                .find(|class| class.metadata.name.as_deref() == Some(claim.class()));
            match class.filter(|class| class.waits_for_consumer() && claim.spec.volume_name.is_empty()) {
                Some(class) => needs.unbound.push(Unbound {
                    claim: claim.clone(),
                    volumes: candidates(claim, &self.volumes),
                    provisions: class.provisions(),
                }),
                None => return Err(ClaimRefusal::Unbound),
            }
        }
        Ok(needs)
    }

    /// The volume that the claim is bound to, if it is still there.
    fn volume_of(&self, claim: &Claim) -> Option<&Arc<Volume>> {
        let bound = &claim.spec.volume_name;
        let volume = self.volumes.iter().find(|volume| volume.name() == bound);
        volume.filter(|_| claim.status.phase != "Lost")
    }
}

fn admits(selector: Option<&NodeSelector>, node: &NodeState) -> bool {
    selector.is_none_or(|selector| selector.node_selector_terms.iter().any(|term| term_matches(node, term)))
}

impl Needs {
    /// Why the node cannot take the pod, if so.
    pub(super) fn misfit(&self, node: &NodeState) -> Option<Misfit> {
        if !self.affinities.iter().all(|selector| admits(Some(selector), node)) {
            return Some(Misfit::VolumeAffinity);
        }
        (!self.unbound.iter().all(|unbound| unbound.fits(node))).then_some(Misfit::NoVolume)
    }

    /// What has to be done for the pod to go to this node, and the claims that have to be bound then.
    pub(super) fn steps(&self, node: &NodeState) -> (Vec<VolumeStep>, Vec<Key>) {
        let mut taken: Vec<&str> = Vec::new();
        let mut steps = Vec::new();
        for unbound in &self.unbound {
            let claim = Key::of(&unbound.claim.metadata);
            let free = |volume: &&Arc<Volume>| !taken.contains(&volume.name());
            match unbound.volumes_on(node).find(free) {
                Some(volume) if volume.is_for(&unbound.claim) => {}
                Some(volume) => {
                    taken.push(volume.name());
                    steps.push(VolumeStep::Reserve {
                        volume: volume.name().to_owned(),
                        patch: json!({"spec": {"claimRef": reference(&unbound.claim)},
                            "metadata": {"annotations": {crate::objects::storage::BOUND_BY_CONTROLLER: "yes"}}}),
                        meta: Box::new(volume.metadata.clone()),
                    });
                }
                None if unbound.claim.annotation(SELECTED_NODE) == Some(&node.name) => {}
                None => steps.push(VolumeStep::SelectNode {
                    claim,
                    patch: json!({"metadata": {"annotations": {SELECTED_NODE: node.name}}}),
                    meta: Box::new(unbound.claim.metadata.clone()),
                }),
            }
        }
        let claims = self.unbound.iter().map(|unbound| Key::of(&unbound.claim.metadata));
        (steps, claims.collect())
    }
}

impl Unbound {
    fn volumes_on<'a>(&'a self, node: &'a NodeState) -> impl Iterator<Item = &'a Arc<Volume>> {
        let there = |volume: &&Arc<Volume>| admits(volume.spec.node_affinity.required.as_ref(), node);
        self.volumes.iter().filter(there)
    }

    fn fits(&self, node: &NodeState) -> bool {
        // Where a volume is being made for it already, there it stays.
        if let Some(selected) = self.claim.annotation(SELECTED_NODE) {
            return selected == node.name;
        }
        let reserved = self.volumes.first().is_some_and(|volume| volume.is_for(&self.claim));
        self.volumes_on(node).next().is_some() || (self.provisions && !reserved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::Kind;

    fn storage(claims: &[Value], volumes: &[Value]) -> Storage {
        let class = json!({"metadata": {"name": "late"}, "provisioner": "afloat.dev/local",
            "volumeBindingMode": "WaitForFirstConsumer"});
        let none = json!({"metadata": {"name": "static"}, "provisioner": "kubernetes.io/no-provisioner",
            "volumeBindingMode": "WaitForFirstConsumer"});
        fn read<T: serde::de::DeserializeOwned>(list: &[Value]) -> Vec<Arc<T>> {
            list.iter()
                .map(|value| Arc::new(serde_json::from_value(value.clone()).unwrap()))
                .collect()
        }
        Storage::new(&read(claims), read(volumes), read(&[class, none]))
    }

    fn claim(name: &str, class: &str, more: Value) -> Value {
        let mut object = json!({"metadata": {"namespace": "d", "name": name, "uid": name}, "spec": {"storageClassName": class,
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
        for (key, value) in more.as_object().unwrap() {
            object[key] = value.clone();
        }
        object
    }

    fn volume(name: &str, class: &str, node: &str) -> Value {
        json!({"metadata": {"name": name}, "status": {"phase": "Available"}, "spec": {"storageClassName": class,
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}]}}}})
    }

    fn node(name: &str) -> NodeState {
        NodeState {
            name: name.to_owned(),
            labels: [("kubernetes.io/hostname".to_owned(), name.to_owned())].into(),
            ..NodeState::default()
        }
    }

    fn pod(claims: &[&str]) -> Pod {
        let volumes: Vec<Value> = claims
            .iter()
            .map(|name| json!({"name": name, "persistentVolumeClaim": {"claimName": name}}))
            .collect();
        let mut pod: Pod =
            serde_json::from_value(json!({"metadata": {"namespace": "d", "name": "p"}, "spec": {"volumes": volumes}}))
                .unwrap();
        pod.trim();
        pod
    }

    #[test]
    fn a_pod_waits_for_claims_that_are_not_there_or_not_bound() {
        let told = |storage: &Storage| storage.needs(&pod(&["c"])).map(drop).unwrap_err();
        let refusal = told(&storage(&[], &[]));
        assert_eq!(refusal, ClaimRefusal::NotFound("c".to_owned()));
        assert_eq!(refusal.to_string(), "persistentvolumeclaim \"c\" not found");
        let unbound = storage(&[claim("c", "other", json!({}))], &[]);
        assert_eq!(told(&unbound), ClaimRefusal::Unbound);
    }

    #[test]
    fn a_bound_volume_says_where() {
        let mut bound = claim("c", "late", json!({}));
        bound["metadata"]["annotations"] = json!({"pv.kubernetes.io/bind-completed": "yes"});
        bound["spec"]["volumeName"] = json!("v");
        let needs = storage(&[bound], &[volume("v", "late", "a")])
            .needs(&pod(&["c"]))
            .unwrap();
        assert_eq!(needs.misfit(&node("a")), None);
        assert_eq!(needs.misfit(&node("b")), Some(Misfit::VolumeAffinity));
        assert!(needs.steps(&node("a")).0.is_empty());
    }

    #[test]
    fn volumes_that_are_there_come_before_new_ones_and_each_is_taken_once() {
        let claims = [claim("c", "late", json!({})), claim("e", "late", json!({}))];
        let needs = storage(&claims, &[volume("v", "late", "a")])
            .needs(&pod(&["c", "e"]))
            .unwrap();
        assert_eq!(needs.misfit(&node("b")), None);
        let (steps, claims) = needs.steps(&node("a"));
        assert!(matches!(&steps[0], VolumeStep::Reserve { volume, .. } if volume == "v"));
        assert!(matches!(&steps[1], VolumeStep::SelectNode { claim, .. } if &*claim.name == "e"));
        assert_eq!(claims.len(), 2);
        assert!(
            needs
                .steps(&node("b"))
                .0
                .iter()
                .all(|step| matches!(step, VolumeStep::SelectNode { .. }))
        );

        let only = storage(&[claim("c", "static", json!({}))], &[volume("v", "static", "a")]);
        let needs = only.needs(&pod(&["c"])).unwrap();
        assert_eq!(needs.misfit(&node("a")), None);
        assert_eq!(needs.misfit(&node("b")), Some(Misfit::NoVolume));
    }

    #[test]
    fn where_a_volume_is_being_made_it_stays() {
        let mut begun = claim("c", "late", json!({}));
        begun["metadata"]["annotations"] = json!({SELECTED_NODE: "a"});
        let needs = storage(&[begun], &[]).needs(&pod(&["c"])).unwrap();
        assert!(needs.misfit(&node("b")).is_some());
        let (steps, claims) = needs.steps(&node("a"));
        assert!(steps.is_empty() && claims.len() == 1);
    }
}
