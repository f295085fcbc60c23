//! Volume claims of a CloneSet's pods (spec/kruise-behaviour.md §16.3). A pod and its claims share an instance id; a
//! claim belongs to the set, not to the pod, so that it can outlive it.

pub(super) mod hash;

use std::collections::BTreeMap;
use std::sync::Arc;

use afloat_api::{CloneSet, names};
use serde_json::Value;

use crate::action::patch::{ClaimPatch, OwnerEdit};
use crate::action::{Action, At};
use crate::pod::object::Pod;
use crate::workload::claim::{self, Claim};
use crate::workload::kind::Workload;
use crate::workload::roster::Roster;

fn templates(set: &CloneSet) -> impl Iterator<Item = (&str, &Value)> + Clone {
    claim::templates(set.spec.volume_claim_templates.as_ref())
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
        of_id.any(|claim| claim.name() == name)
    };
    templates(set)
        .map(move |(template, value)| (claim::name(set.owner(), template, id), value))
        .filter(move |(name, _)| !present(name))
        .map(move |(name, template)| {
            let selected = set.spec.selector.match_labels.iter().flatten();
            let labels = selected.map(|(key, value)| (key.as_str(), value.as_str()));
            let labels = labels.chain([(names::INSTANCE_ID, id)]);
            let owner = set.owner();
            Action::CreateClaim {
                body: claim::body(owner, &name, template, labels, &[owner.reference()]),
            }
        })
}

/// The fields of a pod's spec that name its claims.
pub(crate) fn fields(set: &CloneSet) -> Vec<&'static str> {
    templates(set).next().map(|_| "volumes").into_iter().collect()
}

/// Puts the claims of the templates into the volumes of the pod with this id.
pub(crate) fn mount(set: &CloneSet, spec: &mut Value, id: &str) {
    let name = |(template, _)| (template, claim::name(set.owner(), template, id));
    claim::mount(spec, templates(set).map(name));
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
                let ours = set.metadata.uid.clone().unwrap_or_default();
                let patch = ClaimPatch::owners(vec![OwnerEdit::Remove(ours), OwnerEdit::Add(claim::heir(pod))]);
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
