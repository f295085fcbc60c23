//! What a plan is made of: one workload as it is wanted, its pods as they are, and the cluster around them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;

use afloat_api::{Condition, Lifecycle, Rollout};
use jiff::SignedDuration;

use crate::workload::budget::Limits;
use crate::workload::observed::Observed;
use crate::workload::owner::Owner;

/// One workload as it is wanted, whatever its kind is, and what is seen beside it, at which it can be looked as if it stood here.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// What every kind sees.
    pub around: &'a Observed<'a>,
    /// The object itself.
    pub owner: Owner<'a>,
    /// How it wants to be updated; its numbers stand in `limits`.
    pub rollout: &'a Rollout,
    /// How many pods are wanted, and how many may go.
    pub limits: Limits,
    /// Which pod comes to its turn when.
    pub turns: Turns<'a>,
    /// No pod is touched before the one whose turn is before it, where that one waits for something of its own.
    pub in_order: bool,
    /// A new pod comes to the node of the one whose place it takes.
    pub keeps_nodes: bool,
    /// Names of its pods that are to go whatever becomes of the rollout: they count for no budget and are not updated.
    pub excess: &'a BTreeSet<String>,
    /// How long a pod must be Ready to count as available.
    pub min_ready: SignedDuration,
    /// Who holds its pods.
    pub hooks: Option<&'a Lifecycle>,
    /// Whether the update of a pod that has no state of life gives it one.
    pub brings_to_life: bool,
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
    /// Where other claims have pods recreated: the hash of the wanted ones.
    pub claims_hash: Option<&'a str>,
}

impl<'a> Deref for Seen<'a> {
    type Target = Observed<'a>;
    fn deref(&self) -> &Observed<'a> {
        self.around
    }
}

/// Which outdated pods come to their turn, and when.
#[derive(Clone, Copy, Debug)]
pub enum Turns<'a> {
    /// One is as good as another: as many as the partition leaves, the worst first, or by the workload's own rules.
    Any,
    /// Those that have a place here, by their names, the lowest place first; no others.
    Given(&'a BTreeMap<String, usize>),
}
