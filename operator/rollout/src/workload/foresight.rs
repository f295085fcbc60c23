//! What can be said of a change of a workload before anybody makes it.

use afloat_api::Rollout;
use jiff::SignedDuration;

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

    /// The order in which the pods that wait come to their turn. `all` are the pods of the workload, those among them.
    fn order<'p>(&self, waiting: Vec<&'p Pod>, all: &[&Pod]) -> Vec<&'p Pod> {
        update_sequence(waiting, all, &self.rollout())
    }
}
