//! Volume claims of a CloneSet's pods (spec/kruise-behaviour.md §16.3). A pod and its claims share an instance id; a
//! claim belongs to the set, not to the pod, so that it can outlive it.

pub(super) mod hash;

use std::collections::BTreeMap;
use std::sync::Arc;

use afloat_api::{CloneSet, names};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::owner::owner;
use crate::action::patch::{ClaimPatch, OwnerEdit};
use crate::action::{Action, At};
use crate::pod::object::Pod;
use crate::workload::roster::Roster;

/// A PersistentVolumeClaim, trimmed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Claim {
    /// Name, labels, owners, versions.
    pub metadata: ObjectMeta,
}

afloat_api::kind!(
    Claim,
    "v1",
    "PersistentVolumeClaim",
    "persistentvolumeclaims",
    NamespaceResourceScope
);

impl Claim {
    fn id(&self) -> Option<&str> {
        let labels = self.metadata.labels.as_ref()?;
        labels.get(names::INSTANCE_ID).map(String::as_str)
    }

    fn alive(&self) -> bool {
        self.metadata.deletion_timestamp.is_none()
    }
}

fn templates(set: &CloneSet) -> impl Iterator<Item = (&str, &Value)> {
    let list = set.spec.volume_claim_templates.iter().flatten();
    list.filter_map(|template| Some((template.pointer("/metadata/name")?.as_str()?, template)))
}

fn claim_name(set: &CloneSet, template: &str, id: &str) -> String {
    format!("{template}-{}-{id}", set.metadata.name.as_deref().unwrap_or_default())
}

/// Claims by instance id.
pub(crate) type ById<'a> = BTreeMap<&'a str, Vec<&'a Claim>>;

/// The set's claims by the id of the pod that they are for.
pub(crate) fn by_id(claims: &[Arc<Claim>]) -> ById<'_> {
    let mut found = ById::new();
    for claim in claims {
        if let Some(id) = claim.id() {
            found.entry(id).or_default().push(claim);
        }
    }
    found
}

/// The claims that a pod with this id needs and that are not there.
pub(crate) fn missing<'a>(set: &'a CloneSet, claims: &'a ById<'_>, id: &'a str) -> impl Iterator<Item = Action> + 'a {
    let present = move |name: &String| {
        let mut of_id = claims.get(id).into_iter().flatten();
        of_id.any(|claim| claim.metadata.name.as_ref() == Some(name))
    };
    templates(set)
        .map(move |(template, value)| (claim_name(set, template, id), value))
        .filter(move |(name, _)| !present(name))
        .map(move |(name, template)| Action::CreateClaim {
            body: body(set, &name, template, id),
        })
}

fn body(set: &CloneSet, name: &str, template: &Value, id: &str) -> Value {
    let map = |path: &str| {
        template
            .pointer(path)
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default()
    };
    let mut labels: Map<String, Value> = map("/metadata/labels");
    for (key, value) in set.spec.selector.match_labels.iter().flatten() {
        labels.insert(key.clone(), json!(value));
    }
    labels.insert(names::INSTANCE_ID.into(), json!(id));
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": name,
            "namespace": set.metadata.namespace,
            "labels": labels,
            "annotations": map("/metadata/annotations"),
            "ownerReferences": [owner(set).reference()],
        },
        "spec": map("/spec"),
    })
}

/// Puts the claims of the templates into a pod's volumes, in place of volumes of the same names; gives whether there are any.
pub(crate) fn mount(set: &CloneSet, spec: &mut Value, id: &str) -> bool {
    let mut volumes = spec
        .get("volumes")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let mut any = false;
    for (template, _) in templates(set) {
        any = true;
        volumes.retain(|volume| volume["name"] != template);
        volumes.push(json!({"name": template, "persistentVolumeClaim": {"claimName": claim_name(set, template, id)}}));
    }
    if any {
        spec["volumes"] = Value::Array(volumes);
    }
    any
}

/// Claims that go together with a pod that the controller deletes, whatever the setting for reuse: as in OpenKruise, only
/// pods that somebody else removed leave theirs behind.
pub(crate) fn of_pod(claims: &ById<'_>, pod: &Pod) -> Vec<At> {
    let of_id = pod.labels.get(names::INSTANCE_ID).and_then(|id| claims.get(id));
    let alive = of_id.into_iter().flatten().filter(|claim| claim.alive());
    alive.map(|claim| At::of(&claim.metadata)).collect()
}

/// Claims that pods left behind which somebody else removed.
#[derive(Debug, Default)]
pub(crate) struct Left<'a> {
    /// Ids whose pods are gone.
    pub(crate) free: Vec<&'a str>,
    /// Pods that are on their way out, or over: a pod's name is made of its id, so that the next one with these claims
    /// can only come when this one is gone.
    pub(crate) held: Vec<&'a Pod>,
}

/// What there is for new pods to take; nothing unless claims are reused.
pub(crate) fn left<'a>(set: &CloneSet, pods: &'a Roster, claims: &ById<'a>) -> Left<'a> {
    let mut left = Left::default();
    if claims.is_empty() || !set.spec.reuses_claims() {
        return left;
    }
    let pods = by_instance(set, pods);
    // A claim that is going cannot be mounted anew, and its name is taken until it is gone.
    let whole = claims
        .iter()
        .filter(|(_, claims)| claims.iter().all(|claim| claim.alive()));
    for (id, _) in whole {
        match pods.get(id) {
            None => left.free.push(id),
            Some(pod) if !pod.active() => left.held.push(pod),
            Some(_) => {}
        }
    }
    left
}

/// Without reuse: claims of pods that are over pass to the pod, so that they go with it; claims without a pod go now.
pub(crate) fn clean_up(set: &CloneSet, pods: &Roster, claims: &[Arc<Claim>]) -> Vec<Action> {
    if claims.is_empty() || set.spec.reuses_claims() {
        return Vec::new();
    }
    let pods = by_instance(set, pods);
    let mut actions = Vec::new();
    for claim in claims.iter().filter(|claim| claim.alive()) {
        let Some(id) = claim.id() else { continue };
        let at = At::of(&claim.metadata);
        match pods.get(id) {
            None => actions.push(Action::DeleteClaim { at }),
            Some(pod) if !pod.active() => {
                let heir = OwnerReference {
                    api_version: "v1".into(),
                    kind: "Pod".into(),
                    name: pod.name().to_owned(),
                    uid: pod.metadata.uid.to_string(),
                    ..OwnerReference::default()
                };
                let ours = set.metadata.uid.clone().unwrap_or_default();
                let patch = ClaimPatch {
                    owners: vec![OwnerEdit::Remove(ours), OwnerEdit::Add(heir)],
                };
                actions.push(Action::PatchClaim { at, patch });
            }
            Some(_) => {}
        }
    }
    actions
}

/// The set's pods by instance id, those that are going included.
fn by_instance<'a>(set: &CloneSet, pods: &'a Roster) -> BTreeMap<&'a str, &'a Pod> {
    let uid = set.metadata.uid.as_deref();
    let ours = pods
        .pods()
        .filter(|pod| pod.controller.as_ref().map(|owner| owner.uid.as_str()) == uid);
    ours.filter_map(|pod| Some((pod.labels.get(names::INSTANCE_ID)?, pod.as_ref())))
        .collect()
}
