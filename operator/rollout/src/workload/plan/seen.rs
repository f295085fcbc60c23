//! What a plan is made of: one workload as it is wanted, its pods as they are, and the cluster around them.

use std::collections::BTreeMap;
use std::sync::Arc;

use afloat_api::{Condition, Gates, Lifecycle, Matcher, Rollout, RolloutReport, Steps};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::ControllerRevision;

use crate::pod::images::Nodes;
use crate::pod::launch::Opened;
use crate::workload::owner::Owner;
use crate::workload::roster::Roster;
use crate::workload::traffic::Traffic;

/// What is seen of one workload, whatever its kind is.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The object itself.
    pub owner: Owner<'a>,
    /// How it wants to be updated.
    pub rollout: &'a Rollout,
    /// Pods wanted.
    pub replicas: usize,
    /// How long a pod must be Ready to count as available.
    pub min_ready: SignedDuration,
    /// Who holds its pods.
    pub hooks: Option<&'a Lifecycle>,
    /// Which pods it selects.
    pub matcher: &'a Matcher,
    /// Names of pods that somebody asked to delete.
    pub pods_to_delete: &'a [String],
    /// Pods that a preDelete hook holds do not count for scaling up.
    pub excludes_leaving: bool,
    /// How many old revisions and reports are kept.
    pub history_limit: Option<i32>,
    /// The revision that all pods had last, as its status says.
    pub current_revision: &'a str,
    /// The conditions of its status.
    pub conditions: &'a [Condition],
    /// Pods that it controls, and orphans in its namespace.
    pub pods: &'a Roster,
    /// Revisions that it controls.
    pub revisions: &'a [Arc<ControllerRevision>],
    /// The time.
    pub now: Timestamp,
    /// By pod uid, when a write that took the pod out of service was answered, as far as that is known. A write may be
    /// under way for long; a quiet period begins when it has taken effect, not when it was decided.
    pub drained: &'a BTreeMap<String, Timestamp>,
    /// The nodes of pods that are out of service, as far as they are known.
    pub nodes: &'a Nodes,
    /// How far pods with a launch priority were let start.
    pub opened: &'a Opened,
    /// What the nodes' proxies do.
    pub traffic: &'a Traffic,
    /// Whether the cluster has the `resize` subresource of pods (Kubernetes 1.33 and later have).
    pub resizes: bool,
    /// What OpenKruise's feature gates say.
    pub gates: Gates,
    /// Where other claims have pods recreated: the hash of the wanted ones.
    pub claims_hash: Option<&'a str>,
    /// Reports of rollouts; None where the cluster keeps none.
    pub recorded: Option<Recorded<'a>>,
}

/// What is kept of rollouts beside the pods themselves.
#[derive(Clone, Copy, Debug)]
pub struct Recorded<'a> {
    /// The reports of the workload.
    pub reports: &'a [Arc<RolloutReport>],
    /// Revisions of pods that were deleted lately, by UID.
    pub departed: &'a BTreeMap<String, String>,
    /// Writes for the present rollout, as far as this operator made them.
    pub writes: u64,
    /// Times that pods of the present rollout took, as far as this operator saw them.
    pub steps: &'a Steps,
}
