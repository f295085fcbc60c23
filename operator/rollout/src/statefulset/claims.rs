//! The volume claims of a StatefulSet: one for each template and ordinal, found by their names, whoever they belong to. They outlive pods and,
//! unless `persistentVolumeClaimRetentionPolicy` says otherwise, the set.

use std::collections::BTreeMap;

use afloat_api::{StatefulSet, VolumeClaimStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::Value;

use super::ordinals::{Ordinal, pod_name};
use crate::action::patch::{ClaimPatch, OwnerEdit};
use crate::action::{Action, At};
use crate::pod::object::Pod;
use crate::workload::claim::{self, Claim};
use crate::workload::kind::Workload;
use crate::workload::observed::Observed;
use crate::workload::owner::Owner;

/// See the module.
pub(super) struct Claims<'a> {
    set: &'a StatefulSet,
    templates: Vec<(&'a str, &'a Value)>,
    by_name: BTreeMap<&'a str, &'a Claim>,
    /// Whether claims go with the set, and whether they go with pods that are not wanted any more; None: that is not kept.
    policy: Option<(bool, bool)>,
}

impl<'a> Claims<'a> {
    pub(super) fn of(set: &'a StatefulSet, around: &'a Observed<'a>) -> Self {
        Self {
            set,
            templates: claim::templates(set.spec.volume_claim_templates.as_ref()).collect(),
            by_name: around
                .claims
                .iter()
                .map(|claim| (claim.name(), claim.as_ref()))
                .collect(),
            policy: around.gates.claims_by_policy.then(|| set.spec.deletes_claims()),
        }
    }

    /// Whether pods have none.
    pub(super) fn none(&self) -> bool {
        self.templates.is_empty()
    }

    fn owner(&self) -> Owner<'a> {
        self.set.owner()
    }

    fn name(&self, template: &str, ordinal: Ordinal) -> String {
        claim::name(self.owner(), template, &ordinal.to_string())
    }

    /// The claims of an ordinal that there are, with their templates.
    pub(super) fn at(&self, ordinal: Ordinal) -> impl Iterator<Item = (&'a Value, &'a Claim)> + '_ {
        let found = move |(name, template): &(&str, &'a Value)| {
            let claim = self.by_name.get(self.name(name, ordinal).as_str())?;
            Some((*template, *claim))
        };
        self.templates.iter().filter_map(found)
    }

    /// Creates those that there are not.
    pub(super) fn missing(&self, ordinal: Ordinal) -> impl Iterator<Item = Action> + '_ {
        let new = move |(template, value): &(&str, &Value)| {
            let name = self.name(template, ordinal);
            let selected = self.set.spec.selector.match_labels.iter().flatten();
            let labels = selected.map(|(key, value)| (key.as_str(), value.as_str()));
            let owners: Vec<_> = self
                .policy
                .is_some_and(|(deleted, _)| deleted)
                .then(|| self.reference())
                .into_iter()
                .collect();
            (!self.by_name.contains_key(name.as_str())).then(|| Action::CreateClaim {
                body: claim::body(self.owner(), &name, value, labels, &owners),
            })
        };
        self.templates.iter().filter_map(new)
    }

    /// Puts the claims of an ordinal into the volumes of a pod.
    pub(super) fn mount(&self, spec: &mut Value, ordinal: Ordinal) {
        let names = self
            .templates
            .iter()
            .map(|(template, _)| (*template, self.name(template, ordinal)));
        claim::mount(spec, names);
    }

    /// What of the claims of an ordinal has to be gone before a pod is created: one that is being deleted cannot be mounted anew, and one that
    /// is to go with an earlier pod would be taken from under the new one.
    pub(super) fn obstacle(&self, ordinal: Ordinal) -> Option<String> {
        let pod = pod_name(self.owner().name(), ordinal);
        let stale = |claim: &Claim| {
            let owners = claim.metadata.owner_references.iter().flatten();
            let scaled = self.policy.is_some_and(|(_, scaled)| scaled);
            scaled && owners.into_iter().any(|owner| owner.kind == "Pod" && owner.name == pod)
        };
        let mut claims = self.at(ordinal).map(|(_, claim)| claim);
        let claim = claims.find(|claim| !claim.alive() || stale(claim))?;
        Some(format!("claim {} is to be deleted", claim.name()))
    }

    /// The reference by which a claim goes with the set. It is not controlled by it: other sets may have it after.
    fn reference(&self) -> OwnerReference {
        let owner = self.owner();
        OwnerReference {
            api_version: owner.api_version.into(),
            kind: owner.kind.into(),
            name: owner.name().to_owned(),
            uid: owner.uid().unwrap_or_default().to_owned(),
            ..OwnerReference::default()
        }
    }

    /// Makes the owners of an ordinal's claims what the policy wants them to be (Kubernetes' KEP-1847): the set, where claims go with it; the
    /// pod, where it is not wanted any more and they go with it; else nobody of the two.
    pub(super) fn owner_edits(
        &self,
        ordinal: Ordinal,
        pod: &'a Pod,
        wanted: bool,
    ) -> impl Iterator<Item = Action> + '_ {
        let edits = move |claim: &Claim| {
            let (deleted, scaled) = self.policy?;
            let goes_with_pod = scaled && !wanted;
            let set = self.reference();
            let pod = claim::heir(pod);
            let owners = claim.metadata.owner_references.as_deref().unwrap_or_default();
            let edit = |owner: OwnerReference, is_to_be: bool| {
                let is = owners.iter().any(|present| present.uid == owner.uid);
                match (is, is_to_be) {
                    (false, true) => Some(OwnerEdit::Add(owner)),
                    (true, false) => Some(OwnerEdit::Remove(owner.uid)),
                    _ => None,
                }
            };
            let edits: Vec<_> = [edit(set, deleted && !goes_with_pod), edit(pod, goes_with_pod)]
                .into_iter()
                .flatten()
                .collect();
            (!edits.is_empty()).then(|| Action::PatchClaim {
                at: At::of(&claim.metadata),
                patch: ClaimPatch::owners(edits),
            })
        };
        let alive = self.at(ordinal).map(|(_, claim)| claim).filter(|claim| claim.alive());
        alive.filter_map(edits)
    }

    /// How far the claims of these ordinals have grown.
    pub(super) fn told(&self, ordinals: impl Iterator<Item = Ordinal> + Clone) -> Vec<VolumeClaimStatus> {
        let told = |(name, template): &(&str, &Value)| {
            let mut status = VolumeClaimStatus {
                volume_claim_name: (*name).to_owned(),
                ..VolumeClaimStatus::default()
            };
            for ordinal in ordinals.clone() {
                let claim = self.by_name.get(self.name(name, ordinal).as_str());
                let Some(claim) = claim.filter(|claim| claim.alive() && claim.holds(template)) else {
                    continue;
                };
                status.compatible_replicas += 1;
                status.compatible_ready_replicas += i32::from(claim.has_grown());
            }
            status
        };
        self.templates.iter().map(told).collect()
    }
}
