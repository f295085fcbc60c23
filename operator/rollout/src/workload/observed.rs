//! What is seen of one workload beside the object itself, and what is to be done about it.

use std::collections::BTreeMap;
use std::sync::Arc;

use afloat_api::{Figures, Gates, Operation, RolloutReport, Steps};
use afloat_disruption::guards::Guard;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ControllerRevision;

use super::claim::{Claim, StorageClass};
use super::memo::Memo;
use super::roster::Roster;
use super::traffic::Traffic;
use crate::action::Action;
use crate::pod::images::Nodes;
use crate::pod::launch::Opened;
use crate::pod::server::Server;

/// What is seen of one workload, whatever its kind is.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// Pods that it controls, and orphans in its namespace: [`Workload::roster`](super::kind::Workload::roster), told of
    /// what has changed since.
    pub pods: &'a Roster,
    /// Revisions that it controls.
    pub revisions: &'a [Arc<ControllerRevision>],
    /// Its volume claims.
    pub claims: &'a [Arc<Claim>],
    /// Classes of volumes, for claims that are to grow.
    pub classes: &'a [Arc<StorageClass>],
    /// The time.
    pub now: Timestamp,
    /// Any number; names of new pods are made from it.
    pub seed: u64,
    /// By pod uid, when a write that took the pod out of service was answered, as far as that is known. A write may be
    /// under way for long; a quiet period begins when it has taken effect, not when it was decided.
    pub drained: &'a BTreeMap<String, Timestamp>,
    /// The nodes that [`Workload::sights`](super::kind::Workload::sights) asks for, as far as they are known.
    pub nodes: &'a Nodes,
    /// How far pods with a launch priority were let start.
    pub opened: &'a Opened,
    /// What the nodes' proxies do.
    pub traffic: &'a Traffic,
    /// Budgets that select its pods, beside its own.
    pub guards: &'a [Guard],
    /// What cannot be told of its ConfigMaps and Secrets, in sentences.
    pub lacks: &'a [String],
    /// What the server lets change on live pods.
    pub server: Server,
    /// What OpenKruise's feature gates say.
    pub gates: Gates,
    /// What the plan before left for this one; an empty one will do.
    pub memo: &'a Memo,
    /// Reports of rollouts; None where the cluster keeps none.
    pub recorded: Option<Recorded<'a>>,
}

/// What to do. `S` is the status of the workload's kind.
#[derive(Clone, Debug, Default)]
pub struct Plan<S> {
    /// Writes, independent of each other; any of them may fail or be left out.
    pub actions: Vec<Action>,
    /// The status to report.
    pub status: S,
    /// Available pods that the actions take out of service, and how, where other budgets than the workload's own have a say.
    pub spends: Vec<(String, Operation)>,
    /// The pods in numbers, as that status tells of them.
    pub figures: Figures,
    /// When to plan again even if nothing happens.
    pub wake_at: Option<Timestamp>,
    /// Things worth an event: type Warning, reason, message.
    pub warnings: Vec<(&'static str, String)>,
    /// The same, of type Normal.
    pub news: Vec<(&'static str, String)>,
    /// Where the pods stand.
    pub phases: Phases,
    /// What need not be found out again.
    pub memo: Memo,
    /// What proxies do next changes what is to be done: look again when a report comes.
    pub observes: bool,
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

/// How many pods stand where in a rollout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    /// At another revision than the wanted one, and in service as far as this update is concerned.
    pub outdated: usize,
    /// At another revision, out of service so that they can be changed.
    pub draining: usize,
    /// Changed, until the node runs the change and they return to service.
    pub updating: usize,
    /// At the wanted revision and not available: new ones, and those that are back and not Ready yet.
    pub starting: usize,
    /// At the wanted revision and available.
    pub available: usize,
}
