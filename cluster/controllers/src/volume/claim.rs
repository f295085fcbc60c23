//! What to do about one claim. Pure.
//!
//! Binding goes in steps, each decided anew from what is there: the volume names the claim, the claim names the volume, the
//! status says so. In between anybody may die (the order and the annotations are those of Kubernetes' own controller).

use std::sync::Arc;

use serde_json::{Value, json};

use crate::loops::events::Tone;
use crate::objects::storage::{
    BIND_COMPLETED, BOUND_BY_CONTROLLER, CLAIM_PROTECTION, PROVISIONED_BY, PROVISIONER, SELECTED_NODE,
    STORAGE_PROVISIONER,
};
use crate::objects::{Claim, Key, Node, StorageClass, Volume};

use super::matching::{candidates, mismatch};

/// One thing to do.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// Merge patch of the claim.
    Patch(Value),
    /// Merge patch of its status.
    PatchStatus(Value),
    /// Merge patch of a volume.
    PatchVolume(Arc<Volume>, Value),
    /// A new volume for it; its contents are on this node.
    CreateVolume(String, Value),
    /// Tell users.
    Tell(Tone, &'static str, String),
}

/// The directory of a volume's contents, of a node and a volume.
pub(crate) type PathOf = dyn Fn(&str, &str) -> String;

/// What a decision is made from.
pub(crate) struct Seen<'a> {
    pub(crate) claim: &'a Claim,
    pub(crate) volumes: &'a [Arc<Volume>],
    pub(crate) classes: &'a [Arc<StorageClass>],
    pub(crate) nodes: &'a [Arc<Node>],
    /// Pods on nodes have the claim among their volumes.
    pub(crate) used: bool,
    /// Where the contents of a new volume would be: node, volume. None: this cluster makes none.
    pub(crate) path: Option<&'a PathOf>,
}

/// Decides. At most one write, as each changes what the next is decided on.
pub(crate) fn plan(seen: &Seen<'_>) -> Vec<Action> {
    let claim = seen.claim;
    if claim.is_leaving() {
        return if seen.used { vec![] } else { unprotect(claim) };
    }
    if claim.annotation(BIND_COMPLETED).is_some() {
        bound(seen)
    } else if claim.spec.volume_name.is_empty() {
        unbound(seen)
    } else {
        asks_for_one(seen)
    }
}

fn unprotect(claim: &Claim) -> Vec<Action> {
    let all = claim.metadata.finalizers.as_deref().unwrap_or_default();
    let left: Vec<&String> = all.iter().filter(|name| *name != CLAIM_PROTECTION).collect();
    if left.len() == all.len() {
        return vec![];
    }
    vec![Action::Patch(json!({"metadata": {"finalizers": left}}))]
}

fn find<'a>(seen: &'a Seen<'_>, name: &str) -> Option<&'a Arc<Volume>> {
    seen.volumes.iter().find(|volume| volume.name() == name)
}

/// Bound before: is it still?
fn bound(seen: &Seen<'_>) -> Vec<Action> {
    let claim = seen.claim;
    if claim.spec.volume_name.is_empty() {
        let message = "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!";
        return lost(claim, "ClaimLost", message);
    }
    match find(seen, &claim.spec.volume_name) {
        None => {
            let message = "Bound claim has lost its PersistentVolume. Data on the volume is lost!";
            lost(claim, "ClaimLost", message)
        }
        Some(volume) if volume.spec.claim_ref.is_none() || volume.is_for(claim) => bind(claim, volume),
        Some(_) => {
            let message = "Two claims are bound to the same volume, this one is bound incorrectly";
            lost(claim, "ClaimMisbound", message)
        }
    }
}

fn lost(claim: &Claim, reason: &'static str, message: &str) -> Vec<Action> {
    if claim.status.phase == "Lost" {
        return vec![];
    }
    vec![
        Action::Tell(Tone::Warning, reason, message.to_owned()),
        Action::PatchStatus(json!({"status": {"phase": "Lost", "accessModes": null, "capacity": null}})),
    ]
}

/// Its user has chosen a volume.
fn asks_for_one(seen: &Seen<'_>) -> Vec<Action> {
    let claim = seen.claim;
    let Some(volume) = find(seen, &claim.spec.volume_name) else {
        return vec![];
    };
    if volume.is_for(claim) {
        return bind(claim, volume);
    }
    if volume.spec.claim_ref.is_some() {
        let message = format!("volume \"{}\" already bound to a different claim.", volume.name());
        return vec![Action::Tell(Tone::Warning, "FailedBinding", message)];
    }
    match mismatch(claim, volume) {
        None => bind(claim, volume),
        Some(why) => {
            let message = format!("Cannot bind to requested volume \"{}\": {why}", volume.name());
            vec![Action::Tell(Tone::Warning, "VolumeMismatch", message)]
        }
    }
}

fn unbound(seen: &Seen<'_>) -> Vec<Action> {
    let claim = seen.claim;
    if claim.spec.storage_class_name.is_none()
        && let Some(class) = default_class(seen.classes)
    {
        // The class came later than the claim (KEP-3333).
        return vec![Action::Patch(json!({"spec": {"storageClassName": class}}))];
    }
    let class = seen
        .classes
        .iter()
        .find(|class| class.metadata.name.as_deref() == Some(claim.class()));
    let selected = claim.annotation(SELECTED_NODE);
    let waits = class.is_some_and(|class| class.waits_for_consumer()) && selected.is_none();
    let found = candidates(claim, seen.volumes);
    let reserved = found.iter().find(|volume| volume.is_for(claim));
    if let Some(volume) = reserved.or_else(|| found.first().filter(|_| !waits && selected.is_none())) {
        return bind(claim, volume);
    }
    let tell = |tone, reason, message: &str| vec![Action::Tell(tone, reason, message.to_owned())];
    if waits {
        let message = "waiting for first consumer to be created before binding";
        return tell(Tone::Normal, "WaitForFirstConsumer", message);
    }
    match class {
        None if claim.class().is_empty() => {
            let message = "no persistent volumes available for this claim and no storage class is set";
            tell(Tone::Normal, "FailedBinding", message)
        }
        None => {
            let message = format!("storageclass.storage.k8s.io \"{}\" not found", claim.class());
            tell(Tone::Warning, "ProvisioningFailed", &message)
        }
        Some(class) if !class.provisions() => {
            let message = format!("no volume plugin matched name: {}", class.provisioner);
            tell(Tone::Warning, "ProvisioningFailed", &message)
        }
        Some(class) => provision(seen, class),
    }
}

/// The newest of the default classes.
pub(crate) fn default_class(classes: &[Arc<StorageClass>]) -> Option<&str> {
    let key = |class: &&Arc<StorageClass>| class.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let newest = classes.iter().filter(|class| class.is_default()).max_by_key(key);
    newest.and_then(|class| class.metadata.name.as_deref())
}

fn provision(seen: &Seen<'_>, class: &StorageClass) -> Vec<Action> {
    let claim = seen.claim;
    let provisioner = class.provisioner.as_str();
    if claim.annotation(STORAGE_PROVISIONER) != Some(provisioner) {
        let message = format!(
            "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the \
             system administrator. If volume creation is delayed, please verify that the provisioner is running and \
             correctly registered."
        );
        return vec![
            Action::Tell(Tone::Normal, "ExternalProvisioning", message),
            annotate(STORAGE_PROVISIONER, json!(provisioner)),
        ];
    }
    let (true, Some(path)) = (provisioner == PROVISIONER, seen.path) else {
        return vec![];
    };
    let fail = |why: &str| {
        let message = format!(
            "failed to provision volume with StorageClass \"{}\": {why}",
            claim.class()
        );
        vec![Action::Tell(Tone::Warning, "ProvisioningFailed", message)]
    };
    if claim.spec.selector.is_some() {
        return fail("claim Selector is not supported");
    }
    if claim.spec.volume_mode.as_deref() == Some("Block") {
        return fail("volumeMode Block is not supported by this provisioner");
    }
    let exists = |name: &str| {
        seen.nodes
            .iter()
            .any(|node| node.metadata.name.as_deref() == Some(name))
    };
    match claim.annotation(SELECTED_NODE) {
        Some(node) if exists(node) => {
            let name = format!("pvc-{}", claim.uid());
            let body = new_volume(claim, class, &name, node, &path(node, &name));
            vec![Action::CreateVolume(name, body)]
        }
        Some(node) => {
            let mut actions = fail(&format!("node \"{node}\" not found"));
            actions.push(annotate(SELECTED_NODE, Value::Null));
            actions
        }
        None => match roomiest(seen) {
            Some(node) => vec![annotate(SELECTED_NODE, json!(node))],
            None => fail("no node is ready"),
        },
    }
}

fn annotate(name: &str, value: Value) -> Action {
    Action::Patch(json!({"metadata": {"annotations": {name: value}}}))
}

/// For a claim that is bound before there is a pod: the ready node with the fewest volumes.
fn roomiest<'a>(seen: &Seen<'a>) -> Option<&'a str> {
    let ready = |node: &&Arc<Node>| {
        let conditions = &node.status.conditions;
        !node.spec.unschedulable && conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True")
    };
    let names = seen
        .nodes
        .iter()
        .filter(ready)
        .filter_map(|node| node.metadata.name.as_deref());
    names.min_by_key(|name| {
        let there = seen
            .volumes
            .iter()
            .filter(|volume| volume.node() == Some(*name))
            .count();
        (there, *name)
    })
}

fn new_volume(claim: &Claim, class: &StorageClass, name: &str, node: &str, path: &str) -> Value {
    let affinity = json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [
        {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}]}});
    json!({
        "metadata": {"name": name, "annotations": {PROVISIONED_BY: PROVISIONER}},
        "spec": {
            "accessModes": claim.spec.access_modes,
            "capacity": {"storage": claim.spec.resources.requests.get("storage")},
            "claimRef": reference(claim),
            "local": {"path": path},
            "nodeAffinity": affinity,
            "persistentVolumeReclaimPolicy": class.reclaim_policy,
            "storageClassName": claim.class(),
            "volumeMode": "Filesystem",
        },
    })
}

/// A volume's reference to the claim.
pub(crate) fn reference(claim: &Claim) -> Value {
    let key = Key::of(&claim.metadata);
    json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": &*key.namespace, "name": &*key.name,
        "uid": claim.uid(), "resourceVersion": claim.metadata.resource_version})
}

/// The next step on the way to a claim and a volume that know each other.
fn bind(claim: &Claim, volume: &Arc<Volume>) -> Vec<Action> {
    let known = volume.spec.claim_ref.as_ref();
    if known.is_none_or(|reference| reference.uid != claim.uid()) {
        let mut patch = json!({"spec": {"claimRef": reference(claim)}});
        if known.is_none() {
            patch["metadata"] = json!({"annotations": {BOUND_BY_CONTROLLER: "yes"}});
        }
        return vec![Action::PatchVolume(volume.clone(), patch)];
    }
    if claim.spec.volume_name != volume.name() || claim.annotation(BIND_COMPLETED).is_none() {
        let mut annotations = json!({BIND_COMPLETED: "yes"});
        if claim.spec.volume_name.is_empty() {
            annotations[BOUND_BY_CONTROLLER] = json!("yes");
        }
        let patch = json!({"metadata": {"annotations": annotations}, "spec": {"volumeName": volume.name()}});
        return vec![Action::Patch(patch)];
    }
    let status = &claim.status;
    if status.phase != "Bound"
        || status.access_modes != volume.spec.access_modes
        || status.capacity != volume.spec.capacity
    {
        let status =
            json!({"phase": "Bound", "accessModes": volume.spec.access_modes, "capacity": volume.spec.capacity});
        return vec![Action::PatchStatus(json!({"status": status}))];
    }
    vec![]
}

#[cfg(test)]
mod tests;
