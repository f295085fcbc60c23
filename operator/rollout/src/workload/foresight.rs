//! What can be said of a change of a workload before anybody makes it, and what can be done for it.

use afloat_api::{Gates, InPlaceUpdateStrategy, Rollout};
use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::budget::Limits;
use super::kind::Workload;
use super::order::update_sequence;
use crate::pod::object::Pod;

/// A kind whose changes can be foretold.
pub trait Foreseen: Workload {
    /// How it wants to be updated.
    fn rollout(&self) -> Rollout;

    /// How many of its pods may go, with so many there: some kinds have as many as there are nodes.
    fn limits(&self, pods: usize) -> Limits;

    /// How long a pod must be Ready to count as available.
    fn min_ready(&self) -> SignedDuration;

    /// What pulling the images of its rollouts beforehand goes by.
    fn warming(&self) -> Warming<'_>;

    /// The order in which the pods that wait come to their turn. `all` are the pods of the workload, those among them.
    fn order<'p>(&self, waiting: Vec<&'p Pod>, all: &[&Pod]) -> Vec<&'p Pod> {
        update_sequence(waiting, all, &self.rollout())
    }
}

/// Pods of which OpenKruise pulls nothing beforehand, as it is not worth it: CloneSets' and StatefulSets'.
pub(crate) const FEW: usize = 3;

/// What pulling images before they are needed goes by, where kinds differ (`*_predownload_image.go` of OpenKruise 1.9.1).
#[derive(Clone, Copy, Debug)]
pub struct Warming<'a> {
    /// The pods on whose nodes they are pulled.
    pub selector: &'a LabelSelector,
    /// The revision that all pods had last; None: no status tells, and each older one may be some pod's.
    pub current: Option<&'a str>,
    /// As far as the status tells, no pod is left to be updated.
    pub done: bool,
    /// Whether OpenKruise's gates ask for it.
    pub gate: fn(&Gates) -> bool,
    /// Pods that are too few for OpenKruise.
    pub few: usize,
    /// A new pod comes to the node of the one whose place it takes, so that it is served as one that changes in place.
    pub keeps_nodes: bool,
    /// Settings that are fields; for those who have none they are annotations.
    pub settings: Option<&'a InPlaceUpdateStrategy>,
}
